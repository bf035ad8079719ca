"""Cloud Optimized GeoTIFFs of a mosaic, for readers that know no Zarr: `cog/<scene_id>/<query_id>/<raster>.tif`.

Pixels and overviews are those of the Zarr group, on the scene's grid; 255, where nobody looked, is the nodata value.
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rasterio
import rasterio.shutil
from odc.geo.geobox import GeoBox
from rasterio.windows import Window as RasterioWindow

from pipeline.blocks import blocks
from pipeline.georef import overview_geobox, proj_crs, shape_yx
from pipeline.mosaics import group_path, read_window
from pipeline.overviews import factors_of
from pipeline.provenance import TRACE
from pipeline.rasters import open_raster
from pipeline.scenes import Scene
from pipeline.stitch import NOBODY_LOOKED
from pipeline.storage import Store
from pipeline.work import Workers

FOLDER = "cog"
RASTERS = ("probability", "mask")
"""A file each, for they are shown differently. In the order of `mosaics.read_window`."""
TILE_PX = 512
BLOCK_PX = 2048
"""Side of what is in memory at a time."""

_FINGERPRINT = "T2S_FINGERPRINT"
_LEVEL = {
    "driver": "GTiff", "count": 1, "dtype": "uint8", "nodata": NOBODY_LOOKED, "bigtiff": "if_safer",
    "tiled": True, "blockxsize": TILE_PX, "blockysize": TILE_PX, "compress": "deflate", "zlevel": 1,
}  # fmt: skip


def cog_name(scene_id: str, query_id: str, raster: str) -> str:
    """The object that holds one of `RASTERS` of one query of one scene."""
    return f"{FOLDER}/{scene_id}/{query_id}/{raster}.tif"


def cog_fingerprint(store: Store, scene_id: str, query_id: str) -> str | None:
    """The fingerprint of the mosaic that both COGs were made from; None where they are not there, or not of one."""
    names = [cog_name(scene_id, query_id, raster) for raster in RASTERS]
    if not all(store.exists(name) for name in names):
        return None
    found = set()
    for name in names:
        with open_raster(store.href(name)) as dataset:
            found.add(dataset.tags().get(_FINGERPRINT))
    return found.pop() if len(found) == 1 else None


def write_cogs(store: Store, scene: Scene, query_id: str, attributes: Mapping[str, Any], workers: Workers) -> None:
    """Make both COGs of a finished mosaic. Each is put whole, and made on a worker.

    `attributes`: of the mosaic's group; where they come from is repeated in the files' tags, as `T2S_...`. Needs room
    on the worker's disk for about three times the compressed raster.
    """
    tags = {key.upper().replace(":", "_"): attributes[key] for key in TRACE}
    tags[_FINGERPRINT] = attributes["t2s:fingerprint"]
    tasks = [_Task(store, scene, query_id, raster, factors_of(attributes), tags) for raster in RASTERS]
    for _ in workers.map(_write, tasks):
        pass


@dataclass(frozen=True)
class _Task:
    store: Store
    scene: Scene
    query_id: str
    raster: str
    factors: tuple[int, ...]
    tags: Mapping[str, str]


def _write(task: _Task) -> None:
    path = group_path(task.scene.scene_id, task.query_id)
    with tempfile.TemporaryDirectory(prefix="t2s-cog-") as scratch:
        folder = Path(scratch)
        finest = _write_level(task, path, task.scene.geobox, folder / "1.tif")
        overviews = [
            _write_level(task, f"{path}/{factor}", overview_geobox(task.scene.geobox, factor), folder / f"{factor}.tif")
            for factor in task.factors
        ]
        rasterio.shutil.copy(
            _with_overviews(finest, overviews),
            folder / "cog.tif",
            driver="COG",
            compress="deflate",
            blocksize=TILE_PX,
            overviews="FORCE_USE_EXISTING" if overviews else "NONE",
            bigtiff="IF_SAFER",
        )
        task.store.upload(folder / "cog.tif", cog_name(task.scene.scene_id, task.query_id, task.raster))


def _write_level(task: _Task, path: str, geobox: GeoBox, target: Path) -> Path:
    shape = shape_yx(geobox)
    grid = {"height": shape[0], "width": shape[1], "transform": geobox.affine, "crs": proj_crs(geobox).to_wkt()}
    with rasterio.open(target, "w", **_LEVEL, **grid) as file:
        file.update_tags(**task.tags)
        for window in blocks(shape, TILE_PX, BLOCK_PX):
            values = read_window(task.store, path, window)[RASTERS.index(task.raster)]
            place = RasterioWindow(window.x0, window.y0, window.width, window.height)
            file.write(values, 1, window=place)
    return target


def _with_overviews(finest: Path, overviews: Sequence[Path]) -> Path:
    """A VRT of the finest level that names the others as its overviews: GDAL would resample in another way than we."""
    vrt = finest.with_suffix(".vrt")
    rasterio.shutil.copy(finest, vrt, driver="VRT")
    named = "".join(
        f'<Overview><SourceFilename relativeToVRT="1">{path.name}</SourceFilename><SourceBand>1</SourceBand></Overview>'
        for path in overviews
    )
    vrt.write_text(vrt.read_text().replace("</VRTRasterBand>", f"{named}</VRTRasterBand>"))
    return vrt
