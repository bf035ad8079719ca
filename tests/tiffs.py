"""Tiny GeoTIFFs for tests, drawn with rasterio."""

from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray

from pipeline.scenes import Scene, resolve

UTM = Affine(2.0, 0.0, 500_000.0, 0.0, -2.0, 4_000_000.0)


def draw_tiff(path: Path, bands: NDArray[Any], **profile: Any) -> Path:
    """Write (n, height, width) with a UTM grid of 2 m pixels unless the profile says otherwise."""
    extras = {key: profile.pop(key) for key in ("mask", "colorinterp", "tags", "colormap", "gcps") if key in profile}
    defaults = {"crs": "EPSG:32633", "transform": UTM} if "gcps" not in extras else {}
    shape = {"count": bands.shape[0], "height": bands.shape[1], "width": bands.shape[2], "dtype": bands.dtype.name}
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(path, "w", **{"driver": "GTiff", **shape, **defaults, **profile}) as file,
    ):
        file.write(bands)
        if "mask" in extras:
            file.write_mask(extras["mask"])
        if "colorinterp" in extras:
            file.colorinterp = extras["colorinterp"]
        if "colormap" in extras:
            file.write_colormap(1, extras["colormap"])
        if "gcps" in extras:
            file.gcps = extras["gcps"]
        file.update_tags(**extras.get("tags", {}))
    return path


def noise(*shape: int, dtype: str = "uint8", low: int = 1, high: int = 255) -> NDArray[Any]:
    """Random pixels, the same each time."""
    return np.random.default_rng(7).integers(low, high, shape).astype(dtype)


def scene_of(path: Path, **options: Any) -> Scene:
    """The one scene of a good file."""
    resolved = resolve([str(path)], **options)
    assert resolved.problems == []
    return resolved.scenes[0]
