"""What the map of a run shows, and what the page's script knows of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import geopandas as gpd
import numpy as np
import shapely
from numpy.typing import NDArray

from pipeline.plan import ScenePlan
from pipeline.queries import Query
from pipeline.reporting.budget import Budget
from pipeline.reporting.colours import Ink
from pipeline.reporting.figure import Box, Layers, TileLayer, draw
from pipeline.reporting.found import Found
from pipeline.reporting.frame import MapFrame, frame_of
from pipeline.reporting.pictures import Quicklook, quicklooks
from pipeline.reporting.prompts import Prompts, read_prompts
from pipeline.reporting.shapes import Rings, rings, simplified
from pipeline.reporting.tiles import ALONE, Cover, coverage, covers, reasons_of
from pipeline.scenes import Scene
from pipeline.storage import Store

_MARGIN = 0.04
_MIN_SHARE = 0.02
"""Of the whole region's box that scenes must fill for a first view of all of it to show anything."""
_DETAIL = 0.4
"""Of a pixel of the quick-look, by which outlines may be off."""
_REASON_CHARS = 300


@dataclass(frozen=True)
class MapContent:
    """A map and what belongs to it."""

    figure: Any
    data: Mapping[str, Any]
    """For the page's script; texts are inserted as text there."""
    notes: Sequence[str]
    looks: Sequence[Quicklook]


def map_of_run(
    store: Store,
    manifest: Mapping[str, Any],
    entries: Sequence[Mapping[str, Any]],
    found: Found,
    inks: Mapping[str, Ink],
    budget: Budget,
    *,
    plans: Sequence[ScenePlan],
    truth: Mapping[str, gpd.GeoDataFrame] | None,
) -> MapContent:
    """`entries`: the manifest's scenes that are drawn, with their `plans`; at least one."""
    scenes = [Scene.from_json(dict(entry)) for entry in entries]
    frame = frame_of(scenes)
    looks, notes = quicklooks(entries, frame, max_bytes=budget.picture_bytes, decode_mpx=budget.decode_mpx)
    outlines = [frame.outline(scene) for scene in scenes]
    pixel_m = {s.scene_id: _pixel_m(s, o) for s, o in zip(scenes, outlines, strict=True)}
    decimals = max(0, int(np.ceil(-np.log10(min(pixel_m.values()) / 10))))
    shapes = _shapes(found.drawn, frame, pixel_m, budget)
    queries = [Query(query_id=q["query_id"], text=q["query"]) for q in manifest["queries"]]
    prompts = read_prompts(
        store, plans, queries, frame, max_batches=budget.batches, max_prompts=budget.prompts, decimals=decimals
    )
    tiles, said = _tiles(store, manifest, scenes, plans, frame, budget, notes)
    boxes = [_box(outline) for outline in outlines]
    data = {
        "out": store.url,
        "queries": [{"id": q.query_id, "text": q.text, "n": found.by_query[q.query_id].n,
                     "colour": inks[q.query_id].colour, "dash": inks[q.query_id].dash} for q in queries],
        "scenes": [{"id": s.scene_id, "href": s.href, "n": found.by_scene.get(s.scene_id, 0), "box": b,
                    "about": _about(s)} for s, b in zip(scenes, boxes, strict=True)],
        "features": _table(found.drawn, shapes, manifest, [s.scene_id for s in scenes], budget.text_chars, prompts),
        "prompts": {"boxes": prompts.boxes, "points": prompts.points},
        "tiles": said,
        "truth": truth is not None,
    }  # fmt: skip
    if len(found.drawn) < found.n:
        notes.append(
            f"{found.n:,} features; the map and the table show {len(found.drawn):,} of them, evenly sampled. "
            "features/ has them all."
        )
    if len(entries) < len(manifest["scenes"]):
        notes.append(
            f"{len(manifest['scenes']):,} scenes, of which {len(entries)} are drawn: those with failures first, then those "
            "with most features."
        )
    layers = Layers(
        outlines=outlines,
        looks=looks,
        tiles=tiles,
        features=_by_query(found.drawn, shapes, queries, decimals),
        truth=None if truth is None else _truth(truth, scenes, frame, pixel_m, decimals, budget),
    )
    view = first_view(boxes)
    figure = draw(layers, inks, view)
    return MapContent(figure, {**data, "view": view, "all": _around(boxes)}, [*notes, *prompts.notes], looks)


def first_view(boxes: Sequence[Box]) -> Box:
    """All scenes where they fill some of their common box, else the first."""
    whole = _around(boxes)
    filled = sum((b[2] - b[0]) * (b[3] - b[1]) for b in boxes)
    area = (whole[2] - whole[0]) * (whole[3] - whole[1])
    return whole if filled >= _MIN_SHARE * area else _around(boxes[:1])


def _around(boxes: Sequence[Box]) -> Box:
    every = np.array(boxes)
    (left, bottom), (right, top) = every[:, :2].min(axis=0).tolist(), every[:, 2:].max(axis=0).tolist()
    margin = _MARGIN * max(right - left, top - bottom, 1e-6)
    return left - margin, bottom - margin, right + margin, top + margin


def _box(outline: NDArray[np.float64]) -> Box:
    if not len(outline):
        return 0.0, 0.0, 0.0, 0.0
    (left, bottom), (right, top) = outline.min(axis=0).tolist(), outline.max(axis=0).tolist()
    return left, bottom, right, top


def _pixel_m(scene: Scene, outline: NDArray[np.float64]) -> float:
    left, bottom, right, top = _box(outline)
    return max(right - left, top - bottom, 1e-6) / max(scene.shape)


def _about(scene: Scene) -> str:
    height, width = scene.shape
    return f"{width:,} x {height:,} px, {str(scene.geobox.crs)[:40]}, {scene.datetime or 'no date'}"


def _shapes(
    drawn: gpd.GeoDataFrame, frame: MapFrame, pixel_m: Mapping[str, float], budget: Budget
) -> NDArray[np.object_]:
    detail = drawn["scene_id"].map(pixel_m).to_numpy(np.float64) * _DETAIL
    return simplified(frame.of_frame(drawn), detail, budget.vertices)


def _by_query(
    drawn: gpd.GeoDataFrame, shapes: NDArray[np.object_], queries: Sequence[Query], decimals: int
) -> dict[str, tuple[Rings, list[int]]]:
    rows = {q.query_id: np.flatnonzero(drawn["query_id"].to_numpy() == q.query_id) for q in queries}
    return {query_id: (rings(shapes[mine], decimals), mine.tolist()) for query_id, mine in rows.items()}


def _truth(
    truth: Mapping[str, gpd.GeoDataFrame],
    scenes: Sequence[Scene],
    frame: MapFrame,
    pixel_m: Mapping[str, float],
    decimals: int,
    budget: Budget,
) -> Rings:
    both = [(s.scene_id, frame.of_frame(truth[s.scene_id])) for s in scenes if s.scene_id in truth]
    shapes = np.concatenate([np.empty(0, object), *(shapes for _, shapes in both)])
    detail = np.concatenate([np.empty(0), *(np.full(len(shapes), pixel_m[s] * _DETAIL) for s, shapes in both)])
    return rings(simplified(shapes, detail, budget.vertices), decimals)


def _table(
    drawn: gpd.GeoDataFrame,
    shapes: NDArray[np.object_],
    manifest: Mapping[str, Any],
    scene_ids: Sequence[str],
    max_chars: int,
    prompts: Prompts,
) -> dict[str, Any]:
    """By column; what repeats is written once."""
    of_query = {q["query_id"]: i for i, q in enumerate(manifest["queries"])}
    of_scene = {scene_id: i for i, scene_id in enumerate(scene_ids)}
    texts, place = np.unique(drawn["reasoning"].to_numpy(str), return_inverse=True)
    most = max(80, max_chars // max(1, len(texts)))
    linked: list[list[int]] = [[] for _ in range(len(drawn))]
    for (scene_id, query_id), rows in drawn.groupby(["scene_id", "query_id"]).indices.items():
        for row, boxes in zip(rows.tolist(), prompts.of(scene_id, query_id, shapes[rows]), strict=True):
            linked[row] = boxes
    middles = shapely.get_coordinates(shapely.point_on_surface(drawn.geometry.to_numpy())).round(6)
    return {
        "id": drawn["feature_id"].tolist(),
        "query": drawn["query_id"].map(of_query).tolist(),
        "scene": drawn["scene_id"].map(of_scene).tolist(),
        "score": drawn["score"].round(4).tolist(),
        "area": [float(f"{value:.4g}") for value in drawn["area_m2"]],
        "tiles": drawn["n_tiles"].tolist(),
        "edge": drawn["touches_scene_edge"].astype(int).tolist(),
        "at": middles.tolist(),
        "box": [[float(f"{v:.9g}") for v in box] for box in shapely.bounds(shapes).tolist()],
        "why": place.tolist(),
        "texts": [t if len(t) <= most else f"{t[:most]} ..." for t in texts.tolist()],
        "prompts": linked,
    }


def _tiles(
    store: Store,
    manifest: Mapping[str, Any],
    scenes: Sequence[Scene],
    plans: Sequence[ScenePlan],
    frame: MapFrame,
    budget: Budget,
    notes: list[str],
) -> tuple[TileLayer, dict[str, Any]]:
    """The layer, and what the page says of each of its rectangles."""
    query_ids, reasons = [q["query_id"] for q in manifest["queries"]], reasons_of(manifest)
    failed: list[tuple[Scene, Cover]] = []
    others: list[tuple[Scene, Cover]] = []
    for scene, plan in zip(scenes, plans, strict=True):
        finest, *coarser = sorted(plan.grids)
        for level, worst in coverage(store, scene, query_ids, [finest, *coarser]).items():
            for cover in covers(plan.grids[level], worst):
                if cover.status in ALONE:
                    failed.append((scene, cover))
                elif level == finest:
                    others.append((scene, cover))
    every = [*others, *failed[: budget.tiles // 2]]
    if len(every) > budget.tiles:
        every = failed[: budget.tiles // 2]
        notes.append("Too many tiles to draw: of them only those that failed are on the map.")
    if len(failed) > budget.tiles // 2:
        notes.append(f"{len(failed):,} tiles failed; the map shows {budget.tiles // 2:,} of them.")
    layer = TileLayer()
    whys, names = [], []
    for scene, cover in every:
        x0, y0, x1, y1 = cover.window_scene_px
        corners = frame.of_scene(scene, np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], np.float64))
        if np.isfinite(corners).all():
            layer.add(corners.round(2), cover.status)
            names.append(f"{scene.scene_id}/{cover.tile}")
            why = reasons.get(names[-1], ()) if cover.status in ALONE else ()
            whys.append([line[:_REASON_CHARS] for line in why])
    return layer, {"tile": names, "status": layer.statuses, "why": whys}
