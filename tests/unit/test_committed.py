"""What counts as committed: wanted keys only, a success before a failure, under the plan's own names."""

import hashlib
import json
from collections import Counter
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import shapely
from affine import Affine
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox

from pipeline.committed import Committed, committed
from pipeline.normalise import IDENTITY
from pipeline.plan import Ask, ModelVersions, PlannedTile, ScenePlan, grids_for
from pipeline.queries import Query
from pipeline.results import TileResult, TileStatus, write_batch
from pipeline.scenes import NodataRule, Scene
from pipeline.spec import Models, RunSpec
from pipeline.stages import STITCH_VERSION, fingerprint
from pipeline.storage import Store
from pipeline.tiling import TileKey

WATER, ROADS = Query(query_id="water", text="the water"), Query(query_id="roads", text="the roads")
GEOBOX = GeoBox((100, 200), Affine(2, 0, 500_000, 0, -2, 4_000_000), CRS("EPSG:32633"))
SCENE = Scene("alpha", "/a.tif", "etag", GEOBOX, (1, 2, 3), "uint8", NodataRule("none"), None, warped=False)
PLAN = ScenePlan(
    SCENE, IDENTITY, grids_for(SCENE, tile_px=100, overlap_px=0, levels=(1,)), None, ModelVersions(Models(), "p@1", "s@1")  # noqa: E501 -- one fixture, one line
)  # fmt: skip
LEFT, RIGHT = PLAN.tiles()


def row(tile: PlannedTile, query: Query, status: TileStatus, reason: str = "") -> TileResult:
    (ask,) = PLAN.asks(tile, [query])
    return row_of(tile, ask, status, reason)


def row_of(tile: PlannedTile, ask: Ask, status: TileStatus, reason: str = "") -> TileResult:
    return TileResult(
        key=ask.key, tile=tile.key, window_scene_px=tile.window_scene_px, query_id=ask.query_id, query=ask.query,
        status=status, reason=reason, reply="", reasoning="", n_tokens=0, prompts=(), masks=(), valid=None,
        prompter="p@1", segmenter="s@1", run_id="r1",
    )  # fmt: skip


def open_of(state: Committed, *, retry_failed: bool = False) -> set[tuple[TileKey, str]]:
    is_done = state.is_done(retry_failed=retry_failed)
    return {(t.key, q.query_id) for t in (LEFT, RIGHT) for q in (WATER, ROADS) if not is_done(t.key, q.query_id)}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.at(str(tmp_path))


def test_nothing_is_committed_in_an_empty_directory(store: Store) -> None:
    state = committed(store, PLAN, [WATER, ROADS])
    assert state.counts() == Counter({**{s.value: 0 for s in TileStatus}, "pending": 4, "total": 4})
    assert open_of(state) == {(t.key, q.query_id) for t in (LEFT, RIGHT) for q in (WATER, ROADS)}


def test_statuses_are_counted_and_add_up(store: Store) -> None:
    write_batch(
        store, "tiles/alpha/1/a.parquet", [row(LEFT, WATER, TileStatus.OK), row(RIGHT, WATER, TileStatus.FAILED)]
    )
    write_batch(store, "tiles/alpha/1/b.parquet", [row(LEFT, ROADS, TileStatus.UNPARSABLE)])
    counts = committed(store, PLAN, [WATER, ROADS]).counts()
    assert (counts["ok"], counts["failed"], counts["unparsable"], counts["pending"], counts["total"]) == (1, 1, 1, 1, 4)
    assert counts["total"] == sum(n for name, n in counts.items() if name != "total")


def test_results_that_the_plan_does_not_want_do_not_count(store: Store) -> None:
    of_another_version = row_of(LEFT, Ask("water", "the water", "0" * 32), TileStatus.OK)
    write_batch(store, "tiles/alpha/1/a.parquet", [of_another_version, row(LEFT, ROADS, TileStatus.OK)])
    state = committed(store, PLAN, [WATER])
    assert (state.counts()["pending"], state.index.num_rows) == (2, 0)


def test_keys_are_made_of_those_tiles_alone_that_have_rows(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    write_batch(store, "tiles/alpha/1/a.parquet", [row(LEFT, WATER, TileStatus.OK)])
    asks, asked = ScenePlan.asks, []
    monkeypatch.setattr(ScenePlan, "asks", lambda plan, tile, *rest, **more: (
        asked.append(tile), asks(plan, tile, *rest, **more))[1])  # fmt: skip
    counts = committed(store, PLAN, [WATER, ROADS]).counts()
    assert (asked, counts["ok"], counts["pending"]) == ([LEFT], 1, 3)


def test_rows_of_tiles_outside_of_the_area_do_not_count(store: Store) -> None:
    write_batch(store, "tiles/alpha/1/a.parquet", [row(t, WATER, TileStatus.OK) for t in (LEFT, RIGHT)])
    of_the_left = replace(PLAN, aoi_scene_px=shapely.box(0, 0, 100, 100))
    counts = committed(store, of_the_left, [WATER]).counts()
    assert (counts["ok"], counts["total"]) == (1, 1)


@pytest.mark.parametrize("names", [("a", "b"), ("b", "a")])
def test_a_retried_failure_counts_as_what_the_retry_came_to(store: Store, names: tuple[str, str]) -> None:
    write_batch(store, f"tiles/alpha/1/{names[0]}.parquet", [row(LEFT, WATER, TileStatus.FAILED, "no disk")])
    write_batch(store, f"tiles/alpha/1/{names[1]}.parquet", [row(LEFT, WATER, TileStatus.OK)])
    state = committed(store, PLAN, [WATER])
    assert state.index["status"].to_pylist() == ["ok"]
    assert state.index["batch"].to_pylist() == [f"tiles/alpha/1/{names[1]}.parquet"]
    assert state.reasons("alpha", TileStatus.FAILED) == []


def test_failures_are_done_unless_they_are_to_be_retried(store: Store) -> None:
    write_batch(
        store, "tiles/alpha/1/a.parquet", [row(LEFT, WATER, TileStatus.OK), row(RIGHT, WATER, TileStatus.FAILED)]
    )
    state = committed(store, PLAN, [WATER])
    roads = {(LEFT.key, "roads"), (RIGHT.key, "roads")}
    assert open_of(state) == roads
    assert open_of(state, retry_failed=True) == {*roads, (RIGHT.key, "water")}


def test_what_was_looked_at_before_is_not_read_again(store: Store) -> None:
    write_batch(store, "tiles/alpha/1/a.parquet", [row(LEFT, WATER, TileStatus.FAILED, "no disk")])
    before = committed(store, PLAN, [WATER, ROADS])
    write_batch(store, "tiles/alpha/1/b.parquet", [row(LEFT, WATER, TileStatus.OK), row(RIGHT, ROADS, TileStatus.OK)])
    anew = committed(store, PLAN, [WATER, ROADS])
    store.write("tiles/alpha/1/a.parquet", b"unreadable since")
    after = committed(store, PLAN, [WATER, ROADS], earlier=before)
    assert after.counts() == anew.counts()
    assert sorted(map(str, after.index.to_pylist())) == sorted(map(str, anew.index.to_pylist()))
    assert (after.counts()["ok"], after.counts()["failed"]) == (2, 0)


def test_a_renamed_query_keeps_its_results_under_its_new_name(store: Store) -> None:
    write_batch(store, "tiles/alpha/1/a.parquet", [row(LEFT, WATER, TileStatus.OK)])
    renamed = Query(query_id="lakes", text=WATER.text)
    state = committed(store, PLAN, [renamed])
    assert state.of_query(renamed).num_rows == 1
    assert state.of_query(WATER).num_rows == 0


def test_reasons_name_scene_tile_and_query(store: Store) -> None:
    write_batch(store, "tiles/alpha/1/a.parquet", [row(RIGHT, ROADS, TileStatus.FAILED, "no disk")])
    assert committed(store, PLAN, [ROADS]).reasons("alpha", TileStatus.FAILED) == [
        {"scene_id": "alpha", "tile": "alpha/1/0/1", "query_id": "roads", "reason": "no disk"}
    ]


def test_a_damaged_object_holds_nothing_and_is_read_again_once_it_is_whole(store: Store) -> None:
    write_batch(store, "tiles/alpha/1/a.parquet", [row(LEFT, WATER, TileStatus.OK)])
    whole = store.read("tiles/alpha/1/a.parquet")
    write_batch(store, "tiles/alpha/1/b.parquet", [row(RIGHT, WATER, TileStatus.OK)])
    store.write("tiles/alpha/1/a.parquet", whole[:-5])
    state = committed(store, PLAN, [WATER])
    assert state.damaged == {"tiles/alpha/1/a.parquet"}
    assert (state.counts()["ok"], state.counts()["pending"]) == (1, 1)
    store.write("tiles/alpha/1/a.parquet", whole)
    later = committed(store, PLAN, [WATER], earlier=state)
    assert (later.counts()["ok"], later.damaged) == (2, frozenset())


def test_a_mosaic_s_fingerprint_is_the_hash_of_its_facts_however_many(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.stages._ROWS_AT_ONCE", 2)
    tricky = Query(query_id="tricky", text='the "results": [["a", "b"]]')
    many = replace(PLAN, grids=grids_for(SCENE, tile_px=30, overlap_px=10, levels=(1,)))
    spec = RunSpec(scenes=("a.tif",), queries=(tricky, WATER))
    wanted: list[list[str]] = []
    for n, tile in enumerate(islice(many.tiles(), 7)):
        state = committed(store, many, spec.queries)
        assert fingerprint(many, spec, state, tricky) == _hash_of_facts(many, tricky, sorted(wanted))
        status, name = list(TileStatus)[n % 3], f"tiles/alpha/1/{'cafebdg'[n]}.parquet"
        (ask,) = many.asks(tile, [tricky])
        write_batch(store, name, [row_of(tile, ask, status)])
        wanted.append([ask.key, status.value, name])


def _hash_of_facts(plan: ScenePlan, query: Query, results: list[list[str]]) -> str:
    facts = {
        "stitch_version": STITCH_VERSION, "results": results, "n_tiles": sum(plan.counts().values()),
        "scene": SCENE.to_json(), "overlap_px": {1: 10}, "query": [query.text, query.label], "threshold": 0.5,
        "shard_px": None,
    }  # fmt: skip
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]
