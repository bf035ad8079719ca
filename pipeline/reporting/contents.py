"""What the map of a run shows, and what the page's script knows of it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import groupby
from typing import Any, Self

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
from pipeline.reporting.frame import NEAR_M, MapFrame, frame_of
from pipeline.reporting.pictures import Quicklook, Shown, quicklooks
from pipeline.reporting.prompts import Prompts, read_prompts
from pipeline.reporting.shapes import rings, simplified
from pipeline.reporting.tiles import ALONE, Cover, coarseness, coverage, covers, faults, reasons_of
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


@dataclass(frozen=True)
class Plane:
    """Scenes on the map."""

    scenes: Sequence[Scene]
    frame: MapFrame
    outlines: Sequence[NDArray[np.float64]]

    @classmethod
    def of(cls, scenes: Sequence[Scene]) -> Self:
        """Of at least one."""
        frame = frame_of(scenes)
        return cls(scenes, frame, [frame.outline(scene) for scene in scenes])

    @cached_property
    def boxes(self) -> list[Box]:
        """Of the outlines."""
        return [_box(outline) for outline in self.outlines]

    @cached_property
    def pixel_m(self) -> dict[str, float]:
        """By scene, the side of a pixel, about."""
        sides = zip(self.scenes, self.boxes, strict=True)
        return {s.scene_id: max(b[2] - b[0], b[3] - b[1], 1e-6) / max(s.shape) for s, b in sides}

    @property
    def decimals(self) -> int:
        """To which coordinates are rounded: a tenth of a pixel."""
        return max(0, int(np.ceil(-np.log10(min(self.pixel_m.values()) / 10))))

    def view(self) -> Box:
        """All scenes where they fill some of the map, else one, an upright one where there is one."""
        upright = [b for s, b in zip(self.scenes, self.boxes, strict=True) if self.frame.is_upright(s)]
        return first_view([*upright, *self.boxes])

    def described(self, n_features: Mapping[str, int]) -> list[dict[str, Any]]:
        """What the page's script knows of the scenes."""
        return [
            {"id": s.scene_id, "n": n_features.get(s.scene_id, 0), "box": box}
            for s, box in zip(self.scenes, self.boxes, strict=True)
        ]


def map_of_run(
    store: Store,
    manifest: Mapping[str, Any],
    shown: Sequence[Shown],
    *,
    found: Found,
    inks: Mapping[str, Ink],
    budget: Budget,
    plans: Sequence[ScenePlan],
    truth: Mapping[str, gpd.GeoDataFrame] | None,
) -> MapContent:
    """`shown`: the scenes that are drawn, with their `plans`; at least one."""
    plane = Plane.of([one.scene for one in shown])
    frame, decimals = plane.frame, plane.decimals
    notes = _what_is_left_out(found, n_scenes=len(manifest["scenes"]))
    queries = [Query(query_id=q["query_id"], text=q["query"]) for q in manifest["queries"]]
    with ThreadPoolExecutor(1) as beside:  # pictures take longest, and far away they are mostly waited for
        pictures = beside.submit(
            quicklooks, shown, frame, max_bytes=budget.picture_bytes, decode_mpx=budget.decode_mpx,
            way_out="t2s report draws it, ",
        )  # fmt: skip
        detail = found.drawn["scene_id"].map(plane.pixel_m).to_numpy(np.float64) * _DETAIL
        shapes = simplified(frame.of_frame(found.drawn), detail, budget.vertices)
        prompts = read_prompts(
            store, plans if len(found.drawn) else (), queries, frame,
            max_batches=budget.batches, max_prompts=budget.prompts, decimals=decimals,
        )  # fmt: skip
        covers_of = _covers(store, plans, [q.query_id for q in queries], budget, notes)
        tiles, said = tile_layer(frame, covers_of, reasons_of(manifest))
        table = _table(found.drawn, shapes, manifest, plane.scenes, prompts=prompts, max_chars=budget.text_chars)
        looks, of_pictures = pictures.result()
    data = {
        "out": store.url,
        "queries": described_queries(queries, inks, {q: s.n for q, s in found.by_query.items()}),
        "scenes": plane.described(found.by_scene),
        "features": table,
        "prompts": {"boxes": prompts.boxes, "points": prompts.points},
        "tiles": {**said, "n_failed": len({failure["tile"] for failure in manifest["failures"]})},
        "shapes": _by_query(found.drawn, shapes, queries, decimals),
        "truth": None if truth is None else _truth(truth, plane, budget.vertices),
    }
    return content(plane, looks, tiles, inks=inks, data=data, notes=[*notes, *prompts.notes, *of_pictures])


def content(
    plane: Plane,
    looks: Sequence[Quicklook],
    tiles: TileLayer,
    *,
    inks: Mapping[str, Ink],
    data: Mapping[str, Any],
    notes: Sequence[str],
) -> MapContent:
    """The figure with its data."""
    view, whole = plane.view(), around(plane.boxes)
    layers = Layers(
        plane.outlines, looks, tiles, query_ids=list(inks), truth=data["truth"] is not None,
        scaled=max(whole[2] - whole[0], whole[3] - whole[1]) < 2 * NEAR_M,
    )  # fmt: skip
    shown = {**data, "view": view, "all": whole}
    return MapContent(draw(layers, inks, view), shown, notes, looks)


def described_queries(
    queries: Sequence[Query], inks: Mapping[str, Ink], n_features: Mapping[str, int]
) -> list[dict[str, Any]]:
    """What the page's script knows of the queries."""
    return [
        {"id": q.query_id, "text": q.text, "n": n_features.get(q.query_id, 0), **asdict(inks[q.query_id])}
        for q in queries
    ]


def _what_is_left_out(found: Found, *, n_scenes: int) -> list[str]:
    notes = []
    if len(found.drawn) < found.n:
        notes.append(
            f"{found.n:,} features; the map and the table show {len(found.drawn):,} of them, evenly sampled. "
            "features/ has them all."
        )
    if len(found.scenes) < n_scenes:
        notes.append(
            f"{n_scenes:,} scenes, of which {len(found.scenes)} are drawn: those with failures first, then those with "
            "most features."
        )
    return notes


def first_view(boxes: Sequence[Box]) -> Box:
    """All scenes where they fill some of their common box, else the first; a box may come twice."""
    whole = around(boxes)
    filled = sum((b[2] - b[0]) * (b[3] - b[1]) for b in set(boxes))
    area = (whole[2] - whole[0]) * (whole[3] - whole[1])
    return whole if filled >= _MIN_SHARE * area else around(boxes[:1])


def around(boxes: Sequence[Box]) -> Box:
    """What holds all boxes, with a margin."""
    every = np.array(boxes)
    (left, bottom), (right, top) = every[:, :2].min(axis=0).tolist(), every[:, 2:].max(axis=0).tolist()
    margin = _MARGIN * max(right - left, top - bottom, 1e-6)
    return left - margin, bottom - margin, right + margin, top + margin


def _box(outline: NDArray[np.float64]) -> Box:
    if not len(outline):
        return 0.0, 0.0, 0.0, 0.0
    (left, bottom), (right, top) = outline.min(axis=0).tolist(), outline.max(axis=0).tolist()
    return left, bottom, right, top


def _by_query(
    drawn: gpd.GeoDataFrame, shapes: NDArray[np.object_], queries: Sequence[Query], decimals: int
) -> list[dict[str, Any]]:
    """Columns of each query's layer."""
    rows = [np.flatnonzero(drawn["query_id"].to_numpy() == q.query_id) for q in queries]
    return [{**rings(shapes[mine], decimals), "row": mine.tolist()} for mine in rows]


def _truth(truth: Mapping[str, gpd.GeoDataFrame], plane: Plane, max_vertices: int) -> dict[str, Any]:
    both = [(s.scene_id, plane.frame.of_frame(truth[s.scene_id])) for s in plane.scenes if s.scene_id in truth]
    shapes = np.concatenate([np.empty(0, object), *(shapes for _, shapes in both)])
    detail = np.concatenate([np.empty(0), *(np.full(len(some), plane.pixel_m[s] * _DETAIL) for s, some in both)])
    return rings(simplified(shapes, detail, max_vertices), plane.decimals)


def _table(
    drawn: gpd.GeoDataFrame,
    shapes: NDArray[np.object_],
    manifest: Mapping[str, Any],
    scenes: Sequence[Scene],
    *,
    prompts: Prompts,
    max_chars: int,
) -> dict[str, Any]:
    """By column; what repeats is written once."""
    of_query = {q["query_id"]: i for i, q in enumerate(manifest["queries"])}
    of_scene = {scene.scene_id: i for i, scene in enumerate(scenes)}
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


def _covers(
    store: Store, plans: Sequence[ScenePlan], query_ids: Sequence[str], budget: Budget, notes: list[str]
) -> Iterator[tuple[Scene, Cover]]:
    """Of the finest level all, of coarser ones what failed. What had to be put together is added to `notes`."""
    found = [
        (plan, level, worst)
        for plan in plans
        for level, worst in coverage(store, plan.scene, query_ids, sorted(plan.grids)).items()
    ]
    finest = [(plan, plan.grids[level], worst) for plan, level, worst in found if level == min(plan.grids)]
    every = [(plan, plan.grids[level], worst) for plan, level, worst in found]
    for kind, some, most in ((covers, finest, budget.tiles), (faults, every, budget.tiles // 2)):
        factor = coarseness([(grid, worst) for _, grid, worst in some], most, kind)
        if factor > 1:
            notes.append(said_blocks(factor, "what failed in them" if kind is faults else "the other tiles"))
        for plan, grid, worst in some:
            yield from ((plan.scene, cover) for cover in kind(grid, worst, factor))


def said_blocks(factor: int, what: str) -> str:
    """That tiles are not drawn one by one."""
    return (
        f"There are too many tiles to draw one by one: the map shows {what} by blocks of {factor} x {factor} tiles, "
        "each by what came of the tile in it that matters most."
    )


def tile_layer(
    frame: MapFrame, every: Iterable[tuple[Scene, Cover]], reasons: Mapping[str, Sequence[str]]
) -> tuple[TileLayer, dict[str, Any]]:
    """The layer, and what the page says of each of its rectangles."""
    layer, whys, names = TileLayer(), [], []
    for _, of_scene in groupby(every, key=lambda entry: entry[0].scene_id):
        (scene, *_), some = zip(*of_scene, strict=True)
        edges = np.array([cover.window_scene_px for cover in some], np.float64)
        corners = frame.of_scene(scene, edges[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 2)).reshape(-1, 4, 2)
        for cover, around_it in zip(some, corners, strict=True):
            if np.isfinite(around_it).all():
                layer.add(around_it.round(2), cover.status)
                names.append(f"{scene.scene_id}/{cover.tile}")
                why = reasons.get(names[-1], ()) if cover.status in ALONE else ()
                whys.append([line[:_REASON_CHARS] for line in why])
    return layer, {"tile": names, "status": layer.statuses, "why": whys}
