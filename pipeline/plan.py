"""What is to be done: which tiles, which queries, under which keys, in which batches. Computed, never stored."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby, islice
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from pipeline.normalise import Stretch
from pipeline.queries import Query
from pipeline.results import batch_name, result_key
from pipeline.scenes import Scene
from pipeline.spec import Models
from pipeline.tiling import TileGrid, TileKey, Window

KEY_VERSION = "1"
"""Raise it when the meaning of a stored tile result changes: old ones are then computed anew."""
_BAND_ROWS = 4
"""Tile rows that batches go through together, column by column: what is read together lies together, so that few of a
file's blocks are decoded twice."""
_OPEN = ("aoi", "query", "window")
"""Facts of a result that differ from tile to tile of a level, in the order in which JSON sorts them."""

Chosen = frozenset[tuple[int, int, int]]
"""Tiles of a scene: (level, row, col)."""
IsDone = Callable[[TileKey, str], bool]
"""Whether a tile's query (by its id) needs no computing."""
IsIrrelevant = Callable[[TileKey, str], bool]
"""Whether a tile's query (by its id) is settled by the first look."""


def nothing(tile: TileKey, query_id: str) -> bool:  # noqa: ARG001 -- an `IsDone` and an `IsIrrelevant`
    """Is done, of a plan that starts anew; is irrelevant, without a first look."""
    return False


@dataclass(frozen=True, slots=True)
class ModelVersions:
    """The models of a run by name and by what they exactly are."""

    models: Models
    prompter: str
    """name@version"""
    segmenter: str
    """name@version"""


@dataclass(frozen=True, slots=True)
class Ask:
    """One query on one tile."""

    query_id: str
    query: str
    key: str


@dataclass(frozen=True, slots=True)
class PlannedTile:
    """A tile that touches the area of interest."""

    key: TileKey
    window_scene_px: Window
    aoi_scene_px: bytes | None
    """WKB of the area of interest within the window; None where it covers all of it."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Tiles that one engine call answers, all with the same queries."""

    name: str
    """The object that will hold the results."""
    tiles: tuple[PlannedTile, ...]
    asks: tuple[tuple[Ask, ...], ...]
    """For each tile, its queries with their keys; query texts are the same for all tiles."""
    irrelevant: bool = False
    """A first look saw nothing of them: they are not asked, only which pixels are data is found out."""


@dataclass(frozen=True)
class ScenePlan:
    """Everything that follows from a scene and the spec."""

    scene: Scene
    stretch: Stretch
    grids: Mapping[int, TileGrid]
    """By level."""
    aoi_scene_px: BaseGeometry | None
    """Area of interest in scene pixels; None means the whole scene."""
    versions: ModelVersions
    first_look: TileGrid | None = None
    """A coarse grid whose tiles are asked before, so that only those of this plan are asked where something may be."""
    sample: Chosen | None = None
    """The only tiles that are asked; None asks all."""
    fault: str = ""
    """Why the pixels could not even be sampled for the stretch; all tile-queries then fail with this reason."""

    def tiles(self) -> Iterator[PlannedTile]:
        """Tiles that touch the area of interest: by level, then row-major."""
        for level in sorted(self.grids):
            yield from self._tiles_of(level, 1)

    def tiles_over(self, area_scene_px: Window) -> Iterator[PlannedTile]:
        """Those among them whose window touches the area, in the same order."""
        for level in sorted(self.grids):
            for row, col in self.grids[level].over(area_scene_px):
                tile = self.tile(level, row, col)
                if tile is not None:
                    yield tile

    def tile(self, level: int, row: int, col: int) -> PlannedTile | None:
        """One of them; None where it is outside of the area of interest or of the grid."""
        grid = self.grids.get(level)
        if grid is None or row >= grid.rows or col >= grid.cols or not self._is_chosen(level, row, col):
            return None
        key, window, aoi = TileKey(self.scene.scene_id, level, row, col), grid.window(row, col), self.aoi_scene_px
        if aoi is None:
            return PlannedTile(key, window, None)
        box = shapely.box(*window)
        if not shapely.intersects(aoi, box) or shapely.touches(aoi, box):
            return None
        return PlannedTile(key, window, None if shapely.contains(aoi, box) else self._aoi_within(window))

    def counts(self) -> dict[int, int]:
        """How many tiles there are at each level, without making them."""
        if self.sample is not None:
            return {level: sum(tile[0] == level for tile in self.sample) for level in self.grids}
        return {level: self._count(grid) for level, grid in self.grids.items()}

    def planned(self, level: int) -> NDArray[np.bool_]:
        """(tile rows, tile columns) of a level, without making the tiles. True is asked."""
        grid = self.grids[level]
        asked = np.zeros((grid.rows, grid.cols), np.bool_)
        if self.sample is not None:
            places = [(row, col) for of_level, row, col in self.sample if of_level == level]
            asked[tuple(np.array(places, np.intp).reshape(-1, 2).T)] = True
            return asked
        for rows, touching, _ in self._bands(grid, _BAND_ROWS):
            asked[rows.start : rows.stop] = touching.reshape(grid.cols, len(rows)).T
        return asked

    def look(self) -> "ScenePlan":
        """The first look as a plan of its own. Its tile results are those of any run at that level."""
        assert self.first_look is not None
        return replace(self, grids={self.first_look.level: self.first_look}, first_look=None)

    def asks(self, tile: PlannedTile, queries: Iterable[Query], *, irrelevant: bool = False) -> tuple[Ask, ...]:
        """The queries on a tile with the keys of their results; with those of not being asked where `irrelevant`."""
        before_aoi, before_query, before_window, end = self._facts_around[tile.key.level]
        aoi = "null" if tile.aoi_scene_px is None else f'"{tile.aoi_scene_px.hex()}"'
        window = f"[{','.join(map(str, tile.window_scene_px))}]"
        start, rest = f"{before_aoi}{aoi}{before_query}", f"{before_window}{window}{end}"
        if irrelevant:
            assert self.first_look is not None
            rest += f"first look at {self.first_look.level}, overlap {self.first_look.overlap_px}"
        return tuple(Ask(q.query_id, q.text, result_key(f"{start}{json.dumps(q.text)}{rest}")) for q in queries)

    def batches(
        self,
        queries: tuple[Query, ...],
        is_done: IsDone,
        batch_tiles: int,
        is_irrelevant: IsIrrelevant = nothing,
    ) -> Iterator[Batch]:
        """Batches of what is not done. Blocks of tiles are fixed by the plan: a resumed run repeats its batches."""
        for block in self._blocks(batch_tiles):
            wanted = [(t, [q for q in queries if not is_done(t.key, q.query_id)]) for t in block]
            for irrelevant in (False, True):
                open_asks = [
                    (t, self.asks(t, some, irrelevant=irrelevant))
                    for t, left in wanted
                    if (some := [q for q in left if is_irrelevant(t.key, q.query_id) is irrelevant])
                ]
                yield from _batches_of(open_asks, irrelevant=irrelevant)

    def _blocks(self, batch_tiles: int) -> Iterator[tuple[PlannedTile, ...]]:
        """Up to `batch_tiles` tiles of one level: another level must not move the tiles of this one between batches.

        The coarsest level first, whose tiles are few: a part of the scene is finished once its fine tiles are.
        """
        for level in sorted(self.grids, reverse=True):
            tiles = self._tiles_of(level, _BAND_ROWS)
            while block := tuple(islice(tiles, batch_tiles)):
                yield block

    def _is_chosen(self, level: int, row: int, col: int) -> bool:
        return self.sample is None or (level, row, col) in self.sample

    def _tiles_of(self, level: int, band_rows: int) -> Iterator[PlannedTile]:
        """In bands of `band_rows` tile rows, column by column within a band."""
        grid = self.grids[level]
        for rows, touching, covered in self._bands(grid, band_rows):
            for place in np.flatnonzero(touching).tolist():
                col, row = divmod(place, len(rows))
                if not self._is_chosen(level, rows[row], col):
                    continue
                window = grid.window(rows[row], col)
                aoi = None if covered[place] else self._aoi_within(window)
                yield PlannedTile(TileKey(self.scene.scene_id, level, rows[row], col), window, aoi)

    def _count(self, grid: TileGrid) -> int:
        if self.aoi_scene_px is None:
            return grid.rows * grid.cols
        return sum(int(touching.sum()) for _, touching, _ in self._bands(grid, _BAND_ROWS))

    def _bands(self, grid: TileGrid, band_rows: int) -> Iterator[tuple[range, NDArray[np.bool_], NDArray[np.bool_]]]:
        """Rows of a band; of each of its tiles, column by column, whether it touches and whether it is all covered."""
        for top in range(0, grid.rows, band_rows):
            rows = range(top, min(top + band_rows, grid.rows))
            n = len(rows) * grid.cols
            if self.aoi_scene_px is None:
                yield rows, np.ones(n, np.bool_), np.ones(n, np.bool_)
                continue
            shapely.prepare(self.aoi_scene_px)  # does nothing the second time
            windows = np.array([grid.window(row, col) for col in range(grid.cols) for row in rows])
            boxes = shapely.box(*windows.T)
            # What only touches shares no area: no pixel of the tile is in the area of interest.
            touching = shapely.intersects(self.aoi_scene_px, boxes) & ~shapely.touches(self.aoi_scene_px, boxes)
            yield rows, touching, shapely.contains(self.aoi_scene_px, boxes)

    def _aoi_within(self, window: Window) -> bytes:
        part = shapely.intersection(self.aoi_scene_px, shapely.box(*window))
        wkb = shapely.to_wkb(shapely.normalize(part))
        assert wkb is not None
        return wkb

    @cached_property
    def _facts_around(self) -> Mapping[int, tuple[str, str, str, str]]:
        """By level: the JSON of all that determines a tile's results, cut where what differs between its tiles stands.

        Written once, for a region has millions of keys.
        """
        around = {}
        for level, grid in self.grids.items():
            text = json.dumps(self._facts(level, grid), sort_keys=True, separators=(",", ":"))
            cuts = [f'"{name}":null' for name in _OPEN]
            assert all(text.count(cut) == 1 for cut in cuts), text
            before_aoi, rest = text.split(cuts[0])
            before_query, rest = rest.split(cuts[1])
            before_window, end = rest.split(cuts[2])
            around[level] = f'{before_aoi}"aoi":', f'{before_query}"query":', f'{before_window}"window":', end
        return around

    def _facts(self, level: int, grid: TileGrid) -> dict[str, Any]:
        """All that determines the results of a level's tiles; what differs from tile to tile is None."""
        nodata = self.scene.nodata
        return {
            **dict.fromkeys(_OPEN),
            "key_version": KEY_VERSION,
            "etag": self.scene.etag,
            "bands": list(self.scene.bands),
            "nodata": [nodata.kind, str(nodata.value)],
            "stretch": self.stretch.to_json(),
            "level": level,
            "tile_px": grid.tile_px,
            "prompter": self.versions.prompter,
            "segmenter": self.versions.segmenter,
        }


def _batches_of(asks: Sequence[tuple[PlannedTile, tuple[Ask, ...]]], *, irrelevant: bool) -> Iterator[Batch]:
    # An engine call asks every tile the same: where tiles lack different queries, they go in different batches.
    for _, group in groupby(sorted(asks, key=_query_ids), key=_query_ids):
        members = list(group)
        name = batch_name(members[0][0].key, (a.key for _, of_tile in members for a in of_tile))
        yield Batch(name, tuple(t for t, _ in members), tuple(of_tile for _, of_tile in members), irrelevant)


def _query_ids(entry: tuple[PlannedTile, tuple[Ask, ...]]) -> tuple[str, ...]:
    return tuple(ask.query_id for ask in entry[1])


def grids_for(scene: Scene, *, tile_px: int, overlap_px: int, levels: Iterable[int]) -> dict[int, TileGrid]:
    """One grid per level. Raises `BadInput` where tiles would have no core."""
    height, width = scene.shape
    return {f: TileGrid(width, height, tile_px, overlap_px, f) for f in levels}
