"""Objects across scenes: `objects/query_id=<slug>/part-0.parquet`, in which what several scenes saw is one row.

Derived from `features/`, one table per query. Features of two scenes are compared on the ground that both looked at,
by area. Where is it one object?

- semantic: they share more than half of the smaller one's part there. Whatever hangs together in this way is one
  object, as connected pixels are within a scene; a sliver of bad registration does not connect neighbours.
- instance: by the law of `pipeline.link`, with scenes in the place of tiles: one-to-one and not handed on.

Its outline is the union of what the scenes saw; a scene that looked at the place and saw nothing takes nothing away
(what is newest is for `t2s latest` to say).
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import shapely
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from pipeline import features
from pipeline.footprints import looked_at
from pipeline.geodesy import areas_m2, geographic_crs
from pipeline.geoparquet import GEOMETRY_FIELDS, ROWS_PER_GROUP, created, geometry_columns, hilbert_order
from pipeline.georef import proj_crs
from pipeline.link import Ground, Instance, link
from pipeline.queries import Mode, Query
from pipeline.scenes import Scene
from pipeline.storage import Store
from pipeline.tiling import TileKey

FOLDER = "objects"
SCHEMA_VERSION = "1"
FINGERPRINT = "t2s:fingerprint"
"""Metadata of a file: of what its rows were made of."""
_PAIRS_AT_ONCE = 20_000
_OF_FEATURES = ("query", "label", "reasoning", "prompter", "segmenter", "run_id")
SCHEMA = pa.schema(
    [
        pa.field("object_id", pa.string(), nullable=False),
        pa.field("query", pa.string(), nullable=False),
        pa.field("label", pa.string()),
        pa.field("datetime", pa.timestamp("us", tz="UTC")),
        *GEOMETRY_FIELDS,
        pa.field("area_m2", pa.float64(), nullable=False),
        pa.field("score", pa.float64(), nullable=False),
        pa.field("n_scenes", pa.int32(), nullable=False),
        pa.field("scene_ids", pa.list_(pa.string()), nullable=False),
        pa.field("feature_ids", pa.list_(pa.string()), nullable=False),
        pa.field("reasoning", pa.string(), nullable=False),
        pa.field("prompter", pa.string(), nullable=False),
        pa.field("segmenter", pa.string(), nullable=False),
        pa.field("run_id", pa.string(), nullable=False),
    ]
)
"""`datetime` is the newest of the features', `score` their mean by area; what else is of one is of the largest."""


def partition_name(query_id: str) -> str:
    """The object that holds all objects of a query."""
    return f"{FOLDER}/query_id={query_id}/part-0.parquet"


def write_objects(store: Store, scenes: Sequence[Scene], query: Query, mode: Mode) -> int:
    """Merge a query's features across scenes, unless that is done already; returns how many objects there are.

    `scenes`: all of the run, whose features are finished. Memory holds boxes and numbers of all features of the query,
    and the geometries of a batch of neighbours.
    """
    parts = parts_of(store, scenes, query.query_id)
    name, fingerprint = partition_name(query.query_id), fingerprint_of(parts, mode)
    if store.exists(name):
        with store.fs.open(store.path(name), "rb") as file:
            there = pq.ParquetFile(file)
            if (there.schema_arrow.metadata or {}).get(FINGERPRINT.encode()) == fingerprint.encode():
                return int(there.metadata.num_rows)
    rows = FeatureRows(parts, query.query_id)
    owner = objects_of(rows, mode)
    crs = geographic_crs(proj_crs(scenes[0].geobox))
    metadata = {"t2s:schema_version": SCHEMA_VERSION, FINGERPRINT: fingerprint, "t2s:mode": mode}
    n = 0
    with created(store, name, SCHEMA, crs, metadata) as file:
        for members in _batches(rows, owner):
            table = _table(rows, members, owner[members], crs)
            file.add(table)
            n += table.num_rows
    return n


@dataclass(frozen=True)
class ScenePart:
    """The features of one scene."""

    store: Store
    scene: Scene
    name: str
    fingerprint: str
    group_ends: NDArray[np.int64]
    """By row group, one past its last row."""

    @classmethod
    def at(cls, store: Store, scene: Scene, query_id: str) -> "ScenePart":
        """Reads the file's end alone."""
        name = features.partition_name(scene.scene_id, query_id)
        with store.fs.open(store.path(name), "rb") as file:
            there = pq.ParquetFile(file)
            sizes = [there.metadata.row_group(i).num_rows for i in range(there.metadata.num_row_groups)]
            fingerprint = (there.schema_arrow.metadata or {})[FINGERPRINT.encode()].decode()
        return cls(store, scene, name, fingerprint, np.cumsum(sizes, dtype=np.int64))

    def column(self, name: str) -> pa.ChunkedArray:
        """One column of all rows."""
        with self.store.fs.open(self.store.path(self.name), "rb") as file:
            return pq.read_table(file, columns=[name])[name]

    def group(self, group: int) -> pa.Table:
        """All columns of a row group."""
        with self.store.fs.open(self.store.path(self.name), "rb") as file:
            return pq.ParquetFile(file).read_row_group(group)


def parts_of(store: Store, scenes: Sequence[Scene], query_id: str) -> list[ScenePart]:
    """The partitions of a query, one per scene. Raises what reading raises where one is missing or damaged."""
    return [ScenePart.at(store, scene, query_id) for scene in scenes]


def fingerprint_of(parts: Sequence[ScenePart], mode: Mode) -> str:
    """Of all that a query's objects follow from."""
    facts = [SCHEMA_VERSION, mode, sorted([part.scene.scene_id, part.fingerprint] for part in parts)]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]


class FeatureRows:
    """The features of all scenes, numbered through."""

    def __init__(self, partitions: Sequence[ScenePart], query_id: str) -> None:
        self.partitions = partitions
        # Of this object and no longer: another run in this process may have replaced what lies there.
        self._group = lru_cache(maxsize=16)(lambda k, group: partitions[k].group(group))
        self._looked_at = lru_cache(maxsize=64)(lambda k: looked_at(partitions[k].store, partitions[k].scene, query_id))
        boxes = [p.column("bbox").combine_chunks() for p in partitions]
        corners = [np.column_stack([box.field(i).to_numpy() for i in range(4)]) for box in boxes]
        self.boxes: NDArray[np.float64] = np.concatenate([*corners, np.empty((0, 4))])
        self.partition = np.repeat(np.arange(len(partitions)), [len(c) for c in corners])
        self.first = np.searchsorted(self.partition, np.arange(len(partitions)))

    def __len__(self) -> int:
        return len(self.boxes)

    def outlines(self) -> NDArray[np.object_]:
        """(n,) the boxes as polygons."""
        return np.asarray(shapely.box(*self.boxes.T), object)

    def take(self, numbers: NDArray[np.int64]) -> pa.Table:
        """All columns of features, in the order asked for, and `scene_id`."""
        tables, places = [], []
        for k in np.unique(self.partition[numbers]).tolist():
            of_scene = np.flatnonzero(self.partition[numbers] == k)
            rows, ends = numbers[of_scene] - self.first[k], self.partitions[k].group_ends
            groups = np.searchsorted(ends, rows, side="right")
            for group in np.unique(groups).tolist():
                here = groups == group
                start = 0 if group == 0 else int(ends[group - 1])
                table = self._group(k, group).take(pa.array(rows[here] - start)).replace_schema_metadata(None)
                scene_id = pa.repeat(self.partitions[k].scene.scene_id, table.num_rows)
                tables.append(table.append_column("scene_id", scene_id))
                places.append(of_scene[here])
        return pa.concat_tables(tables).take(pa.array(np.argsort(np.concatenate(places))))

    def shared_ground(self, one: int, other: int) -> shapely.Geometry:
        """What two scenes both looked at, in degrees."""
        ground = shapely.intersection(self._looked_at(one), self._looked_at(other))
        shapely.prepare(ground)
        return ground


def objects_of(rows: FeatureRows, mode: Mode) -> NDArray[np.int64]:
    """By feature, the number of its object."""
    n = len(rows)
    pairs = _neighbours(rows)
    if not len(pairs):
        return np.arange(n)
    shared, of_one, of_other = _common(rows, pairs)
    some = shared > 0
    pairs, shared, of_one, of_other = pairs[some], shared[some], of_one[some], of_other[some]
    if mode == "instance":
        same = _linked(rows, pairs, shared, of_one, of_other)
    else:
        same = pairs[shared > np.minimum(of_one, of_other) / 2]
    graph = coo_array((np.ones(len(same), np.int8), (same[:, 0], same[:, 1])), shape=(n, n))
    owner: NDArray[np.int64] = connected_components(graph, directed=False)[1].astype(np.int64)
    return owner


def _neighbours(rows: FeatureRows) -> NDArray[np.int64]:
    """(n, 2): features of different scenes whose boxes meet, each pair once, neighbours after each other."""
    boxes = rows.outlines()
    one, other = shapely.STRtree(boxes).query(boxes)
    wanted = (one < other) & (rows.partition[one] != rows.partition[other])
    pairs = np.column_stack([one[wanted], other[wanted]])
    return pairs[hilbert_order(boxes[pairs[:, 0]])]


def _common(
    rows: FeatureRows, pairs: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """By pair, in square degrees (they are compared in one place): what both share; what each has where both looked."""
    found = [_common_of_batch(rows, pairs[i : i + _PAIRS_AT_ONCE]) for i in range(0, len(pairs), _PAIRS_AT_ONCE)]
    shared, of_one, of_other = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return shared, of_one, of_other


def _common_of_batch(
    rows: FeatureRows, pairs: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    numbers, place = np.unique(pairs, return_inverse=True)
    shapes = shapely.from_wkb(rows.take(numbers)["geometry"].to_numpy(zero_copy_only=False))[place.reshape(pairs.shape)]
    shared = shapely.area(shapely.intersection(shapes[:, 0], shapes[:, 1]))
    seen = np.zeros(pairs.shape)
    scenes = rows.partition[pairs]
    for a, b in np.unique(scenes, axis=0).tolist():
        ground = rows.shared_ground(a, b)
        here = np.flatnonzero((scenes == (a, b)).all(axis=1))
        for side in (0, 1):
            mine = shapes[here, side]
            inside = shapely.covers(ground, mine)
            mine[~inside] = shapely.intersection(mine[~inside], ground)
            seen[here, side] = shapely.area(mine)
    return shared, seen[:, 0], seen[:, 1]


def _linked(
    rows: FeatureRows,
    pairs: NDArray[np.int64],
    shared: NDArray[np.float64],
    of_one: NDArray[np.float64],
    of_other: NDArray[np.float64],
) -> NDArray[np.int64]:
    """(n, 2): pairs of features that are of one object by the law of `pipeline.link`.

    Features that nothing connects are linked apart, so that the tables of who shares what with whom stay small.
    """
    n = len(rows)
    graph = coo_array((np.ones(len(pairs), np.int8), (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    cluster = connected_components(graph, directed=False)[1][pairs[:, 0]]
    order = np.argsort(cluster, kind="stable")
    same: list[tuple[int, int]] = []
    for group in np.split(order, np.flatnonzero(np.diff(cluster[order])) + 1):
        ground, feature_of = _ground_of(rows, pairs[group], shared[group], of_one[group], of_other[group])
        same += [(feature_of[instance], feature_of[first]) for instance, first in link(ground).items()]
    return np.array(same, np.int64).reshape(-1, 2)


def _ground_of(
    rows: FeatureRows,
    pairs: NDArray[np.int64],
    shared: NDArray[np.float64],
    of_one: NDArray[np.float64],
    of_other: NDArray[np.float64],
) -> tuple[Ground, dict[Instance, int]]:
    """The features as instances of their scenes, areas in the place of pixels."""
    instance_of: dict[int, Instance] = {}
    count: dict[int, int] = {}
    for number in np.unique(pairs).tolist():
        k = int(rows.partition[number])
        count[k] = count.get(k, 0) + 1
        instance_of[number] = Instance(TileKey(f"{k:09}", 1, 0, 0), count[k])
    ground: dict[tuple[TileKey, TileKey], Any] = {}
    for (one, other), both, a, b in zip(pairs.tolist(), shared, of_one, of_other, strict=True):
        mine, theirs = instance_of[one], instance_of[other]
        shape = (count[int(rows.partition[one])] + 1, count[int(rows.partition[other])] + 1)
        areas = ground.setdefault((mine.tile, theirs.tile), np.zeros(shape))
        areas[mine.number, theirs.number] = both
        areas[mine.number, 0], areas[0, theirs.number] = a, b
    for areas in ground.values():  # what a feature shares with none
        areas[1:, 0] = np.maximum(areas[1:, 0] - areas[1:, 1:].sum(axis=1), 0)
        areas[0, 1:] = np.maximum(areas[0, 1:] - areas[1:, 1:].sum(axis=0), 0)
    return ground, {instance: number for number, instance in instance_of.items()}


def _batches(rows: FeatureRows, owner: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Numbers of features, all of an object together and next to each other, about a row group at a time."""
    if not len(rows):
        return
    _, first = np.unique(owner, return_index=True)
    along = np.empty(len(first), np.int64)
    along[hilbert_order(rows.outlines()[first])] = np.arange(len(first))
    order = np.lexsort((np.arange(len(rows)), along[owner]))
    start = 0
    while start < len(order):
        end = min(start + ROWS_PER_GROUP, len(order))
        while end < len(order) and owner[order[end]] == owner[order[end - 1]]:
            end += 1
        yield order[start:end]
        start = end


def _table(rows: FeatureRows, members: NDArray[np.int64], owner: NDArray[np.int64], crs: Any) -> pa.Table:  # noqa: ANN401 -- pyproj's CRS
    """One row per object; `members` of one object lie next to each other."""
    found = rows.take(members)
    start = np.flatnonzero(np.concatenate(([True], owner[1:] != owner[:-1])))
    shapes = shapely.from_wkb(found["geometry"].to_numpy(zero_copy_only=False))
    area = found["area_m2"].to_numpy()
    whole = shapes[start]
    several = np.flatnonzero(np.diff(np.append(start, len(members))) > 1)
    bounds = np.append(start, len(members))
    for i in several.tolist():
        whole[i] = shapely.union_all(shapes[bounds[i] : bounds[i + 1]])
    whole = shapely.orient_polygons(whole, exterior_cw=False)
    areas = area[start].copy()
    areas[several] = areas_m2(whole[several], crs)
    largest = np.array([a + int(np.argmax(area[a:b])) for a, b in pairwise(bounds.tolist())], np.int64)
    of_members = {name: found[name].to_pylist() for name in ("feature_id", "scene_id", "datetime")}
    names = [_members(of_members, a, b) for a, b in pairwise(bounds.tolist())]
    columns = {
        **{name: found[name].take(pa.array(largest)).combine_chunks() for name in _OF_FEATURES},
        **geometry_columns(whole),
        "area_m2": areas,
        "score": np.add.reduceat(found["score"].to_numpy() * area, start) / np.add.reduceat(area, start),
        **{key: [entry[key] for entry in names] for key in names[0]},
    }
    return pa.table({name: columns[name] for name in SCHEMA.names}, schema=SCHEMA)


def object_id(feature_ids: Sequence[str]) -> str:
    """16 hex digits that follow from the sorted ids of an object's features, and from nothing else."""
    return hashlib.blake2b("".join(feature_ids).encode(), digest_size=8).hexdigest()


def _members(columns: Mapping[str, list[Any]], start: int, end: int) -> dict[str, Any]:
    ids, scene_ids = (sorted(set(columns[name][start:end])) for name in ("feature_id", "scene_id"))
    dates = [date for date in columns["datetime"][start:end] if date is not None]
    return {
        "object_id": object_id(ids),
        "datetime": max(dates, default=None),
        "n_scenes": len(scene_ids),
        "scene_ids": scene_ids,
        "feature_ids": ids,
    }
