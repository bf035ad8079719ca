"""A tile's pixels: what the models see of a window, and which pixels of the window are data."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import Resampling

from pipeline.normalise import Stretch, apply
from pipeline.pixels import UnreadablePixels, native_valid, open_scene, palette, read_bands, valid_pixels
from pipeline.scenes import Scene
from pipeline.tiling import Window
from t2s_core.errors import ContractError

__all__ = ["TilePixels", "UnreadablePixels", "open_scene", "read_window"]


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

    Raises `UnreadablePixels` where any part cannot be decoded: there are no half-read tiles.
    """
    if window_scene_px.width != window_scene_px.height:
        raise ContractError(f"window {tuple(window_scene_px)} is not square; tiles are")
    side_px = window_scene_px.width
    image = np.zeros((out_px, out_px, 3), dtype=np.uint8)
    valid = np.zeros((side_px, side_px), dtype=np.bool_)
    height, width = scene.shape
    inside = window_scene_px.intersection(Window(0, 0, width, height))
    if inside is not None:
        # both frames' rows and columns that the scene covers
        image_part = _scaled(inside, window_scene_px, out_px)
        rgb, valid_part = _read_inside(dataset, scene, inside, image[image_part].shape[:2], stretch)
        image[image_part] = rgb
        valid[inside.slices_in(window_scene_px)] = valid_part
    return TilePixels(image, valid)


def _read_inside(
    dataset: Any,  # noqa: ANN401
    scene: Scene,
    window_scene_px: Window,
    shape: tuple[int, ...],
    stretch: Stretch,
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """RGB of `shape` and validity at native resolution, of a window within the scene."""
    out_shape = (shape[0], shape[1])
    native_shape = (window_scene_px.height, window_scene_px.width)
    colours = palette(dataset, scene)
    bands = read_bands(dataset, scene, window_scene_px, out_shape, _resampling(native_shape, out_shape, colours))
    shown = valid_pixels(dataset, scene, window_scene_px, bands)
    if out_shape == native_shape:
        valid = shown
    else:
        valid = native_valid(dataset, scene, window_scene_px)
        shown &= _at_middles(valid, out_shape)
    rgb = np.moveaxis(apply(stretch, bands), 0, -1) if colours is None else _look_up(colours, bands[0])
    return np.where(shown[..., None], rgb, np.uint8(0)), valid


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
