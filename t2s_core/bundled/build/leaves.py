"""Dead leaves: overlapping random things on random ground, to teach a segmenter edges and wholes instead of classes.

A thing is a shape (rectangle, building plan, blob, ellipse, band, coast) with a fill (`fills`), and may carry details
that belong to it, a rim and a shadow that does not. Then the picture gets what happens between ground and file
(`weather`). Nothing here looks like the drawn world or like any scene: what stays true of all is that an object is a
whole, whatever is on it, and ends at an edge, however faint.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from t2s_core.bundled.build.fills import Pixels, fill, near_colour, some_colour
from t2s_core.bundled.build.weather import weather

Corners = NDArray[np.float64]
"""(n, 2): x and y of a polygon in pixels."""


@dataclass(frozen=True, slots=True)
class _Leaf:
    corners: Corners
    window: tuple[int, int, int, int]
    """XYXY of what of it can be in the picture."""
    round: bool
    """Whether it may be a dome: a crown, a tank, a heap."""


def draw_leaves(rng: np.random.Generator, side_px: int = 256) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """An image (side, side, 3) and the map (side, side) of which thing is visible where; 0 is the background."""
    ground = some_colour(rng)
    canvas = fill(rng, ground, side_px, side_px)
    numbers = np.zeros((side_px, side_px), np.int32)
    canopy = rng.random() < 0.12
    if canopy:  # crowns over crowns of nearly one colour: the faintest edges there are
        count = int(rng.integers(25, 70))
        sizes = rng.uniform(14, 70, count)
    else:
        count = int(rng.integers(5, 18))
        # Larger ones mostly lie under smaller ones, or little would be seen of the small.
        sizes = np.sort(np.exp(rng.uniform(np.log(9), np.log(230), count)) * rng.uniform(0.6, 1.6, count))[::-1]
    sun = rng.uniform(0, 2 * np.pi)
    for number, size in enumerate(sizes, start=1):
        leaf = _leaf(rng, float(size), side_px, 2 if canopy else None)
        if leaf is not None:
            _lay(rng, canvas, numbers, leaf, number, ground, sun, near=0.95 if canopy else 0.33)
    image = weather(rng, canvas)
    if rng.random() < 0.1:  # the edge of a swath: black is no thing
        nothing = _stencil(_coast(rng, side_px), (0, 0, side_px, side_px))
        image[nothing], numbers[nothing] = 0, 0
    return image, numbers


def _lay(
    rng: np.random.Generator,
    canvas: Pixels,
    numbers: NDArray[np.int32],
    leaf: _Leaf,
    number: int,
    ground: Pixels,
    sun: float,
    near: float,
) -> None:
    """Lay a thing on the canvas; `near` is the chance that it differs little from the ground."""
    x0, y0, x1, y1 = leaf.window
    inside = _stencil(leaf.corners, leaf.window)
    if rng.random() < 0.4:
        reach = rng.uniform(1.5, 8)
        drop = np.asarray((np.cos(sun), np.sin(sun))) * reach
        shade = _stencil(leaf.corners + drop, (0, 0, canvas.shape[1], canvas.shape[0]))
        canvas[shade] *= np.float32(rng.uniform(0.35, 0.8))
    # Where a thing differs little from the ground it lies on, texture and outline must tell them apart.
    colour = near_colour(rng, ground) if rng.random() < near else some_colour(rng)
    patch = fill(rng, colour, y1 - y0, x1 - x0)
    if leaf.round and rng.random() < 0.4:
        _dome(rng, patch, sun)
    if rng.random() < 0.3:
        _details(rng, patch)
    if rng.random() < 0.2:
        rim = inside & ~_shrunk(inside, int(rng.integers(1, 3)))
        patch[rim] += np.float32(rng.uniform(-70, 90))
    canvas[y0:y1, x0:x1][inside] = patch[inside]
    numbers[y0:y1, x0:x1][inside] = number


def _dome(rng: np.random.Generator, patch: Pixels, sun: float) -> None:
    """Light on the side of the sun (which stands where no shadow falls), dark at the rim."""
    height, width = patch.shape[:2]
    x, y = np.linspace(-1, 1, width, dtype=np.float32)[None, :], np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    lit = -(x * np.float32(np.cos(sun)) + y * np.float32(np.sin(sun)))
    shade = rng.uniform(0, 0.3) * lit - rng.uniform(0, 0.45) * (x * x + y * y)
    patch *= np.maximum(1 + shade, 0.15)[:, :, None].astype(np.float32)


def _details(rng: np.random.Generator, patch: Pixels) -> None:
    """Small things that belong to the large one: chimneys, cars, boats, boulders."""
    height, width = patch.shape[:2]
    size = rng.uniform(2, max(3.0, 0.16 * min(height, width)))
    shared = some_colour(rng)
    for _ in range(int(rng.integers(2, 14))):
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        u, v = size * rng.uniform(0.5, 1.3), size * rng.uniform(0.3, 1.0)
        turn = rng.uniform(0, np.pi)
        window = (max(0, int(x - u)), max(0, int(y - u)), min(width, int(x + u) + 2), min(height, int(y + u) + 2))
        if window[0] >= window[2] or window[1] >= window[3]:
            continue
        ring = np.linspace(0, 2 * np.pi, 9)[:-1]
        square = np.asarray(((-1, -1), (1, -1), (1, 1), (-1, 1)), float)
        shape = square if rng.random() < 0.6 else np.stack((np.cos(ring), np.sin(ring)), 1)
        some = _stencil(_turned(shape * (u / 2, v / 2), turn) + np.asarray((x, y)), window)
        colour = shared if rng.random() < 0.6 else some_colour(rng)
        patch[window[1] : window[3], window[0] : window[2]][some] = colour


def _leaf(rng: np.random.Generator, size: float, side_px: int, kind: int | None = None) -> _Leaf | None:
    """A thing somewhere in the picture, of any kind if None; or None where its corners do not meet it."""
    if kind is None:
        kind = int(rng.choice(6, p=(0.27, 0.15, 0.2, 0.1, 0.18, 0.1)))
    if kind == 4:
        shape = _band(rng, side_px, min(size / 3, 90.0) + 5)
    elif kind == 5:
        shape = _coast(rng, side_px)
    else:
        shape = _compact(rng, kind, size)
        shape = _turned(shape, rng.uniform(0, np.pi)) + rng.uniform(0, side_px, 2)
    low = np.maximum(np.floor(shape.min(axis=0)).astype(int), 0)
    high = np.minimum(np.ceil(shape.max(axis=0)).astype(int) + 1, side_px)
    if (low >= high).any():
        return None
    return _Leaf(shape, (int(low[0]), int(low[1]), int(high[0]), int(high[1])), round=kind in {2, 3})


def _compact(rng: np.random.Generator, kind: int, size: float) -> Corners:
    """A thing of this extent around the origin."""
    across = size * rng.uniform(0.25, 1.0)
    if kind == 0:
        return np.asarray(((-1, -1), (1, -1), (1, 1), (-1, 1)), float) * (size / 2, across / 2)
    if kind == 1:  # the plan of a building: a rectangle without one or two of its corners
        a, b = rng.uniform(-0.5, 0.6, 2)
        plan = [(-1, -1), (1, -1), (1, b), (a, b), (a, 1), (-1, 1)]
        if rng.random() < 0.4:
            c, d = rng.uniform(-0.7, a), rng.uniform(-0.9, min(b, 0.5))
            plan = [*plan[:-1], (c, 1), (c, d), (-1, d)]
        return np.asarray(plan, float) * (size / 2, max(across, size / 2) / 2)
    n = 40
    ring = np.linspace(0, 2 * np.pi, n + 1)[:-1]
    if kind == 3:
        return np.stack((np.cos(ring) * size / 2, np.sin(ring) * across / 2), 1)
    reach = 1 + np.sum(
        [rng.normal(0, 0.32 / k) * np.cos(k * ring + rng.uniform(0, 2 * np.pi)) for k in range(2, 9)], axis=0
    )
    stretch = rng.uniform(0.45, 1.0)
    blob: Corners = np.stack((np.cos(ring), np.sin(ring) * stretch), 1) * (np.maximum(reach, 0.15) * size / 2)[:, None]
    return blob


def _band(rng: np.random.Generator, side_px: int, width: float) -> Corners:
    """A river or road: through the picture, or ending in it."""
    along = np.linspace(-1.1 * side_px, 1.1 * side_px, 49)
    bend = rng.uniform(0, 46) * np.sin(along / rng.uniform(35, 160) + rng.uniform(0, 6))
    if rng.random() < 0.4:  # straight ways
        bend *= 0.05
    half = width / 2 * (1 + rng.uniform(0, 0.35) * np.sin(along / rng.uniform(30, 120) + rng.uniform(0, 6)))
    if rng.random() < 0.35:
        keep = along > rng.uniform(-0.3, 0.3) * side_px
        along, bend, half = along[keep], bend[keep], half[keep]
    shape = np.concatenate((np.stack((along, bend - half), 1), np.stack((along, bend + half), 1)[::-1]))
    return _turned(shape, rng.uniform(0, 2 * np.pi)) + rng.uniform(0.1, 0.9, 2) * side_px


def _coast(rng: np.random.Generator, side_px: int) -> Corners:
    """All on one side of a crooked line."""
    levels = int(rng.integers(3, 7))
    line = rng.normal(0, 18, 3)
    for level in range(levels):  # midpoints moved ever less: a coast
        middle = (line[:-1] + line[1:]) / 2 + rng.normal(0, rng.uniform(4, 14) * 0.6**level, len(line) - 1)
        mixed = np.empty(2 * len(line) - 1)
        mixed[::2], mixed[1::2] = line, middle
        line = mixed
    along = np.linspace(-side_px, side_px, len(line))
    shape = np.concatenate((np.stack((along, line), 1), ((side_px, 2.0 * side_px), (-side_px, 2.0 * side_px))))
    return _turned(shape, rng.uniform(0, 2 * np.pi)) + rng.uniform(0.25, 0.75, 2) * side_px


def _turned(shape: Corners, turn: float) -> Corners:
    cosine, sine = np.cos(turn), np.sin(turn)
    return shape @ np.asarray(((cosine, sine), (-sine, cosine)))


def _stencil(corners: Corners, window: tuple[int, int, int, int]) -> NDArray[np.bool_]:
    x0, y0, x1, y1 = window
    stencil = Image.new("L", (x1 - x0, y1 - y0), 0)
    ImageDraw.Draw(stencil).polygon([(float(x) - x0, float(y) - y0) for x, y in corners], fill=255)
    return np.asarray(stencil) > 0


def _shrunk(inside: NDArray[np.bool_], times: int) -> NDArray[np.bool_]:
    for _ in range(times):
        padded = np.pad(inside, 1, mode="edge")
        inside = inside & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return inside
