"""A tile's pixels: what the models see of a window, and which pixels of the window are data."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import Resampling

from pipeline.normalise import Stretch, apply
from pipeline.pixels import (
    UnreadablePixels,
    native_valid,
    open_scene,
    outside_pixels,
    palette,
    read_bands,
    valid_pixels,
    valid_values,
)
from pipeline.scenes import Scene
from pipeline.tiling import Window
from t2s_core.errors import ContractError

__all__ = ["TilePixels", "UnreadablePixels", "open_scene", "read_window", "read_windows", "together"]

_MOST_AT_ONCE_PX = 2**23
"""Pixels that are read at once at most: what lies around them in memory is several times as large."""


@dataclass(frozen=True, slots=True)
class TilePixels:
    """One tile, read."""

    image: NDArray[np.uint8]
    """(tile_px, tile_px, 3), RGB, by the scene's stretch; 0 where there is no data."""
    valid: NDArray[np.bool_]
    """(side, side) at the window's native resolution. True is data."""


def read_window(
    dataset: Any,  # noqa: ANN401 -- rasterio ships no types
    scene: Scene,
    window_scene_px: Window,
    out_px: int,
    stretch: Stretch,
) -> TilePixels:
    """Read a square window as an `out_px` x `out_px` image.

    A window larger than `out_px` is averaged down (from overviews where present), a smaller one enlarged bilinearly;
    palettes take the nearest pixel. What lies beyond the scene is no data.
    An image pixel counts as data if the native pixel at its middle does and its own value is no nodata value.

    Raises `UnreadablePixels` where any part that has data cannot be decoded: there are no half-read tiles.
    """
    if window_scene_px.width != window_scene_px.height:
        raise ContractError(f"window {tuple(window_scene_px)} is not square; tiles are")
    inside = window_scene_px.intersection(_whole(scene))
    if inside is None:
        return _blank(window_scene_px, out_px)
    shape = _shape_of(_scaled(inside, window_scene_px, out_px))
    return _tile(window_scene_px, out_px, inside, *_read_inside(dataset, scene, inside, shape, stretch))


def read_windows(
    dataset: Any,  # noqa: ANN401
    scene: Scene,
    windows_scene_px: Sequence[Window],
    out_px: int,
    stretch: Stretch,
) -> list[TilePixels]:
    """What `read_window` gives for each window, with one reading of the rectangle around all of them.

    The windows are a group of `together`. Raises `UnreadablePixels` where any of them cannot be read, or what lies
    between them.
    """
    if len(windows_scene_px) == 1:
        return [read_window(dataset, scene, windows_scene_px[0], out_px, stretch)]
    union = reduce(_around, windows_scene_px).intersection(_whole(scene))
    if union is None:
        return [_blank(window, out_px) for window in windows_scene_px]
    rgb, valid = _read_inside(dataset, scene, union, (union.height, union.width), stretch)
    tiles = []
    for window in windows_scene_px:
        inside = window.intersection(union)
        if inside is None:
            tiles.append(_blank(window, out_px))
        else:
            part = inside.slices_in(union)
            tiles.append(_tile(window, out_px, inside, rgb[part], valid[part]))
    return tiles


def together(
    dataset: Any,  # noqa: ANN401
    windows_scene_px: Sequence[Window],
    out_px: int,
) -> list[list[Window]]:
    """The windows, in order, in the groups that together read fewest pixels, each the rectangle around its windows.

    Only tiles at native resolution, of files that hold the very pixels: what resampling, a warp or a VRT gives may
    depend on where a window begins.
    """
    if dataset.driver not in {"GTiff", "JP2OpenJPEG"} or any(w.width != out_px for w in windows_scene_px):
        return [[window] for window in windows_scene_px]
    fewest = [(0, 0)]
    """Of the first 0, 1, 2, ... windows: pixels that are read, and where the last group begins."""
    for end, union in enumerate(windows_scene_px, start=1):
        best = fewest[-1][0] + _area(union), end - 1
        for start in range(end - 2, -1, -1):
            union = _around(union, windows_scene_px[start])  # noqa: PLW2901 -- it grows
            if _area(union) > _MOST_AT_ONCE_PX:
                break
            best = min(best, (fewest[start][0] + _area(union), start))
        fewest.append(best)
    groups: list[list[Window]] = []
    end = len(windows_scene_px)
    while end:
        _, start = fewest[end]
        groups.insert(0, list(windows_scene_px[start:end]))
        end = start
    return groups


def _around(one: Window, other: Window) -> Window:
    return Window(*map(min, one[:2], other[:2]), *map(max, one[2:], other[2:]))


def _area(window: Window) -> int:
    return window.width * window.height


def _whole(scene: Scene) -> Window:
    height, width = scene.shape
    return Window(0, 0, width, height)


def _blank(window: Window, out_px: int) -> TilePixels:
    """All of it no data."""
    return TilePixels(np.zeros((out_px, out_px, 3), np.uint8), np.zeros((window.height, window.width), np.bool_))


def _tile(window: Window, out_px: int, inside: Window, rgb: NDArray[np.uint8], valid: NDArray[np.bool_]) -> TilePixels:
    """What was read `inside` the window, with no data around it."""
    if inside == window:
        return TilePixels(np.ascontiguousarray(rgb), np.ascontiguousarray(valid))
    tile = _blank(window, out_px)
    tile.image[_scaled(inside, window, out_px)] = rgb
    tile.valid[inside.slices_in(window)] = valid
    return tile


def _read_inside(
    dataset: Any,  # noqa: ANN401
    scene: Scene,
    window_scene_px: Window,
    out_shape: tuple[int, int],
    stretch: Stretch,
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """RGB of `out_shape` and validity at native resolution, of a window within the scene.

    Bands are not read where masks say that there is no data.
    """
    native_shape = (window_scene_px.height, window_scene_px.width)
    if out_shape == native_shape:
        valid = outside_pixels(dataset, scene, window_scene_px, native_shape)
    else:
        valid = native_valid(dataset, scene, window_scene_px)
    if not valid.any():
        return np.zeros((*out_shape, 3), np.uint8), valid
    colours = palette(dataset, scene)
    bands = read_bands(dataset, scene, window_scene_px, out_shape, _resampling(native_shape, out_shape, colours))
    if out_shape == native_shape:
        valid &= valid_values(scene, bands)
        shown = valid
    else:
        shown = valid_pixels(dataset, scene, window_scene_px, bands) & _at_middles(valid, out_shape)
    if not shown.any():
        return np.zeros((*out_shape, 3), np.uint8), valid
    rgb = apply(stretch, bands) if colours is None else _look_up(colours, bands[0])
    if not shown.all():
        rgb *= shown[..., None]
    return rgb, valid


def _shape_of(part: tuple[slice, slice]) -> tuple[int, int]:
    rows, cols = part
    return rows.stop - rows.start, cols.stop - cols.start


def _scaled(inside: Window, window: Window, out_px: int) -> tuple[slice, slice]:
    """(rows, columns) of the image that show `inside`; at least one of each."""
    scale = out_px / window.width
    rows, cols = inside.slices_in(window)
    return _scaled_slice(rows, scale, out_px), _scaled_slice(cols, scale, out_px)


def _scaled_slice(part: slice, scale: float, out_px: int) -> slice:
    start = min(round(part.start * scale), out_px - 1)
    return slice(start, max(round(part.stop * scale), start + 1))


def _resampling(native: tuple[int, int], out: tuple[int, int], colours: NDArray[np.uint8] | None) -> Resampling:
    if colours is not None or native == out:
        return Resampling.nearest
    return Resampling.average if native >= out else Resampling.bilinear


def _at_middles(valid: NDArray[np.bool_], shape: tuple[int, int]) -> NDArray[np.bool_]:
    rows, cols = (((np.arange(n) + 0.5) * size / n).astype(np.intp) for n, size in zip(shape, valid.shape, strict=True))
    return valid[np.ix_(rows, cols)]


def _look_up(colours: NDArray[np.uint8], indices: NDArray[Any]) -> NDArray[np.uint8]:
    # an index beyond the colour table is shown black, as GDAL does
    known = np.minimum(indices.astype(np.intp), len(colours))
    rgb: NDArray[np.uint8] = np.vstack([colours, np.zeros((1, 3), dtype=np.uint8)])[known]
    return rgb
