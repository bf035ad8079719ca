"""The boxes and points by which the prompter found what the map shows."""

from collections.abc import Mapping, Sequence
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

_COLUMNS = ("key", "level", "row", "col", "window_scene_px", "query", "prompts")
_READERS = 8
_MOST_PER_FEATURE = 24


@dataclass
class Prompts:
    """On the map."""

    boxes: list[list[float]] = field(default_factory=list)
    """Four corners each: x, y, x, y, ..."""
    points: list[list[float]] = field(default_factory=list)
    """Of each box: x, y, x, y, ..."""
    by_place: dict[tuple[str, str], list[int]] = field(default_factory=dict)
    """By scene and query, places in `boxes`."""
    notes: list[str] = field(default_factory=list)

    def of(self, scene_id: str, query_id: str, shapes: NDArray[np.object_]) -> list[list[int]]:
        """For each shape on the map, the boxes of that scene and query that touch it; where none does, the nearest.

        A segmenter's mask may leave its box.
        """
        places = self.by_place.get((scene_id, query_id), [])
        corners = np.array([self.boxes[i] for i in places], np.float64).reshape(-1, 4, 2)
        tree = shapely.STRtree(list(np.asarray(shapely.polygons(corners), object)))
        found: list[list[int]] = [[] for _ in shapes]
        for shape, box in zip(*tree.query(shapes, predicate="intersects").tolist(), strict=True):
            if len(found[shape]) < _MOST_PER_FEATURE:
                found[shape].append(places[box])
        if places:
            far = [i for i, boxes in enumerate(found) if not boxes]
            for shape, box in zip(far, tree.nearest(shapes[far]).tolist(), strict=True):
                found[shape].append(places[box])
        return found


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
    """Of the scenes of `plans`, in their order, until `max_batches` objects were opened or `max_prompts` found."""
    prompts = Prompts()
    by_text = {query.text: query for query in queries}
    left = max_batches
    for plan in plans:
        names = batch_names(store, plan.scene.scene_id)
        with ThreadPoolExecutor(_READERS) as readers:
            for rows in readers.map(lambda name: _rows(store, name, prompts.notes), names[:left]):
                _add(prompts, plan, by_text, rows, frame=frame, decimals=decimals)
        left -= len(names)
        if left < 0 or len(prompts.boxes) >= max_prompts:
            prompts.notes.append(
                f"Boxes and points are shown for a part of the features: those in the first {max_batches:,} objects of "
                "tile results. t2s explain OUT --feature ID shows them for any."
            )
            break
    return prompts


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
    *,
    frame: MapFrame,
    decimals: int,
) -> None:
    """Rows that this plan wants: others are of earlier specifications."""
    for row in rows:
        query, tile = by_text.get(row["query"]), plan.tile(row["level"], row["row"], row["col"])
        if not row["prompts"] or query is None or tile is None or plan.asks(tile, [query])[0].key != row["key"]:
            continue
        x, y = row["window_scene_px"][:2]
        places = prompts.by_place.setdefault((plan.scene.scene_id, query.query_id), [])
        for prompt in row["prompts"]:
            x0, y0, x1, y1 = prompt["box_tile_px"]
            corners = [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
            xy_tile_px = np.array([*corners, *prompt["points_tile_px"]], np.float64)
            on_map = frame.of_scene(plan.scene, xy_tile_px * row["level"] + [x, y]).round(decimals)
            if np.isfinite(on_map).all():
                places.append(len(prompts.boxes))
                prompts.boxes.append(on_map[:4].ravel().tolist())
                prompts.points.append(on_map[4:].ravel().tolist())
