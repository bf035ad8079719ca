"""Why something is, or is not, in the masks: every tile result under a point, as the models gave it."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import geopandas as gpd
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.features import FOLDER, partition_name
from pipeline.geodesy import geographic_crs, to_crs
from pipeline.georef import proj_crs
from pipeline.plan import PlannedTile, ScenePlan
from pipeline.queries import Query
from pipeline.rebuilt import plans_of
from pipeline.results import TileResult, batch_names, read_index, read_results
from pipeline.scenes import Scene
from pipeline.spec import RunSpec
from pipeline.storage import Store
from pipeline.tiling import Window
from t2s_core.errors import BadInput
from t2s_core.masks import LOGIT_LIMIT, upsample

_READERS = 16


@dataclass(frozen=True)
class Place:
    """What is asked about."""

    lon: float
    """Degrees east; on other bodies in their own geographic CRS."""
    lat: float
    query_id: str | None = None
    """One query; all of them if None."""
    scene_id: str | None = None
    """One scene; all that show the point if None."""


@dataclass(frozen=True)
class Explained:
    """One tile-query under the point."""

    scene: Scene
    plan: ScenePlan
    tile: PlannedTile
    query: Query
    at_tile_px: tuple[float, float]
    """The point, in pixels of the tile as the models saw it."""
    result: TileResult | None
    """None where it was not computed yet."""

    def to_json(self) -> dict[str, Any]:
        """For `--json`: everything but the masks' pixels. Boxes and points are in pixels of the tile."""
        document: dict[str, Any] = {
            "scene_id": self.scene.scene_id,
            "tile": str(self.tile.key),
            "window_scene_px": list(self.tile.window_scene_px),
            "at_tile_px": [round(v, 1) for v in self.at_tile_px],
            "query_id": self.query.query_id,
            "query": self.query.text,
        }
        result = self.result
        if result is None:
            return {**document, "status": "pending"}
        instances = [
            {
                "box_tile_px": list(prompt.box_tile_px),
                "points_tile_px": [list(point) for point in prompt.points_tile_px],
                "predicted_iou": round(mask.predicted_iou, 4),
                "probability_here": round(self.probability(i), 4),
            }
            for i, (prompt, mask) in enumerate(zip(result.prompts, result.masks, strict=True))
        ]
        return {
            **document,
            "status": result.status.value,
            "reason": result.reason,
            "reasoning": result.reasoning,
            "reply": result.reply,
            "n_tokens": result.n_tokens,
            "instances": instances,
            "run_id": result.run_id,
        }

    def logits(self, instance: int) -> NDArray[np.float32]:
        """(tile_px, tile_px) of one of the result's masks."""
        assert self.result is not None
        side = self.plan.grids[self.tile.key.level].tile_px
        return upsample(self.result.masks[instance].logits.to_logits(), (side, side))

    def probability(self, instance: int) -> float:
        """At the point."""
        x, y = (min(int(v), self.plan.grids[self.tile.key.level].tile_px - 1) for v in self.at_tile_px)
        logit = float(np.clip(self.logits(instance)[y, x], -LOGIT_LIMIT, LOGIT_LIMIT))
        return 1 / (1 + float(np.exp(-logit)))


def explain(store: Store, manifest: Mapping[str, Any], place: Place) -> list[Explained]:
    """Every tile-query of the run under a point, by scene, query and tile.

    Raises `BadInput` where no tile of the run shows the point, or it has no such query.
    """
    queries = [q for q in RunSpec(**manifest["spec"]).queries if place.query_id in {None, q.query_id}]
    if not queries:
        raise BadInput(f"--query {place.query_id}: the run has no such query; it has {_ids(manifest)}")
    plans = [p for p in plans_of(manifest, store) if place.scene_id in {None, p.scene.scene_id}]
    found = [e for plan in plans for e in _of_scene(store, plan, queries, place)]
    if not found:
        raise BadInput(f"no tile of the run lies at {place.lon:g}, {place.lat:g}; {_where(plans)}")
    return found


def place_of_feature(store: Store, manifest: Mapping[str, Any], feature_id: str) -> Place:
    """A point within a feature, for its query and its scene alone. Raises `BadInput` where the run has none such."""
    there = set(store.names(FOLDER, ".parquet"))
    places = [(s["scene_id"], q["query_id"]) for s in manifest["scenes"] for q in manifest["queries"]]
    places = [place for place in places if partition_name(*place) in there]

    def found_in(place: tuple[str, str]) -> Any:  # noqa: ANN401 -- a geometry of shapely, which ships no types
        with store.fs.open(store.path(partition_name(*place)), "rb") as file:
            found = gpd.read_parquet(file, columns=["geometry"], filters=[("feature_id", "==", feature_id)])
        return found.geometry.iloc[0] if len(found) else None

    with ThreadPoolExecutor(_READERS) as readers:
        for start in range(0, len(places), _READERS):  # not all of a region's, for the first may hold it
            some = places[start : start + _READERS]
            for (scene_id, query_id), geometry in zip(some, readers.map(found_in, some), strict=True):
                if geometry is not None:
                    point = geometry.representative_point()
                    return Place(point.x, point.y, query_id, scene_id)
    raise BadInput(f"--feature {feature_id[:40]}: the run has no such feature; their ids are in features/")


def _of_scene(store: Store, plan: ScenePlan, queries: Sequence[Query], place: Place) -> Iterator[Explained]:
    x, y = _scene_px(plan.scene, place)
    height, width = plan.scene.shape
    if not (0 <= x < width and 0 <= y < height):
        return
    tiles = list(plan.tiles_over(Window(int(x), int(y), int(x) + 1, int(y) + 1)))
    wanted = {ask.key: (tile, q) for tile in tiles for q, ask in zip(queries, plan.asks(tile, queries), strict=True)}
    if plan.first_look is not None:
        for tile in tiles:
            asks = plan.asks(tile, queries, irrelevant=True)
            wanted |= {ask.key: (tile, q) for q, ask in zip(queries, asks, strict=True)}
    results = {(r.tile, r.query): r for r in _results(store, plan.scene.scene_id, frozenset(wanted))}
    for query in queries:
        for tile in tiles:
            x0, y0 = tile.window_scene_px[:2]
            at = (x - x0) / tile.key.level, (y - y0) / tile.key.level
            yield Explained(plan.scene, plan, tile, query, at, results.get((tile.key, query.text)))


def _results(store: Store, scene_id: str, keys: frozenset[str]) -> Iterator[TileResult]:
    """Failures first, so that what a retry made of them comes after and counts."""
    index, _ = read_index(store, batch_names(store, scene_id))
    names = index.filter(pc.is_in(index["key"], pa.array(sorted(keys), pa.string())))["batch"].unique().to_pylist()
    found = [result for name in names for result in read_results(store, name, keys=keys, scene_id=scene_id)]
    yield from sorted(found, key=lambda result: result.status != "failed")


def _scene_px(scene: Scene, place: Place) -> tuple[float, float]:
    crs = proj_crs(scene.geobox)
    x, y = to_crs(geographic_crs(crs), crs).transform(place.lon, place.lat)
    a, b, c, d, e, f = (~scene.geobox.affine)[:6]
    px = a * x + b * y + c, d * x + e * y + f
    return px if np.isfinite(px).all() else (-1.0, -1.0)


def _where(plans: Sequence[ScenePlan]) -> str:
    """Where the scenes are, for who mixed up longitude and latitude."""
    for plan in plans:
        crs, (height, width) = proj_crs(plan.scene.geobox), plan.scene.shape
        x, y = plan.scene.geobox.affine @ (width / 2, height / 2)
        lon, lat = to_crs(crs, geographic_crs(crs)).transform(x, y)
        return f"the middle of {plan.scene.scene_id} is at {lon:.5f},{lat:.5f} (longitude, latitude)"
    return "the run has no scenes"


def _ids(manifest: Mapping[str, Any]) -> str:
    return ", ".join(query["query_id"] for query in manifest["queries"])
