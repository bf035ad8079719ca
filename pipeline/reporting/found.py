"""What a report says of a run's features: figures of all of them, and some to look at.

Of all features only score and area are looked at, one partition at a time; of the drawn ones everything.
"""

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import geopandas as gpd
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import shapely
from numpy.typing import NDArray
from pyproj import CRS

from pipeline.features import FOLDER, SCHEMA, partition_name
from pipeline.geodesy import CRS84, geographic_crs
from pipeline.georef import proj_crs
from pipeline.scenes import Scene
from pipeline.storage import Store

Floats = NDArray[np.float64]

SCORE_BINS = np.linspace(0, 1, 21)
AREA_BINS = np.logspace(-2, 12, 57)
"""Square metres; four bins to a factor of ten."""
_READERS = 8
_IDS = ("query_id", "scene_id")
_NONE = pa.array([], pa.string())
_MIDDLES = np.linspace(0, 1, 1001)
"""Bins fine enough to find a median score without keeping all scores."""


@dataclass
class Statistics:
    """Of all features of one query."""

    n: int = 0
    n_scenes: int = 0
    area_m2: float = 0.0
    score_area_m2: float = 0.0
    scores: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(SCORE_BINS) - 1, np.int64))
    """By bin of `SCORE_BINS`."""
    areas: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(AREA_BINS) - 1, np.int64))
    """By bin of `AREA_BINS`; what lies beyond counts in the outermost."""
    _fine: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(_MIDDLES) - 1, np.int64))

    @property
    def score(self) -> float | None:
        """Mean over the area of all features; None where there are none."""
        return self.score_area_m2 / self.area_m2 if self.area_m2 else None

    @property
    def median_score(self) -> float:
        """To a thousandth; 0 where there are no features."""
        place = int(np.searchsorted(np.cumsum(self._fine), (self.n + 1) // 2))
        return float(_MIDDLES[place]) if self.n else 0.0

    def add(self, score: Floats, area_m2: Floats) -> None:
        """All features of one scene."""
        self.n += len(score)
        self.n_scenes += bool(len(score))
        self.area_m2 += float(area_m2.sum())
        self.score_area_m2 += float(score @ area_m2)
        self.scores += np.histogram(score, SCORE_BINS)[0]
        self.areas += np.histogram(area_m2.clip(AREA_BINS[0], AREA_BINS[-1]), AREA_BINS)[0]
        self._fine += np.histogram(score, _MIDDLES)[0]


@dataclass(frozen=True)
class Found:
    """The features of a run, as its report knows them."""

    by_query: Mapping[str, Statistics]
    by_scene: Mapping[str, int]
    """Features of each scene, over all queries."""
    scenes: Sequence[str]
    """Those that are drawn."""
    drawn: gpd.GeoDataFrame
    """Columns of `features.SCHEMA`, `query_id`, `scene_id`; at most as many as asked for, and those of `gallery`."""
    gallery: Mapping[str, Sequence[tuple[str, int]]]
    """By query: (`best`, `median` or `worst`, row of `drawn`)."""

    @property
    def n(self) -> int:
        """All features."""
        return sum(statistics.n for statistics in self.by_query.values())


def find(
    store: Store,
    manifest: Mapping[str, Any],
    *,
    max_drawn: int,
    max_scenes: int,
    failed: AbstractSet[str],
    per_kind: int,
) -> Found:
    """Look at all features of the manifest's queries and scenes.

    `max_drawn`: rows to draw, evenly sampled along each file, whose order runs along the Hilbert curve. `max_scenes`:
    whose features are drawn: first the `failed` ones, then those with most features. `per_kind`: how many of each kind
    a query's gallery has.
    """
    query_ids = [q["query_id"] for q in manifest["queries"]]
    there = set(store.names(FOLDER, ".parquet"))
    wanted = [(q, s["scene_id"]) for s in manifest["scenes"] for q in query_ids]
    partitions = [(q, s, partition_name(s, q)) for q, s in wanted if partition_name(s, q) in there]
    by_query = {query_id: Statistics() for query_id in query_ids}
    by_scene = {s["scene_id"]: 0 for s in manifest["scenes"]}
    sizes, extremes = [], []
    for number, (score, area_m2) in enumerate(_scores(store, [name for _, _, name in partitions])):
        query_id, scene_id, _ = partitions[number]
        by_query[query_id].add(score, area_m2)
        by_scene[scene_id] += len(score)
        sizes.append(len(score))
        order = np.argsort(score, kind="stable")
        ends = np.unique(np.concatenate([order[:per_kind], order[-per_kind:]])) if len(order) else order
        extremes.append([(float(score[i]), number, int(i)) for i in ends])
    scenes = sorted(by_scene, key=lambda scene_id: (scene_id not in failed, -by_scene[scene_id]))[:max_scenes]
    drawn_ones = [scene_id in set(scenes) for _, scene_id, _ in partitions]
    chosen = _evenly([n if is_drawn else 0 for n, is_drawn in zip(sizes, drawn_ones, strict=True)], max_drawn)
    for query_id in query_ids:
        mine = sorted(e for i, found in enumerate(extremes) if drawn_ones[i] and partitions[i][0] == query_id
                      for e in found)  # fmt: skip
        for _, partition, row in [*mine[:per_kind], *mine[-per_kind:]]:
            chosen.setdefault(partition, set()).add(row)
    first = Scene.from_json(dict(manifest["scenes"][0])) if manifest["scenes"] else None
    drawn = _rows(store, partitions, chosen, CRS84 if first is None else geographic_crs(proj_crs(first.geobox)))
    shown = {q: _gallery(drawn, q, by_query[q], per_kind) for q in query_ids}
    return Found(by_query, by_scene, scenes, drawn, shown)


def _scores(store: Store, names: Sequence[str]) -> Iterator[tuple[Floats, Floats]]:
    def read(name: str) -> tuple[Floats, Floats]:
        with store.fs.open(store.path(name), "rb") as file:
            table = pq.ParquetFile(file).read(columns=["score", "area_m2"])
        return table["score"].to_numpy(), table["area_m2"].to_numpy()

    with ThreadPoolExecutor(_READERS) as readers:
        for start in range(0, len(names), _READERS):  # no more in memory than are read at once
            yield from readers.map(read, names[start : start + _READERS])


def _evenly(sizes: Sequence[int], n: int) -> dict[int, set[int]]:
    """By partition, rows: `n` of all of them at most, equally far apart."""
    ends = np.cumsum([0, *sizes])
    total = int(ends[-1])
    picked = np.unique(np.linspace(0, total - 1, min(n, total)).astype(np.int64)) if total else np.empty(0, np.int64)
    partition = np.searchsorted(ends, picked, "right") - 1
    rows: dict[int, set[int]] = {}
    for part, row in zip(partition.tolist(), (picked - ends[partition]).tolist(), strict=True):
        rows.setdefault(part, set()).add(row)
    return rows


def _rows(
    store: Store, partitions: Sequence[tuple[str, str, str]], chosen: Mapping[int, set[int]], crs: CRS
) -> gpd.GeoDataFrame:
    """In one frame; geopandas would take longer to make one for each file than Arrow takes to read them all."""
    tables = [SCHEMA.empty_table().append_column(_IDS[0], _NONE).append_column(_IDS[1], _NONE)]
    for number in sorted(chosen):
        query_id, scene_id, name = partitions[number]
        with store.fs.open(store.path(name), "rb") as file:
            table = pa.concat_tables(_taken(pq.ParquetFile(file), np.array(sorted(chosen[number]))))
        for column, value in zip(_IDS, (query_id, scene_id), strict=True):
            table = table.append_column(column, pa.repeat(value, table.num_rows))
        tables.append(table.cast(tables[0].schema))
    rows = pa.concat_tables(tables).to_pandas()
    return gpd.GeoDataFrame(rows, geometry=shapely.from_wkb(rows["geometry"].to_numpy()), crs=crs)


def _taken(file: pq.ParquetFile, rows: NDArray[np.int64]) -> Iterator[pa.Table]:
    """Group by group, so that no partition is whole in memory."""
    start = 0
    for group in range(file.num_row_groups):
        end = start + file.metadata.row_group(group).num_rows
        here = rows[(rows >= start) & (rows < end)] - start
        if len(here):
            yield file.read_row_group(group).take(here)
        start = end


def _gallery(drawn: gpd.GeoDataFrame, query_id: str, statistics: Statistics, per_kind: int) -> list[tuple[str, int]]:
    """Best first; where there are few features, each is shown once."""
    mine = drawn[drawn["query_id"] == query_id]
    order = mine["score"].sort_values(ascending=False, kind="stable").index.tolist()
    per_kind = min(per_kind, -(-len(order) // 3))
    best, worst = order[:per_kind], order[per_kind:][-per_kind:]
    between = order[len(best) : len(order) - len(worst)]
    off = (mine.loc[between, "score"] - statistics.median_score).abs()
    middle = set(off.sort_values(kind="stable").index[:per_kind])
    kinds = {**dict.fromkeys(best, "best"), **dict.fromkeys(middle, "median"), **dict.fromkeys(worst, "worst")}
    return [(kinds[i], i) for i in order if i in kinds]
