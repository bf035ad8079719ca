"""From a scene's own values to 8 bits: one stretch per scene, never one per tile, so that seams do not show."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.pixels import UnreadablePixels, open_scene, palette, read_bands, valid_pixels
from pipeline.scenes import Scene
from pipeline.tiling import Window

logger = logging.getLogger(__name__)

PERCENTILES = (2.0, 98.0)
_SAMPLE_PX = 4_000_000
_SPREAD = 8
"""Spread blocks per axis: 64 in all."""
_BLOCK_PX = 256
_TABLE_BYTES = 2
"""Integers of so many bytes have few enough values to look each up, which takes a tenth of the time."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """How a scene's values become 0 to 255."""

    kind: Literal["identity", "linear"]
    """`identity`: values are 8 bits already (palettes too), or no pixel of the scene is valid and nothing is shown."""
    low: tuple[float, float, float]
    """Per band (red, green, blue), in scene values: what becomes 0."""
    high: tuple[float, float, float]
    """Per band: what becomes 255."""

    def to_json(self) -> dict[str, Any]:
        """The manifest's entry; `from_json` gives an equal stretch back."""
        return {"kind": self.kind, "low": list(self.low), "high": list(self.high)}

    @classmethod
    def from_json(cls, entry: dict[str, Any]) -> "Stretch":
        """A stretch from the manifest's entry."""
        (r0, g0, b0), (r1, g1, b1) = entry["low"], entry["high"]
        return cls(entry["kind"], (r0, g0, b0), (r1, g1, b1))


IDENTITY = Stretch("identity", (0.0, 0.0, 0.0), (255.0, 255.0, 255.0))


def apply(stretch: Stretch, bands: NDArray[Any]) -> NDArray[np.uint8]:
    """Stretch (3, height, width) values to an image of 8 bits, (height, width, 3).

    Linear between `low` and `high`, rounded, clipped; `low` above `high` inverts. Where a band's `low` equals its
    `high` (a constant image) that value becomes mid-grey, less becomes 0 and more 255. NaN becomes 0.
    """
    image = np.empty((*bands.shape[1:], 3), np.uint8)
    # band by band: NumPy takes four times as long to turn the axes of the whole at once
    for i, (band, low, high) in enumerate(zip(bands, stretch.low, stretch.high, strict=True)):
        if stretch.kind == "identity":
            image[..., i] = band if band.dtype == np.uint8 else np.nan_to_num(band).clip(0, 255)
        elif band.dtype.kind in "iu" and band.dtype.itemsize <= _TABLE_BYTES:
            values = pa.array(band.view(f"u{band.dtype.itemsize}").ravel())
            # every value has its entry; NumPy's `take`, which turns all of them into 64 bits first, is a third as fast
            found = pc.take(_table(low, high, band.dtype.name), values, boundscheck=False)
            image[..., i] = found.to_numpy().reshape(band.shape)
        else:
            image[..., i] = _stretched(band, low, high)
    return image


@lru_cache(maxsize=8)
def _table(low: float, high: float, dtype: str) -> pa.UInt8Array:
    """What each value of a small integer type becomes, by its bits read as an unsigned number."""
    n_bytes = np.dtype(dtype).itemsize
    return pa.array(_stretched(np.arange(2 ** (8 * n_bytes), dtype=f"u{n_bytes}").view(dtype), low, high))


def _stretched(values: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    share = values.astype(np.float64)
    share -= low
    if low == high:
        share = (np.sign(share) + 1) / 2
    else:
        with np.errstate(over="ignore"):  # a tiny span: infinite shares are clipped like any other
            share /= high - low
    np.nan_to_num(share, copy=False)
    share.clip(0, 1, out=share)
    share *= 255
    stretched: NDArray[np.uint8] = np.rint(share, out=share).astype(np.uint8)
    return stretched


def scene_stretch(scene: Scene) -> Stretch:
    """The scene's one stretch: none for 8 bits, else from the 2nd to the 98th percentile of each band's valid pixels.

    Fewer than 8 bits fill the range, and where a file says that its least value is white, it becomes so.
    Looks at the largest overview below 4 Mpx, at the whole of a scene that small, else at 64 blocks spread over it, and
    only if none of these has valid pixels at one block after the other. Deterministic.
    Raises `UnreadablePixels` if the scene cannot be opened or none of what is looked at can be read.
    """
    with open_scene(scene) as dataset:
        if palette(dataset, scene) is not None:
            return IDENTITY
        source = getattr(dataset, "src_dataset", dataset)  # a warp does not pass on how its source is stored
        inverted = source.tags(ns="IMAGE_STRUCTURE").get("MINISWHITE") == "YES"
        if scene.dtype == "uint8":
            n_bits = int(source.tags(scene.bands[0], ns="IMAGE_STRUCTURE").get("NBITS", 8))
            return _of_bits(n_bits, inverted=inverted)
        values = _sample(dataset, scene)
    if values.shape[1] == 0:
        return IDENTITY
    (r0, g0, b0), (r1, g1, b1) = np.percentile(values, PERCENTILES, axis=1).tolist()
    low, high = (r0, g0, b0), (r1, g1, b1)
    return Stretch("linear", high, low) if inverted else Stretch("linear", low, high)


def _of_bits(n_bits: int, *, inverted: bool) -> Stretch:
    """Of values from 0 to what `n_bits`, at most 8, can hold."""
    zero, full = 0.0, 2.0**n_bits - 1
    if inverted:
        return Stretch("linear", (full, full, full), (zero, zero, zero))
    return IDENTITY if n_bits == 8 else Stretch("linear", (zero, zero, zero), (full, full, full))  # noqa: PLR2004


def _sample(dataset: Any, scene: Scene) -> NDArray[np.float64]:  # noqa: ANN401 -- rasterio ships no types
    """(3, n) valid values."""
    height, width = scene.shape
    whole = Window(0, 0, width, height)
    factors = [1, *sorted(dataset.overviews(scene.bands[0]))]
    fitting = [f for f in factors if -(-height // f) * -(-width // f) <= _SAMPLE_PX]
    if fitting:
        shape = (-(-height // fitting[0]), -(-width // fitting[0]))
        return _valid_values(dataset, scene, whole, shape)
    spread = list(_readable(dataset, scene, _spread_windows(dataset, scene)))
    if not spread:
        raise UnreadablePixels(f"none of {_SPREAD**2} sampled blocks can be read; {scene.href}")
    with_data = [v for v in spread if v.shape[1]]
    if not with_data:  # data so sparse that the spread missed it: only a full search may say that there is none
        found = (v for v in _readable(dataset, scene, _all_windows(scene)) if v.shape[1])
        with_data = list(islice(found, _SPREAD**2))
    return np.concatenate([np.empty((3, 0)), *with_data], axis=1)


def _readable(dataset: Any, scene: Scene, windows: Iterator[Window]) -> Iterator[NDArray[np.float64]]:  # noqa: ANN401
    for window in windows:
        try:
            yield _valid_values(dataset, scene, window, (window.height, window.width))
        except UnreadablePixels as error:
            # one bad block fails its own tiles later; the scene's other tiles need not suffer for it
            logger.warning("left out of the statistics: %s", error)


def _valid_values(dataset: Any, scene: Scene, window: Window, shape: tuple[int, int]) -> NDArray[np.float64]:  # noqa: ANN401
    bands = read_bands(dataset, scene, window, shape)
    values: NDArray[np.float64] = bands[:, valid_pixels(dataset, scene, window, bands)].astype(np.float64)
    return values


def _spread_windows(dataset: Any, scene: Scene) -> Iterator[Window]:  # noqa: ANN401
    """8 x 8 windows from corner to corner, snapped to the file's blocks so that each costs little more than itself."""
    height, width = scene.shape
    block_height, block_width = dataset.block_shapes[scene.bands[0] - 1]
    for y0 in _starts(height, block_height):
        for x0 in _starts(width, block_width):
            yield Window(x0, y0, min(x0 + _BLOCK_PX, width), min(y0 + _BLOCK_PX, height))


def _starts(size: int, block: int) -> list[int]:
    last = max(0, size - _BLOCK_PX)
    return sorted({last * i // (_SPREAD - 1) // block * block if block < size else last * i // (_SPREAD - 1)
                   for i in range(_SPREAD)})  # fmt: skip


def _all_windows(scene: Scene) -> Iterator[Window]:
    height, width = scene.shape
    side = 8 * _BLOCK_PX
    for y0 in range(0, height, side):
        for x0 in range(0, width, side):
            yield Window(x0, y0, min(x0 + side, width), min(y0 + side, height))
