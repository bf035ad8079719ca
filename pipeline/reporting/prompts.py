"""The boxes and points by which the prompter found what the map shows."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from pipeline.plan import ScenePlan
from pipeline.queries import Query
from pipeline.reporting.frame import MapFrame
from pipeline.results import batch_names, read_rows
from pipeline.storage import Store
from t2s_core.errors import MachineFault

Floats = NDArray[np.float64]

_COLUMNS = ("key", "level", "row", "col", "window_scene_px", "query", "prompts")
_READERS = 8
_MOST_PER_FEATURE = 24
_FOR_ANY = "t2s explain OUT --feature ID shows them for any."


@dataclass
class _Placed:
    """Of one scene and query, on the map."""

    corners: list[Floats] = field(default_factory=list)
    """(4, 2) each."""
    points: list[Floats] = field(default_factory=list)
    """(n, 2) of each box."""


@dataclass
class Prompts:
    """On the map; of all that were read those that belong to a feature that is drawn."""

    most: int
    """Boxes that may be shown."""
    decimals: int
    """To which coordinates are rounded."""
    read: dict[tuple[str, str], _Placed] = field(default_factory=dict)
    """By scene and query."""
    whole: set[str] = field(default_factory=set)
    """Scenes of which all tile results were read."""
    boxes: list[list[float]] = field(default_factory=list)
    """What is shown: four corners each: x, y, x, y, ..."""
    points: list[list[float]] = field(default_factory=list)
    """Of each of `boxes`: x, y, x, y, ..."""
    notes: list[str] = field(default_factory=list)

    def of(self, scene_id: str, query_id: str, shapes: NDArray[np.object_]) -> list[list[int]]:
        """For each shape on the map, places in `boxes`: those of that scene and query that touch it.

        Where none does, the nearest, for a segmenter's mask may leave its box; but only of scenes that were read whole:
        else the right one may be among those that were not.
        """
        mine = self.read.get((scene_id, query_id))
        if mine is None:
            return [[] for _ in shapes]
        tree = shapely.STRtree(list(np.asarray(shapely.polygons(np.stack(mine.corners)), object)))
        touching: list[list[int]] = [[] for _ in shapes]
        for shape, box in zip(*tree.query(shapes, predicate="intersects").tolist(), strict=True):
            if len(touching[shape]) < _MOST_PER_FEATURE:
                touching[shape].append(box)
        if scene_id in self.whole:
            far = [i for i, boxes in enumerate(touching) if not boxes]
            for shape, box in zip(far, tree.nearest(shapes[far]).tolist(), strict=True):
                touching[shape].append(box)
        shown: dict[int, int] = {}
        return [[place for box in boxes if (place := self._show(mine, box, shown)) is not None] for boxes in touching]

    def _show(self, mine: _Placed, box: int, shown: dict[int, int]) -> int | None:
        """The box's place in `boxes`; None where these are full."""
        if box not in shown:
            if len(self.boxes) >= self.most:
                said = f"Boxes and points are shown for a part of the features: {self.most:,} boxes. {_FOR_ANY}"
                self.notes += [] if said in self.notes else [said]
                return None
            shown[box] = len(self.boxes)
            self.boxes.append(mine.corners[box].round(self.decimals).ravel().tolist())
            self.points.append(mine.points[box].round(self.decimals).ravel().tolist())
        return shown[box]


def read_prompts(
    store: Store,
    plans: Sequence[ScenePlan],
    queries: Sequence[Query],
    frame: MapFrame,
    *,
    max_batches: int,
    max_prompts: int,
    decimals: int,
) -> Prompts:
    """Of the scenes of `plans`, from at most `max_batches` objects of tile results, of which each scene has its share.

    `max_prompts`: how many may be shown.
    """
    prompts = Prompts(max_prompts, decimals)
    by_text = {query.text: query for query in queries}
    left, n_all, n_read = max_batches, 0, 0
    for i, plan in enumerate(plans):
        names = batch_names(store, plan.scene.scene_id)
        chosen = _evenly(names, left // (len(plans) - i))
        left, n_all, n_read = left - len(chosen), n_all + len(names), n_read + len(chosen)
        if len(chosen) == len(names):
            prompts.whole.add(plan.scene.scene_id)
        with ThreadPoolExecutor(_READERS) as readers:
            for rows in readers.map(lambda name: _rows(store, name, prompts.notes), chosen):
                _add(prompts, plan, by_text, rows, frame)
    if n_read < n_all:
        prompts.notes.append(
            f"Boxes and points are shown for a part of the features: those in {n_read:,} of {n_all:,} objects of tile "
            f"results. {_FOR_ANY}"
        )
    return prompts


def _evenly(names: Sequence[str], n: int) -> list[str]:
    """At most `n` of them, equally far apart: of every level, and of a level by their hash."""
    places = np.linspace(0, len(names) - 1, min(n, len(names))).astype(np.intp).tolist()
    return [names[i] for i in places]


def _rows(store: Store, name: str, notes: list[str]) -> list[dict[str, Any]]:
    try:
        return read_rows(store, name, _COLUMNS)
    except MachineFault as fault:
        notes.append(str(fault))
        return []


def _add(
    prompts: Prompts,
    plan: ScenePlan,
    by_text: Mapping[str, Query],
    rows: Sequence[Mapping[str, Any]],
    frame: MapFrame,
) -> None:
    of_query, points_scene_px = [], []
    for query, row, prompt in _wanted(plan, by_text, rows):
        x0, y0, x1, y1 = prompt["box_tile_px"]
        xy_tile_px = np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1), *prompt["points_tile_px"]], np.float64)
        of_query.append(query.query_id)
        points_scene_px.append(xy_tile_px * row["level"] + row["window_scene_px"][:2])
    if not of_query:
        return
    on_map = frame.of_scene(plan.scene, np.concatenate(points_scene_px))
    ends = np.cumsum([len(xy) for xy in points_scene_px])
    for query_id, xy in zip(of_query, np.split(on_map, ends[:-1]), strict=True):
        if np.isfinite(xy).all():
            placed = prompts.read.setdefault((plan.scene.scene_id, query_id), _Placed())
            placed.corners.append(xy[:4])
            placed.points.append(xy[4:])


def _wanted(
    plan: ScenePlan, by_text: Mapping[str, Query], rows: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[Query, Mapping[str, Any], Mapping[str, Any]]]:
    """Prompts of rows that this plan wants: others are of earlier specifications."""
    for row in rows:
        query = by_text.get(row["query"])
        if not row["prompts"] or query is None:
            continue
        tile = plan.tile(row["level"], row["row"], row["col"])
        if tile is not None and plan.asks(tile, [query])[0].key == row["key"]:
            for prompt in row["prompts"]:
                yield query, row, prompt
