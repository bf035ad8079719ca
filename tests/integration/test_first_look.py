"""The first look: fine tiles are asked only where coarse ones see something, and the mask knows the difference."""

from pathlib import Path

import numpy as np
import pyarrow.dataset as ds
import pytest
from regions import REPLIES, ROADS, TILE_PX, WATER, draw_scene, make_models, mask_of, results, run, spec_of

from pipeline.first_look import first_look_problems
from pipeline.levels import MAX_LEVEL
from pipeline.manifest import RunStatus
from pipeline.prepare import prepare
from pipeline.spec import RunSpec
from t2s_core.errors import BadInput

NO = "<answer>[]</answer>"
SIDE = 448


@pytest.fixture
def spec(tmp_path: Path) -> RunSpec:
    """Coarse tiles (128 px of the scene) of the first column see water, none sees a road."""
    replies = [
        *((f"alpha/2/{row}/0", WATER, REPLIES[WATER]) for row in range(5)),
        *((f"alpha/2/{row}/{col}", WATER, NO) for row in range(5) for col in range(1, 5)),
        *((f"alpha/2/{row}/{col}", ROADS, NO) for row in range(5) for col in range(5)),
        ("*", WATER, REPLIES[WATER]), ("*", ROADS, REPLIES[ROADS]),
    ]  # fmt: skip
    scene = draw_scene(tmp_path / "alpha.tif", SIDE, SIDE)
    return spec_of(make_models(tmp_path, replies), scene, queries=[WATER, ROADS], first_look=2)


def statuses(out: Path) -> dict[tuple[int, int, str], str]:
    tiles = ds.dataset(out / "tiles" / "alpha" / "1", format="parquet")
    rows = tiles.to_table(columns=["row", "col", "query", "status"])
    return {(r["row"], r["col"], r["query"]): r["status"] for r in rows.to_pylist()}


def test_only_tiles_that_touch_what_was_seen_are_asked(spec: RunSpec, tmp_path: Path) -> None:
    outcome = run(spec, tmp_path / "out")
    assert outcome.status is RunStatus.SUCCESS
    found = statuses(tmp_path / "out")
    # stride 48: columns 0 to 2 begin before the 128 px that the first coarse column shows, less what starts beyond
    for (_, col, query), status in found.items():
        asked = query == WATER and 48 * col < 2 * TILE_PX
        assert status == ("ok" if asked else "skipped_irrelevant"), (col, query)
    counts = outcome.manifest["counts"]
    assert counts["skipped_irrelevant"] > counts["ok"] > 0
    assert counts["total"] == sum(n for name, n in counts.items() if name != "total")
    # what was not asked for is background, not unseen: somebody looked, if only coarsely
    assert (mask_of(tmp_path / "out", "alpha", "the-roads") == 0).all()
    assert set(np.unique(mask_of(tmp_path / "out", "alpha", "the-water"))) == {0, 1}


def test_nothing_is_repeated_and_without_it_the_skipped_are_asked(spec: RunSpec, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = run(spec, out)
    assert run(spec, out).computed == 0
    plain = run(spec.model_copy(update={"first_look": None}), out)
    assert plain.computed == first.manifest["counts"]["skipped_irrelevant"]
    assert plain.manifest["counts"]["skipped_irrelevant"] == 0
    run(spec.model_copy(update={"first_look": None}), tmp_path / "plain")
    for query in ("the-water", "the-roads"):
        np.testing.assert_array_equal(mask_of(out, "alpha", query), mask_of(tmp_path / "plain", "alpha", query))
    # with every answer there, the first look takes none away
    again = run(spec, out)
    assert (again.computed, again.manifest["counts"]["skipped_irrelevant"]) == (0, 0)


def test_a_coarse_level_of_the_run_itself_serves_as_first_look(spec: RunSpec, tmp_path: Path) -> None:
    both = spec.model_copy(update={"levels": (1, 2)})
    outcome = run(both, tmp_path / "out")
    assert outcome.status is RunStatus.SUCCESS
    assert outcome.computed == outcome.manifest["counts"]["total"] - 2 * 25  # those of level 2 were answered before
    names = sorted(results(tmp_path / "out"))
    assert any(name.startswith("tiles/alpha/2/") for name in names)


@pytest.mark.parametrize("factor", [0, 1, 3, -4, 2 * MAX_LEVEL])
def test_what_is_no_coarser_level_is_refused_in_one_line(spec: RunSpec, tmp_path: Path, factor: int) -> None:
    with pytest.raises(BadInput, match=rf"^--first-look: {factor} is no coarser level"):
        prepare(spec.model_copy(update={"first_look": factor}), str(tmp_path / "out"))
    assert first_look_problems(4, (1, 2), MAX_LEVEL) == []
    assert len(first_look_problems(2, (2, 4), MAX_LEVEL)) == 1
