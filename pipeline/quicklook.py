"""Small pictures of scenes, for people to look at. No scene is ever whole in memory, nor is GDAL's cache of it."""

import base64
import io
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rasterio.enums import Resampling

from pipeline.normalise import Stretch, apply
from pipeline.pixels import open_scene, palette, read_bands, valid_pixels
from pipeline.scenes import Scene
from pipeline.tiling import Window

_STRIP_PX = 4 * 2**20
"""Pixels that are decoded before the file is closed, and with it GDAL's cache of its blocks."""


def quicklook(
    scene: Scene, stretch: Stretch, longest_px: int = 800, *, window_scene_px: Window | None = None
) -> NDArray[np.uint8]:
    """(height, width, 4): RGBA at most `longest_px` on its longer side, transparent where there is no data.

    Read from overviews where the file has some. `window_scene_px`: a part of the scene; all of it if None. Raises
    `UnreadablePixels`.
    """
    height, width = scene.shape
    window = Window(0, 0, width, height) if window_scene_px is None else window_scene_px
    scale = min(1.0, longest_px / max(window.width, window.height))
    shape = max(1, round(window.height * scale)), max(1, round(window.width * scale))
    with open_scene(scene) as dataset:
        decoded_px = decoded(dataset, scene, window, 1 / scale)
        if decoded_px <= _STRIP_PX:
            return _picture(dataset, scene, stretch, window, shape)
    n_strips = min(shape[0], -(-decoded_px // _STRIP_PX))
    return np.concatenate([*_strips(scene, stretch, window, shape, n_strips)])


def decoded(dataset: Any, scene: Scene, window_scene_px: Window, decimation: float) -> int:  # noqa: ANN401
    """Pixels that GDAL decodes for a window at 1/`decimation` of its size, by the overviews that the file has."""
    source = getattr(dataset, "src_dataset", dataset)
    factor = max((f for f in source.overviews(scene.bands[0]) if f <= decimation), default=1)
    return window_scene_px.width * window_scene_px.height // factor**2


def data_url(rgba: NDArray[np.uint8], *, quality: int = 80) -> str:
    """The picture as a `data:` URL, so that a page needs no file beside it."""
    sink = io.BytesIO()
    Image.fromarray(rgba, "RGBA").save(sink, "WEBP", quality=quality, method=2)
    return "data:image/webp;base64," + base64.b64encode(sink.getvalue()).decode()


def _strips(
    scene: Scene, stretch: Stretch, window: Window, shape: tuple[int, int], n_strips: int
) -> Iterator[NDArray[np.uint8]]:
    rows = np.unique(np.linspace(0, shape[0], n_strips + 1).astype(int)).tolist()
    for top, bottom in pairwise(rows):
        y0 = window.y0 + top * window.height // shape[0]
        y1 = max(y0 + 1, window.y0 + bottom * window.height // shape[0])
        with open_scene(scene) as dataset:  # anew: blocks of the last strip are forgotten
            yield _picture(dataset, scene, stretch, Window(window.x0, y0, window.x1, y1), (bottom - top, shape[1]))


def _picture(
    dataset: Any,  # noqa: ANN401 -- rasterio ships no types
    scene: Scene,
    stretch: Stretch,
    window: Window,
    shape: tuple[int, int],
) -> NDArray[np.uint8]:
    colours = palette(dataset, scene)
    resampling = Resampling.average if colours is None else Resampling.nearest
    bands = read_bands(dataset, scene, window, shape, resampling)
    valid = valid_pixels(dataset, scene, window, bands)
    if colours is None:
        rgb = np.moveaxis(apply(stretch, bands), 0, -1)
    else:
        rgb = colours[np.minimum(bands[0].astype(np.intp), len(colours) - 1)]
    return np.dstack([rgb, np.where(valid, 255, 0)]).astype(np.uint8)
