"""Regions: the image of a layout, and the exact truth of what is visible in it."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import shapely
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter
from shapely.geometry import Polygon

from t2s_core.errors import BadInput
from t2s_core.world.classes import Kind
from t2s_core.world.layout import BoxPx, Thing, plan_layout
from t2s_core.world.textures import GRAIN, RAISED_PX, paint

MIN_PX, MAX_PX = 64, 16_384
_SHADE = [value * 5 // 9 for value in range(256)]


@dataclass(frozen=True, slots=True)
class Region:
    """A drawn region. The truth is what is visible: what a later object hides belongs to that object alone."""

    seed: int
    image: NDArray[np.uint8]
    """(height, width, 3), RGB."""
    instances: NDArray[np.int32]
    """(height, width): 0 is open ground, k is the object `things[k - 1]`."""
    things: tuple[Thing, ...]

    @property
    def kinds(self) -> NDArray[np.uint8]:
        """(height, width) of `Kind` values."""
        return self.kind_of()[self.instances]

    def kind_of(self) -> NDArray[np.uint8]:
        """(1 + number of things,): the `Kind` of each value of `instances`."""
        return np.asarray([Kind.GROUND, *(thing.kind for thing in self.things)], np.uint8)

    def mask(self, kinds: Collection[Kind]) -> NDArray[np.bool_]:
        """(height, width). True where something of one of these classes is visible."""
        wanted = np.isin(self.kind_of(), [int(kind) for kind in kinds])
        return wanted[self.instances]

    def polygons(self, kinds: Collection[Kind]) -> list[Polygon]:
        """The visible parts in pixel coordinates (x right, y down), along pixel edges; all of `mask(kinds)`."""
        found: list[Polygon] = []
        height, width = self.instances.shape
        for number, thing in enumerate(self.things, start=1):
            if thing.kind in kinds:
                x0, y0, x1, y1 = _clip(thing.box, height, width)
                if x0 < x1 and y0 < y1:
                    found += outline(self.instances[y0:y1, x0:x1] == number, (x0, y0))
        return found


def draw_region(seed: int, height_px: int, width_px: int) -> Region:
    """The region of this seed and size: always the same bytes.

    Raises `BadInput` where a side is not within 64 to 16,384 px.
    """
    if not (MIN_PX <= height_px <= MAX_PX and MIN_PX <= width_px <= MAX_PX):
        raise BadInput(
            f"a region of {width_px} x {height_px} px cannot be drawn; each side must be {MIN_PX} to {MAX_PX} px"
        )
    rng = np.random.default_rng([seed, 23])
    things = plan_layout(seed, height_px, width_px)
    canvas = Image.fromarray(_ground(rng, height_px, width_px))
    numbers = Image.new("I", (width_px, height_px), 0)
    for number, thing in enumerate(things, start=1):
        _stamp(canvas, numbers, thing, number)
    instances = np.array(numbers, np.int32)
    kinds = np.asarray([Kind.GROUND, *(thing.kind for thing in things)], np.uint8)[instances]
    return Region(seed, _finish(rng, canvas, kinds), instances, tuple(things))


def outline(visible: NDArray[np.bool_], origin: tuple[int, int]) -> list[Polygon]:
    """Polygons along the pixel edges of a mask (height, width) whose upper left pixel is at `origin` (x, y)."""
    height, width = visible.shape
    padded = np.zeros((height, width + 2), np.int8)
    padded[:, 1:-1] = visible
    step = np.diff(padded, axis=1)
    rows, starts = np.nonzero(step == 1)
    _, ends = np.nonzero(step == -1)
    if len(rows) == 0:
        return []
    x, y = origin
    bars = shapely.box(starts + x, rows + y, ends + x, rows + y + 1)
    merged = shapely.union_all(bars)
    return [part for part in shapely.get_parts(merged) if isinstance(part, Polygon)]


def _clip(box: BoxPx, height_px: int, width_px: int) -> BoxPx:
    x0, y0, x1, y1 = box
    return max(0, x0), max(0, y0), min(width_px, x1), min(height_px, y1)


def _stamp(canvas: Image.Image, numbers: Image.Image, thing: Thing, number: int) -> None:
    """Paint one object and write its number over whatever was there."""
    x0, y0, x1, y1 = box = _clip(thing.box, canvas.height, canvas.width)
    if x0 >= x1 or y0 >= y1:
        return
    stencil = _stencil(thing, box)
    drop = RAISED_PX.get(thing.kind)
    if drop is not None:
        # Shadow darkens the ground; it changes nobody's truth.
        dark = stencil.point(_SHADE)
        canvas.paste((34, 38, 40), (x0 + drop, y0 + drop), dark)
    colours = np.minimum(np.maximum(paint(thing, box), 0), 255).astype(np.uint8)
    canvas.paste(Image.fromarray(colours), (x0, y0), stencil)
    if thing.kind is Kind.ROAD:
        _dashes(canvas, thing)
    numbers.paste(number, (x0, y0), stencil)


def _stencil(thing: Thing, box: BoxPx) -> Image.Image:
    stencil = Image.new("L", (box[2] - box[0], box[3] - box[1]), 0)
    pen = ImageDraw.Draw(stencil)
    for part in thing.parts:
        points = [(x - box[0], y - box[1]) for x, y in part.points]
        if part.radius_px:
            (x, y), r = points[0], part.radius_px
            pen.ellipse((x - r, y - r, x + r, y + r), fill=255)
        else:
            pen.polygon(points, fill=255)
    return stencil


def _dashes(canvas: Image.Image, thing: Thing) -> None:
    pen = ImageDraw.Draw(canvas)
    knots: Sequence[tuple[int, int]] = [part.points[0] for part in thing.parts if part.radius_px]
    for (x0, y0), (x1, y1) in pairwise(knots):
        for a in (0, 2, 4):
            start = (x0 + (x1 - x0) * a // 6, y0 + (y1 - y0) * a // 6)
            end = (x0 + (x1 - x0) * (a + 1) // 6, y0 + (y1 - y0) * (a + 1) // 6)
            pen.line((*start, *end), fill=(224, 222, 206), width=2)


def _ground(rng: np.random.Generator, height_px: int, width_px: int) -> NDArray[np.uint8]:
    """Open ground: grass and bare soil that shade into each other over about a hundred pixels."""
    shape = (height_px // 64 + 2, width_px // 64 + 2)
    coarse = Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8))
    # Enlarged by a fixed factor and cut, so the scale of the ground does not depend on the region's size.
    blend = np.asarray(coarse.resize((shape[1] * 64, shape[0] * 64), Image.Resampling.BILINEAR))[:height_px, :width_px]
    table = np.empty((256, 3), np.uint8)
    grass, soil = (138, 152, 100), (172, 160, 126)
    for channel in range(3):
        table[:, channel] = [grass[channel] + (soil[channel] - grass[channel]) * i // 255 for i in range(256)]
    ground: NDArray[np.uint8] = table[blend]
    return ground


_STRIP_ROWS = 96
"""Rows finished at a time, so that the working arrays stay in the processor's cache. A multiple of the grain."""
_GRAIN_PX = 3


def _finish(rng: np.random.Generator, canvas: Image.Image, kinds: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Grain by class, the soft edges of a lens, light and haze of the day, sensor noise."""
    height, width = kinds.shape
    amplitude = np.asarray([GRAIN.get(kind, 5) for kind in Kind], np.int16)
    # Grain of 3 px: leaves and clods, not the sensor's.
    clumps = rng.integers(-64, 65, (height // _GRAIN_PX + 1, width // _GRAIN_PX + 1), dtype=np.int8)
    pixels = np.array(canvas)
    for top in range(0, height, _STRIP_ROWS):
        rows = slice(top, min(height, top + _STRIP_ROWS))
        some = clumps[top // _GRAIN_PX : (rows.stop - 1) // _GRAIN_PX + 1].astype(np.int16)
        grain = np.repeat(np.repeat(some, _GRAIN_PX, axis=0), _GRAIN_PX, axis=1)[: rows.stop - top, :width]
        grain *= amplitude[kinds[rows]]
        grain >>= 5
        strip = pixels[rows].astype(np.int16)
        strip += grain[:, :, None]
        pixels[rows] = np.minimum(np.maximum(strip, 0, out=strip), 255, out=strip)
    soft = Image.fromarray(pixels).filter(ImageFilter.BoxBlur(0.7))
    gain, haze = rng.integers(880, 1110, 3), int(rng.integers(0, 22))
    # The curve ends at 251 and starts at 4, so that the sensor's noise cannot wrap around.
    tables = [[min(251, 4 + haze + value * (256 - haze) * int(g) // 262_144) for value in range(256)] for g in gain]
    lit = np.array(soft.point([entry for table in tables for entry in table]))
    noise = rng.integers(0, 9, (height, width, 1), dtype=np.uint8)
    lit += noise
    lit -= np.uint8(4)
    return lit
