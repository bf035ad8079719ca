"""Masks in COCO's two notations: polygons, and run lengths as a list or packed into text."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from t2s_core.training.datasets.file_examples import Answer
from t2s_core.training.examples import BadExample

_MAX_DIGITS = 7
"""A packed number has five bits a digit: seven hold any count of pixels of an image that Pillow opens."""
_MIN_CORNERS = 3


@dataclass(frozen=True, slots=True)
class CocoMask:
    """A `segmentation` of an `instances.json`, decoded when it is asked for."""

    segmentation: object
    """As parsed: a run-length object, or a list of polygons and run-length objects."""
    size_px: tuple[int, int] | None = None
    """(height, width) that the index gives for the image."""

    @property
    def stamp(self) -> str:
        """Empty: the index file has it."""
        return ""

    def read(self, height_px: int, width_px: int) -> Answer:
        """The union of the parts. Raises `BadExample` where a part is malformed or for another size."""
        if self.size_px is not None and self.size_px != (height_px, width_px):
            height, width = self.size_px
            raise BadExample(f"the index says {width} x {height} px, the image is {width_px} x {height_px} px")
        return decode(self.segmentation, height_px, width_px), None


def decode(segmentation: object, height_px: int, width_px: int) -> NDArray[np.bool_]:
    """(height, width): the union of a segmentation's parts. Raises `BadExample`."""
    parts = segmentation if isinstance(segmentation, list) else [segmentation]
    if not parts:
        raise BadExample("the segmentation is empty")
    mask = np.zeros((height_px, width_px), np.bool_)
    for part in parts:
        mask |= _runs(part, mask.shape) if isinstance(part, dict) else _polygon(part, mask.shape)
    return mask


def _runs(part: dict[object, object], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Counts of background and target in turn, down each column and then to the right."""
    size, counts = part.get("size"), part.get("counts")
    if size != list(shape):
        raise BadExample(f"a run-length mask has size {size!r}, the image [height, width] {list(shape)}")
    lengths = unpack(counts) if isinstance(counts, str | bytes) else counts
    # `bool` is an `int` to Python, and no count.
    if not isinstance(lengths, list) or not all(type(one) is int and one >= 0 for one in lengths):
        raise BadExample("a run-length mask's counts are no list of whole numbers of at least 0")
    if sum(lengths) != math.prod(shape):
        raise BadExample(f"a run-length mask has {sum(lengths)} px, the image {math.prod(shape)}")
    values = np.arange(len(lengths)) % 2 == 1
    return np.repeat(values, lengths).reshape(shape[::-1]).T


def unpack(packed: str | bytes) -> list[int]:
    """Run lengths from packed text: base 32, low digit first; the fourth and later ones as differences to two before.

    Raises `BadExample` where it is cut short or has other characters.
    """
    raw = packed.encode("utf-8", "replace") if isinstance(packed, str) else packed
    counts: list[int] = []
    value = digits = 0
    for byte in raw:
        code = byte - 48
        if not 0 <= code < 64 or digits == _MAX_DIGITS:  # noqa: PLR2004 -- six bits
            raise BadExample("a packed run-length mask is damaged")
        value |= (code & 0x1F) << (5 * digits)
        digits += 1
        if code & 0x20:
            continue
        if code & 0x10:
            value -= 1 << (5 * digits)
        counts.append(value + counts[-2] if len(counts) > 2 else value)  # noqa: PLR2004 -- the fourth on
        value = digits = 0
    if digits:
        raise BadExample("a packed run-length mask ends within a number")
    return counts


def _polygon(part: object, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Pixels whose centres are inside, by the even-odd rule; coordinates are of pixel corners."""
    if not isinstance(part, list) or not all(_is_finite(one) for one in part):
        raise BadExample("a segmentation's part is neither a run-length object nor a list of finite numbers")
    if len(part) % 2 or len(part) < 2 * _MIN_CORNERS:
        raise BadExample(f"a polygon has {len(part)} numbers; it needs an x and a y for each of 3 corners or more")
    corners = np.asarray(part, np.float64).reshape(-1, 2)
    return _fill(corners, np.roll(corners, -1, axis=0), shape)


def _fill(starts: NDArray[np.float64], ends: NDArray[np.float64], shape: Sequence[int]) -> NDArray[np.bool_]:
    height, width = shape
    toggles = np.zeros((height, width + 1), np.int64)
    for (x0, y0), (x1, y1) in zip(starts, ends, strict=True):
        if y0 == y1:
            continue
        low, high = min(y0, y1), max(y0, y1)
        # Half-open, so that a corner at a row's centre belongs to one of its two edges.
        rows = np.arange(*(int(np.clip(np.ceil(y - 0.5), 0, height)) for y in (low, high)))
        crossings = x0 + (rows + 0.5 - y0) * ((x1 - x0) / (y1 - y0))
        np.add.at(toggles, (rows, np.clip(np.ceil(crossings - 0.5), 0, width).astype(np.int64)), 1)
    inside: NDArray[np.bool_] = np.cumsum(toggles, axis=1)[:, :width] % 2 == 1
    return inside


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9  # noqa: PLR2004 -- px
