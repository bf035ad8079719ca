"""Blocks are stitched early when, and only when, nothing that they are made of can still come."""

import threading
from collections.abc import Sequence
from pathlib import Path
from queue import SimpleQueue

import numpy as np
import pytest
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox

from pipeline.blocks import blocks
from pipeline.committed import Committed, committed
from pipeline.early import Unsettled, Watch, _rounds
from pipeline.mosaics import FINGERPRINT, Layout, finished, group_path, open_mosaic
from pipeline.normalise import IDENTITY
from pipeline.plan import ModelVersions, PlannedTile, ScenePlan, grids_for
from pipeline.queries import Query
from pipeline.results import MaskRecord, TileResult, TileStatus, write_batch
from pipeline.scenes import NodataRule, Scene
from pipeline.sources import sources_touching
from pipeline.spec import Models
from pipeline.stitching import MosaicBlocks, begin_mosaic, planned_tiles, stitch_scene_query, windows_of
from pipeline.storage import Store
from pipeline.tiling import Window
from pipeline.work import InProcess
from t2s_core.masks import quantise

WATER, ROADS = Query(query_id="water", text="the water"), Query(query_id="roads", text="the roads")
LAYOUT = Layout(chunk_px=32, block_px=64)


def plan_of(
    height: int,
    width: int,
    *,
    tile_px: int = 40,
    overlap_px: int = 8,
    levels: Sequence[int] = (1,),
    holes: bool = False,
) -> ScenePlan:
    geobox = GeoBox((height, width), Affine(2, 0, 500_000, 0, -2, 4_000_000), CRS("EPSG:32633"))
    scene = Scene("alpha", "/a.tif", "etag", geobox, (1, 2, 3), "uint8", NodataRule("none"), None, warped=False)
    aoi = shapely.box(0, 0, width, height / 2).union(shapely.box(width / 2, 0, width, height)) if holes else None
    grids = grids_for(scene, tile_px=tile_px, overlap_px=overlap_px, levels=levels)
    return ScenePlan(scene, IDENTITY, grids, aoi, ModelVersions(Models(), "p@1", "s@1"))


def row(plan: ScenePlan, tile: PlannedTile, query: Query = WATER, seed: int = 0) -> TileResult:
    (ask,) = plan.asks(tile, [query])
    rng = np.random.default_rng((seed, tile.key.level, tile.key.row, tile.key.col))
    return TileResult(
        key=ask.key, tile=tile.key, window_scene_px=tile.window_scene_px, query_id=ask.query_id, query=ask.query,
        status=TileStatus.OK, reason="", reply="", reasoning="", n_tokens=0, prompts=(),
        masks=(MaskRecord(quantise(rng.normal(0, 3, (12, 12)).astype(np.float32)), 0.8),), valid=None,
        prompter="p@1", segmenter="s@1", run_id="r1",
    )  # fmt: skip


def commit(store: Store, name: str, rows: Sequence[TileResult]) -> str:
    write_batch(store, f"tiles/alpha/1/{name}.parquet", rows)
    return f"tiles/alpha/1/{name}.parquet"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.at(str(tmp_path))


@given(
    height=st.integers(20, 260), width=st.integers(20, 260), overlap_px=st.sampled_from([0, 8, 20]),
    levels=st.sampled_from([(1,), (1, 4)]), holes=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_a_block_is_ready_once_all_tiles_that_touch_it_are_answered(
    height: int, width: int, overlap_px: int, levels: tuple[int, ...], seed: int, *, holes: bool
) -> None:
    plan = plan_of(height, width, overlap_px=overlap_px, levels=levels, holes=holes)
    windows = list(blocks(plan.scene.shape, 32, 64))
    nothing = committed(Store.at("memory://nothing-here"), plan, [WATER, ROADS])
    unsettled = Unsettled(plan, nothing, windows, 64)
    parts = [(tile, query) for tile in plan.tiles() for query in (WATER, ROADS)]
    left = {(tile.key, query.query_id): tile.window_scene_px for tile, query in parts}
    touched = [w for w in windows if any(w.intersection(tile) is not None for tile in left.values())]
    assert unsettled.n_blocks == len(touched)
    found: list[Window] = []
    for place in np.random.default_rng(seed).permutation(len(parts)):
        found, unsettled.ready = found + unsettled.ready, []
        waiting = [w for w in windows if any(w.intersection(tile) is not None for tile in left.values())]
        assert sorted(found) == sorted(set(touched) - set(waiting))
        tile, query = parts[place]
        del left[tile.key, query.query_id]
        unsettled.settle([(tile.key, 1)])
    assert sorted(found + unsettled.ready) == sorted(touched)


def test_what_was_committed_before_is_not_waited_for(store: Store) -> None:
    plan = plan_of(64, 200)
    windows = list(blocks(plan.scene.shape, 32, 64))
    tiles = list(plan.tiles())
    of_first = [tile for tile in tiles if tile.window_scene_px.intersection(windows[0]) is not None]
    commit(store, "a", [row(plan, tile, query) for tile in of_first for query in (WATER, ROADS)])
    commit(store, "b", [row(plan, tile) for tile in tiles if tile not in of_first])
    state = committed(store, plan, [WATER, ROADS])
    assert Unsettled(plan, state, windows, 64).ready == windows[:1]
    alone = committed(store, plan, [WATER])
    assert Unsettled(plan, alone, windows, 64).ready == windows


class TestMosaic:
    """A mosaic in two parts is the mosaic."""

    plan = plan_of(150, 200)

    def state(self, store: Store, *, seed: int = 0) -> Committed:
        commit(store, f"of-{seed}", [row(self.plan, tile, seed=seed) for tile in self.plan.tiles()])
        return committed(store, self.plan, [WATER])

    def begun(self, store: Store, state: Committed, n_blocks: int) -> MosaicBlocks:
        windows = windows_of(self.plan.scene, LAYOUT)[:n_blocks]
        made = begin_mosaic(store, self.plan.scene, WATER, threshold=0.5, trace={}, layout=LAYOUT)
        sources = sources_touching(store, "alpha", state.of_query(WATER), self.plan.grids, windows)
        made.add(sources, InProcess(), n_blocks=n_blocks)
        assert sorted(made.windows) == sorted(windows)
        return made

    def stitched(self, store: Store, state: Committed, early: MosaicBlocks | None) -> dict[str, bytes]:
        tiles = planned_tiles(self.plan.grids, (tile.key for tile in self.plan.tiles()))
        receipt = stitch_scene_query(
            store, self.plan.scene, WATER, threshold=0.5, index=state.of_query(WATER), grids=self.plan.grids,
            workers=InProcess(), planned=tiles, fingerprint="f", layout=LAYOUT, early=early,
        )  # fmt: skip
        found = finished(store, "alpha", "water")
        assert found is not None
        assert (found[FINGERPRINT], found["t2s:pixels"]["target_px"]) == ("f", receipt.target_px)
        assert int((open_mosaic(store, "alpha", "water")["mask"] == 1).sum()) == receipt.target_px
        return {name: store.read(name) for name in store.names(f"masks.zarr/{group_path('alpha', 'water')}")}

    def test_whatever_was_made_early(self, store: Store) -> None:
        state = self.state(store)
        at_once = self.stitched(store, state, None)
        for n_blocks in (1, 5, 12):
            assert self.stitched(store, state, self.begun(store, state, n_blocks)) == at_once

    def test_blocks_of_other_results_are_made_anew(self, store: Store) -> None:
        early = self.begun(store, self.state(store), 5)
        for name in store.names("tiles"):
            store.remove(name)
        state = self.state(store, seed=1)
        assert self.stitched(store, state, early) == self.stitched(store, state, None)


class Apart(InProcess):
    """Models here, all else there."""

    models_apart = True


class TestRounds:
    """What is reported comes back as blocks that are ready."""

    plan = plan_of(40, 40 * 16, overlap_px=0)
    layout = Layout(chunk_px=40, block_px=40)

    def report(self, store: Store, watch: Watch, tiles: Sequence[PlannedTile]) -> None:
        for tile in tiles:
            name = commit(store, str(tile.key.col), [row(self.plan, tile)])
            watch._given[name] = [(tile.key, 1)]
            watch.committed(name)

    def test_each_block_is_ready_once_and_with_it_all_that_is_committed(self, store: Store) -> None:
        watch, tiles = Watch(SimpleQueue()), list(self.plan.tiles())
        nothing = committed(store, self.plan, [WATER])
        rounds = _rounds(self.plan, nothing, store, watch, self.layout, Apart())
        self.report(store, watch, tiles[:8])
        state, windows = next(rounds)
        assert [w.x0 // 40 for w in windows] == list(range(8))
        assert (state.index.num_rows, len(state.batches)) == (8, 8)
        self.report(store, watch, tiles[8:])
        state, windows = next(rounds)
        assert [w.x0 // 40 for w in windows] == list(range(8, 16))
        assert state.index.num_rows == 16
        watch.end()
        assert list(rounds) == []

    def test_workers_that_come_later_find_what_was_committed_before(self, store: Store) -> None:
        class Later(Apart):
            models_apart = False

        watch, tiles, workers = Watch(SimpleQueue()), list(self.plan.tiles()), Later()
        taken = []
        rounds = _rounds(self.plan, committed(store, self.plan, [WATER]), store, watch, self.layout, workers)
        self.report(store, watch, tiles[:10])
        thread = threading.Thread(target=lambda: taken.extend(rounds))
        thread.start()
        while watch._reports is not None and not watch._reports.empty():
            assert thread.is_alive()
        workers.models_apart = True
        self.report(store, watch, tiles[10:11])
        while not taken:
            assert thread.is_alive()
        watch.end()
        thread.join(60)
        assert [len(windows) for _, windows in taken] == [11]

    def test_after_the_end_nothing_begins(self, store: Store) -> None:
        watch = Watch(SimpleQueue())
        self.report(store, watch, list(self.plan.tiles()))
        watch.end()
        assert list(_rounds(self.plan, committed(store, self.plan, [WATER]), store, watch, self.layout, Apart())) == []

    def test_who_is_watched_by_nobody_reports_nothing(self) -> None:
        nobody = Watch(None)
        nobody.committed("tiles/alpha/1/a.parquet")
        nobody.end()
        assert list(nobody.given([])) == []
