"""A small picture of a scene, for people to look at."""

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rasterio.enums import Resampling

from pipeline.normalise import Stretch, apply
from pipeline.pixels import open_scene, palette, read_bands, valid_pixels
from pipeline.scenes import Scene
from pipeline.tiling import Window

_WEBP_QUALITY = 80


def quicklook(scene: Scene, stretch: Stretch, longest_px: int = 800) -> NDArray[np.uint8]:
    """(height, width, 4): RGBA at most `longest_px` on its longer side, transparent where there is no data.

    Read from overviews where the file has some. Raises `UnreadablePixels`.
    """
    height, width = scene.shape
    scale = min(1.0, longest_px / max(height, width))
    out_shape = max(1, round(height * scale)), max(1, round(width * scale))
    whole = Window(0, 0, width, height)
    with open_scene(scene) as dataset:
        colours = palette(dataset, scene)
        resampling = Resampling.average if colours is None else Resampling.nearest
        bands = read_bands(dataset, scene, whole, out_shape, resampling)
        valid = valid_pixels(dataset, scene, whole, bands)
    if colours is None:
        rgb = apply(stretch, bands)
    else:
        rgb = colours[np.minimum(bands[0].astype(np.intp), len(colours) - 1)]
    return np.dstack([rgb, np.where(valid, 255, 0)]).astype(np.uint8)


def data_url(rgba: NDArray[np.uint8]) -> str:
    """The picture as a `data:` URL, so that a page needs no file beside it."""
    sink = io.BytesIO()
    Image.fromarray(rgba, "RGBA").save(sink, "WEBP", quality=_WEBP_QUALITY)
    return "data:image/webp;base64," + base64.b64encode(sink.getvalue()).decode()
