"""What is to be done: which tiles, which queries, under which keys, in which batches. Computed, never stored."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby, islice
from typing import Any

import shapely
from shapely.geometry.base import BaseGeometry

from pipeline.normalise import Stretch
from pipeline.queries import Query
from pipeline.results import batch_name, result_key
from pipeline.scenes import Scene
from pipeline.spec import Models
from pipeline.tiling import TileGrid, TileKey, Window

KEY_VERSION = "1"
"""Raise it when the meaning of a stored tile result changes: old ones are then computed anew."""


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
    fault: str = ""
    """Why the pixels could not even be sampled for the stretch; all tile-queries then fail with this reason."""

    def tiles(self) -> Iterator[PlannedTile]:
        """Tiles that touch the area of interest: by level, then row-major."""
        for level in sorted(self.grids):
            yield from self._tiles_of(level)

    def asks(self, tile: PlannedTile, queries: Iterable[Query]) -> tuple[Ask, ...]:
        """The queries on a tile with the keys of their results."""
        facts = self._facts(tile)
        return tuple(Ask(q.query_id, q.text, result_key({**facts, "query": q.text})) for q in queries)

    def batches(self, queries: tuple[Query, ...], done: frozenset[str], batch_tiles: int) -> Iterator[Batch]:
        """Batches of what is not `done`. Blocks of tiles are fixed by the plan: a resumed run repeats its batches."""
        for block in self._blocks(batch_tiles):
            open_asks = [(t, tuple(a for a in self.asks(t, queries) if a.key not in done)) for t in block]
            # An engine call asks every tile the same: where tiles lack different queries, they go in different batches.
            by_queries = sorted((t for t in open_asks if t[1]), key=_query_ids)
            for _, group in groupby(by_queries, key=_query_ids):
                members = list(group)
                name = batch_name(members[0][0].key, (a.key for _, asks in members for a in asks))
                yield Batch(name, tuple(t for t, _ in members), tuple(asks for _, asks in members))

    def _blocks(self, batch_tiles: int) -> Iterator[tuple[PlannedTile, ...]]:
        """Up to `batch_tiles` tiles of one level: another level must not move the tiles of this one between batches."""
        for level in sorted(self.grids):
            tiles = self._tiles_of(level)
            while block := tuple(islice(tiles, batch_tiles)):
                yield block

    def _tiles_of(self, level: int) -> Iterator[PlannedTile]:
        grid = self.grids[level]
        for row in range(grid.rows):
            for col in range(grid.cols):
                tile = self._tile(TileKey(self.scene.scene_id, level, row, col), grid)
                if tile is not None:
                    yield tile

    def _tile(self, key: TileKey, grid: TileGrid) -> PlannedTile | None:
        window = grid.window(key.row, key.col)
        if self.aoi_scene_px is None:
            return PlannedTile(key, window, None)
        box = shapely.box(*window)
        if not self._prepared_aoi.intersects(box):
            return None
        if self._prepared_aoi.contains(box):
            return PlannedTile(key, window, None)
        part = self._prepared_aoi.intersection(box)
        return None if part.area == 0 else PlannedTile(key, window, shapely.to_wkb(shapely.normalize(part)))

    @property
    def _prepared_aoi(self) -> BaseGeometry:
        shapely.prepare(self.aoi_scene_px)  # does nothing the second time
        assert self.aoi_scene_px is not None
        return self.aoi_scene_px

    def _facts(self, tile: PlannedTile) -> dict[str, Any]:
        """All that determines a tile's results but the query."""
        nodata = self.scene.nodata
        return {
            "key_version": KEY_VERSION,
            "etag": self.scene.etag,
            "bands": list(self.scene.bands),
            "nodata": [nodata.kind, str(nodata.value)],
            "stretch": self.stretch.to_json(),
            "level": tile.key.level,
            "window": list(tile.window_scene_px),
            "tile_px": self.grids[tile.key.level].tile_px,
            "aoi": tile.aoi_scene_px.hex() if tile.aoi_scene_px is not None else None,
            "prompter": self.versions.prompter,
            "segmenter": self.versions.segmenter,
        }


def _query_ids(entry: tuple[PlannedTile, tuple[Ask, ...]]) -> tuple[str, ...]:
    return tuple(ask.query_id for ask in entry[1])


def grids_for(scene: Scene, *, tile_px: int, overlap_px: int, levels: Iterable[int]) -> dict[int, TileGrid]:
    """One grid per level. Raises `BadInput` where tiles would have no core."""
    height, width = scene.shape
    return {f: TileGrid(width, height, tile_px, overlap_px, f) for f in levels}
