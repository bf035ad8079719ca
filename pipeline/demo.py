"""A small region to try t2s on: GeoTIFF scenes of the drawn world, their truth, and the score of a run over them."""

import io
import json
from dataclasses import dataclass
from typing import Any

import geopandas as gpd
import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.features import rasterize
from rasterio.io import MemoryFile
from rasterio.transform import Affine, from_origin
from shapely.affinity import affine_transform

from pipeline.features import read_features
from pipeline.mosaics import open_mosaic
from pipeline.queries import Query
from pipeline.scenes import Scene
from pipeline.storage import Store
from pipeline.truth import truth_of
from t2s_core import metrics
from t2s_core.world.draw import Region, draw_region, outline
from t2s_core.world.queries import FIRST_SEED
from t2s_core.world.queries import demo_queries as world_queries

GSD_M = 0.3
"""A drawn roof is 28 to 58 px long: at 0.3 m that is a house."""
_FIRST_SEED = FIRST_SEED["test"] + 300_000_000
"""The bundled models never saw these regions, nor the wording of the questions, in training."""


@dataclass(frozen=True, slots=True)
class _Sheet:
    scene_id: str
    crs: str
    left_m: float
    top_m: float
    wedge: bool
    """Whether a corner of it is no-data, as at the border of a swath."""


_SHEETS = (
    _Sheet("harbour_town", "EPSG:32633", 391_000.0, 5_820_000.0, wedge=False),
    _Sheet("swath_edge", "EPSG:32633", 391_600.0, 5_820_000.0, wedge=True),
    _Sheet("next_zone", "EPSG:32634", 391_000.0, 5_820_000.0, wedge=False),
)


def demo_queries() -> tuple[Query, ...]:
    """Questions that can be decided tile by tile; one of them asks for what no scene holds."""
    return tuple(Query(query_id=q.id, text=q.text) for q in world_queries())


def draw_scenes(store: Store, *, seed: int, size_px: int) -> list[str]:
    """Write `scenes/*.tif` and `truth/*.parquet`; returns the scenes' hrefs.

    The same seed and size leave files as they are, so that a second demo finds its run finished.
    """
    hrefs = []
    for number, sheet in enumerate(_SHEETS):
        region = draw_region(_FIRST_SEED + len(_SHEETS) * seed + number, size_px, size_px)
        valid = _valid(size_px, wedge=sheet.wedge)
        transform = from_origin(sheet.left_m, sheet.top_m, GSD_M, GSD_M)
        _write_if_new(store, f"scenes/{sheet.scene_id}.tif", _geotiff(region, valid, sheet, transform))
        _write_if_new(store, f"truth/{sheet.scene_id}.parquet", _truth(region, valid, sheet, transform))
        hrefs.append(store.href(f"scenes/{sheet.scene_id}.tif"))
    return hrefs


def score_demo(store: Store, manifest: dict[str, Any], *, seconds: float) -> dict[str, Any]:
    """demo.json: stitched masks against the truth, both clipped to valid data; a sample is a scene x query."""
    rows: dict[str, list[tuple[int, int, int, int]]] = {q["query_id"]: [] for q in manifest["queries"]}
    truths = truth_of(store, manifest)
    for entry in manifest["scenes"]:
        scene = Scene.from_json(entry)
        truth = _truth_masks(truths[scene.scene_id], scene)
        valid = _valid_of(scene)
        for query_id, counts in rows.items():
            found = np.asarray(open_mosaic(store, scene.scene_id, query_id)["mask"].values) == 1
            counts.append(metrics.count_pixels(truth[query_id] & valid, found & valid))
    every = metrics.pixel_counts(*np.array([c for counts in rows.values() for c in counts]).T)
    features = read_features(store)
    document = {
        "giou": metrics.giou(every).value,
        "ciou": metrics.ciou(every).value,
        "no_target_accuracy": metrics.no_target_accuracy(every).value,
        "precision": metrics.pixel_precision(every).value,
        "n_samples": len(every),
        "seconds": round(seconds, 1),
        "queries": [
            {
                "query_id": q["query_id"],
                "query": q["query"],
                "iou": metrics.giou(metrics.pixel_counts(*np.array(rows[q["query_id"]]).T)).value,
                "n_features": int((features["query_id"] == q["query_id"]).sum()),
            }
            for q in manifest["queries"]
        ],
    }
    store.write("demo.json", json.dumps(document, indent=1).encode())
    return document


def _valid(size_px: int, *, wedge: bool) -> NDArray[np.bool_]:
    """(size, size). True is data; the wedge takes the left border, a third of it at the top and none at the bottom."""
    rows, cols = np.mgrid[:size_px, :size_px]
    return np.asarray(cols >= (size_px - rows) / 3 if wedge else cols >= 0, np.bool_)


def _geotiff(region: Region, valid: NDArray[np.bool_], sheet: _Sheet, transform: Affine) -> bytes:
    # 0 is no data, so what was drawn black becomes almost black
    image = np.where(valid[..., None], np.maximum(region.image, 1), 0).astype(np.uint8)
    height, width = valid.shape
    profile = {
        "driver": "GTiff", "width": width, "height": height, "count": 3, "dtype": "uint8", "crs": sheet.crs,
        "transform": transform, "nodata": 0, "photometric": "RGB", "tiled": True, "blockxsize": 256, "blockysize": 256,
        "compress": "deflate", "predictor": 2,
    }  # fmt: skip
    with MemoryFile() as memory:
        with memory.open(**profile) as dataset:
            dataset.write(image.transpose(2, 0, 1))
        return bytes(memory.read())


def _truth(region: Region, valid: NDArray[np.bool_], sheet: _Sheet, transform: Affine) -> bytes:
    """GeoParquet with scene_id, query_id and geometry, in the scene's own CRS: along pixel edges, unrounded."""
    a, b, c, d, e, f = transform[:6]
    rows = []
    for query in world_queries():
        for polygon in outline(region.mask(query.kinds) & valid, (0, 0)):
            ground = affine_transform(polygon, [a, b, d, e, c, f])
            rows.append({"scene_id": sheet.scene_id, "query_id": query.id, "geometry": ground})
    frame = gpd.GeoDataFrame(rows, columns=["scene_id", "query_id", "geometry"], geometry="geometry", crs=sheet.crs)
    sink = io.BytesIO()
    frame.to_parquet(sink, schema_version="1.1.0", write_covering_bbox=True)
    return sink.getvalue()


def _write_if_new(store: Store, name: str, data: bytes) -> None:
    if not (store.exists(name) and store.read(name) == data):
        store.write(name, data)


def _truth_masks(frame: gpd.GeoDataFrame, scene: Scene) -> dict[str, NDArray[np.bool_]]:
    """By query, (height, width) on the scene's grid."""
    transform = scene.geobox.transform
    masks = {}
    for query in world_queries():
        shapes = list(frame.geometry[frame["query_id"] == query.id])
        masks[query.id] = (
            rasterize(shapes, out_shape=scene.shape, transform=transform).astype(np.bool_)
            if shapes
            else np.zeros(scene.shape, np.bool_)
        )
    return masks


def _valid_of(scene: Scene) -> NDArray[np.bool_]:
    with rasterio.open(scene.href) as dataset:
        return np.asarray(dataset.dataset_mask() > 0, np.bool_)
