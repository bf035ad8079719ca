"""Where a scene was looked at for a query, as a polygon on the ground."""

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from pipeline.geodesy import to_geographic
from pipeline.georef import overview_geobox
from pipeline.mosaics import finished, group_path, open_group
from pipeline.scenes import Scene
from pipeline.stitch import NOBODY_LOOKED
from pipeline.storage import Store
from pipeline.trace import regions_of
from t2s_core.errors import BadInput


def looked_at(store: Store, scene: Scene, query_id: str) -> BaseGeometry:
    """What is target or background in a finished mosaic, in degrees; empty where nothing is.

    From the mosaic's coarsest overview, at most a chunk (512 px) a side, in which a pixel counts as soon as a part of
    it was looked at: so the outline may lie one such pixel too far out. Raises `BadInput` where the mosaic is not
    finished.
    """
    path = group_path(scene.scene_id, query_id)
    facts = finished(store, scene.scene_id, query_id)
    if facts is None:
        raise BadInput(f"{store.url}: {path} has no finished mosaic; resume the run, or run `t2s restitch`.")
    asset = facts["multiscales"]["layout"][-1]["asset"]
    factor = 1 if asset == "." else int(asset)
    mask = np.asarray(open_group(store, path if factor == 1 else f"{path}/{asset}")["mask"])
    outlines = regions_of((mask != NOBODY_LOOKED).astype(np.uint8)).polygons
    grid = scene.geobox if factor == 1 else overview_geobox(scene.geobox, factor)
    return shapely.union_all(to_geographic(outlines, grid))
