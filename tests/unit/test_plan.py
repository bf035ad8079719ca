"""Plans: keys change with what changes a result and with nothing else; batches are fixed by the plan."""

import hashlib
import json
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from shapely.geometry.base import BaseGeometry

from pipeline.normalise import IDENTITY, Stretch
from pipeline.plan import Batch, ModelVersions, ScenePlan, grids_for
from pipeline.queries import Query
from pipeline.scenes import NodataRule, Scene
from pipeline.spec import Models
from pipeline.tiling import TileKey
from t2s_core.errors import BadInput

WATER, ROADS = Query(query_id="water", text="the water"), Query(query_id="roads", text="the roads")
GEOBOX = GeoBox((150, 170), Affine(2, 0, 500_000, 0, -2, 4_000_000), CRS("EPSG:32633"))
SCENE = Scene("alpha", "/a.tif", "etag-1", GEOBOX, (1, 2, 3), "uint16", NodataRule("value", 0.0), None, warped=False)
LINEAR = Stretch("linear", (1.0, 2.0, 3.0), (100.0, 200.0, 300.0))


def plan_of(scene: Scene = SCENE, *, tile_px: int = 64, overlap_px: int = 16, **changes: Any) -> ScenePlan:
    levels = changes.pop("levels", (1,))
    fields: dict[str, Any] = {
        "scene": scene, "stretch": LINEAR, "aoi_scene_px": None, "versions": ModelVersions(Models(), "p@1", "s@1"),
        "grids": grids_for(scene, tile_px=tile_px, overlap_px=overlap_px, levels=levels),
    }  # fmt: skip
    return ScenePlan(**{**fields, **changes})


def keys(plan: ScenePlan, *queries: Query) -> list[str]:
    return [ask.key for tile in plan.tiles() for ask in plan.asks(tile, queries or (WATER,))]


def batches(plan: ScenePlan, *queries: Query, done: frozenset[str] = frozenset(), n: int = 5) -> list[Batch]:
    asked = queries or (WATER, ROADS)
    key_of = {(tile.key, ask.query_id): ask.key for tile in plan.tiles() for ask in plan.asks(tile, asked)}
    return list(plan.batches(asked, lambda tile, query_id: key_of[tile, query_id] in done, n))


@pytest.mark.parametrize("aoi", [None, shapely.box(0, 0, 100, 70)])
def test_a_key_is_the_hash_of_all_that_determines_a_result(aoi: BaseGeometry | None) -> None:
    query = Query(query_id="odd", text='a "quoted" {query} \\ with ümlaut, "aoi":null')
    plan = plan_of(replace(SCENE, etag='"aoi":null'), levels=(1, 2), aoi_scene_px=aoi)
    for tile in plan.tiles():
        facts = {
            "key_version": "1", "etag": '"aoi":null', "bands": [1, 2, 3], "nodata": ["value", "0.0"],
            "stretch": LINEAR.to_json(), "level": tile.key.level, "window": list(tile.window_scene_px), "tile_px": 64,
            "aoi": None if tile.aoi_scene_px is None else tile.aoi_scene_px.hex(), "prompter": "p@1",
            "segmenter": "s@1", "query": query.text,
        }  # fmt: skip
        text = json.dumps(facts, sort_keys=True, separators=(",", ":"))
        assert plan.asks(tile, [query])[0].key == hashlib.sha256(text.encode()).hexdigest()[:32]


@pytest.mark.parametrize("aoi", [None, shapely.box(0, 0, 100, 70), shapely.box(64, 0, 70, 40)])
def test_tiles_are_counted_without_being_made(aoi: BaseGeometry | None) -> None:
    plan = plan_of(levels=(1, 2), aoi_scene_px=aoi)
    assert plan.counts() == Counter(tile.key.level for tile in plan.tiles())


def test_tiles_of_a_batch_lie_together() -> None:
    wide = replace(SCENE, geobox=GeoBox((1000, 1000), GEOBOX.affine, GEOBOX.crs))
    grid = plan_of(wide).grids[1]
    found = [({t.key.row for t in b.tiles}, {t.key.col for t in b.tiles}) for b in batches(plan_of(wide), n=8)]
    blocks = [(rows, cols) for rows, cols in found if len(rows) <= 4 and len(cols) <= 3 and max(cols) - min(cols) < 3]
    # all but those in which one band of rows ends and the next begins
    assert len(found) - len(blocks) <= -(-grid.rows // 4)


def test_all_tiles_come_row_by_row_level_by_level() -> None:
    tiles = [tile.key for tile in plan_of(levels=(2, 1)).tiles()]
    assert tiles == [
        *(TileKey("alpha", 1, row, col) for row in range(3) for col in range(4)),
        *(TileKey("alpha", 2, row, col) for row in range(2) for col in range(2)),
    ]


def test_every_tile_query_has_a_key_of_its_own() -> None:
    found = keys(plan_of(levels=(1, 2)), WATER, ROADS)
    assert len(found) == len(set(found)) == 2 * (12 + 4)


@pytest.mark.parametrize(
    "changed",
    [
        plan_of(replace(SCENE, etag="etag-2")),
        plan_of(replace(SCENE, bands=(3, 2, 1))),
        plan_of(replace(SCENE, nodata=NodataRule("none"))),
        plan_of(replace(SCENE, nodata=NodataRule("value", 1.0))),
        plan_of(stretch=IDENTITY),
        plan_of(stretch=replace(LINEAR, high=(100.0, 200.0, 301.0))),
        plan_of(tile_px=96),
        plan_of(versions=ModelVersions(Models(), "p@2", "s@1")),
        plan_of(versions=ModelVersions(Models(), "p@1", "s@2")),
    ],
    ids=["etag", "bands", "rule", "nodata", "stretch", "percentile", "tile_px", "prompter", "segmenter"],
)
def test_what_changes_a_result_changes_every_key(changed: ScenePlan) -> None:
    assert keys(changed)
    assert not set(keys(changed)) & set(keys(plan_of()))


@pytest.mark.parametrize(
    "changed",
    [
        plan_of(replace(SCENE, href="/moved.tif")),
        plan_of(replace(SCENE, datetime="2026-01-01T00:00:00+00:00")),
        plan_of(versions=ModelVersions(Models(prompter="recorded:x"), "p@1", "s@1")),
        plan_of(fault="once unreadable"),
        plan_of(aoi_scene_px=shapely.box(-5, -5, 500, 500)),
    ],
    ids=["href", "datetime", "model_name", "fault", "aoi_that_covers_all"],
)
def test_what_changes_no_result_changes_no_key(changed: ScenePlan) -> None:
    assert keys(changed) == keys(plan_of())


def test_a_query_is_known_by_its_text_alone() -> None:
    renamed = Query(query_id="lakes", text=WATER.text, label="lake", threshold=0.9)
    assert keys(plan_of(), renamed) == keys(plan_of(), WATER)
    assert not set(keys(plan_of(), ROADS)) & set(keys(plan_of(), WATER))


def test_a_larger_overlap_changes_the_keys_of_the_windows_it_moves_and_no_others() -> None:
    def by_window(plan: ScenePlan) -> dict[tuple[int, ...], str]:
        return {tuple(t.window_scene_px): plan.asks(t, [WATER])[0].key for t in plan.tiles()}

    narrow, wide = by_window(plan_of(overlap_px=16)), by_window(plan_of(overlap_px=32))
    assert set(narrow) & set(wide)
    assert all(wide[window] == key for window, key in narrow.items() if window in wide)
    assert not {k for w, k in wide.items() if w not in narrow} & set(narrow.values())


def test_tiles_outside_the_area_are_not_planned_and_only_border_tiles_know_it() -> None:
    area = shapely.box(0, 0, 100, 70)  # x0, y0, x1, y1 in scene pixels
    plan, whole = plan_of(aoi_scene_px=area), {t.key: t for t in plan_of().tiles()}
    for tile in plan.tiles():
        covered = area.contains(shapely.box(*tile.window_scene_px))
        assert (tile.aoi_scene_px is None) is covered
        same_key = plan.asks(tile, [WATER]) == plan_of().asks(whole[tile.key], [WATER])
        assert same_key is covered
        if tile.aoi_scene_px is not None:
            assert shapely.from_wkb(tile.aoi_scene_px).equals(area.intersection(shapely.box(*tile.window_scene_px)))
    planned = {t.key for t in plan.tiles()}
    assert planned == {k for k, t in whole.items() if area.intersection(shapely.box(*t.window_scene_px)).area > 0}
    assert any(t.aoi_scene_px is None for t in plan.tiles())
    assert len(planned) < len(whole)


def test_an_area_that_only_touches_a_tile_does_not_plan_it() -> None:
    plan = plan_of(aoi_scene_px=shapely.box(64, 0, 70, 40))  # the first tile ends where the area begins
    assert [t.key for t in plan.tiles()] == [TileKey("alpha", 1, 0, 1)]


def test_batches_hold_every_tile_query_once() -> None:
    plan = plan_of(levels=(1, 2))
    found = [ask.key for batch in batches(plan) for asks in batch.asks for ask in asks]
    assert sorted(found) == sorted(keys(plan, WATER, ROADS))
    assert all(len(batch.tiles) == len(batch.asks) <= 5 for batch in batches(plan))
    assert len({batch.name for batch in batches(plan)}) == len(batches(plan))


def test_what_is_done_is_in_no_batch() -> None:
    plan = plan_of()
    assert batches(plan, done=frozenset(keys(plan, WATER, ROADS))) == []
    left = batches(plan, done=frozenset(keys(plan, WATER)))
    assert {ask.query_id for batch in left for asks in batch.asks for ask in asks} == {"roads"}
    assert sum(len(batch.tiles) for batch in left) == 12


@settings(deadline=None)
@given(st.sets(st.integers(0, 2)), st.integers(1, 14))
def test_a_resumed_plan_repeats_exactly_the_batches_that_are_missing(finished: set[int], batch_tiles: int) -> None:
    plan = plan_of()
    undisturbed = batches(plan, n=batch_tiles)
    finished = {i for i in finished if i < len(undisturbed)}
    done = frozenset(ask.key for i in finished for asks in undisturbed[i].asks for ask in asks)
    resumed = batches(plan, done=done, n=batch_tiles)
    assert resumed == [batch for i, batch in enumerate(undisturbed) if i not in finished]


@settings(deadline=None)
@given(st.data())
def test_all_tiles_of_a_batch_are_asked_the_same(data: st.DataObject) -> None:
    plan = plan_of()
    every = keys(plan, WATER, ROADS)
    done = frozenset(np.array(every)[data.draw(st.lists(st.booleans(), min_size=len(every), max_size=len(every)))])
    found = batches(plan, done=done)
    for batch in found:
        assert len({tuple(ask.query for ask in asks) for asks in batch.asks}) == 1
    planned = [ask.key for batch in found for asks in batch.asks for ask in asks]
    assert sorted(planned) == sorted(set(every) - done)


def test_another_level_moves_no_tile_to_another_batch() -> None:
    alone, together = batches(plan_of(levels=(1,))), batches(plan_of(levels=(1, 2)))
    assert together[-len(alone) :] == alone
    assert all(len({tile.key.level for tile in batch.tiles}) == 1 for batch in together)


def test_the_same_tile_at_another_level_has_another_key() -> None:
    # 32 px tiles of level 2 and 64 px tiles of level 1 show the same windows at different resolutions
    coarse, fine = plan_of(tile_px=32, overlap_px=8, levels=(2,)), plan_of(tile_px=64, overlap_px=16)
    assert [t.window_scene_px for t in coarse.tiles()] == [t.window_scene_px for t in fine.tiles()]
    assert not set(keys(coarse)) & set(keys(fine))


def test_tiles_without_a_core_are_refused() -> None:
    with pytest.raises(BadInput, match="more than half a 64 px tile"):
        grids_for(SCENE, tile_px=64, overlap_px=33, levels=(1,))


@pytest.mark.parametrize("area", [None, shapely.Point(60, 70).buffer(40), shapely.box(0, 0, 1, 1)])
@pytest.mark.parametrize("sample", [None, frozenset({(1, 0, 1), (2, 0, 0)})])
def test_planned_tiles_are_those_that_are_made(area: BaseGeometry | None, sample: Any) -> None:
    plan = plan_of(levels=(1, 2), aoi_scene_px=area, sample=sample)
    for level, grid in plan.grids.items():
        made = np.zeros((grid.rows, grid.cols), np.bool_)
        for tile in plan.tiles():
            if tile.key.level == level:
                made[tile.key.row, tile.key.col] = True
        assert np.array_equal(plan.planned(level) & (made | (sample is None)), made)
