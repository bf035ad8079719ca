"""`t2s segment --sample`: a spread of tiles first, and none of them asked twice."""

from pathlib import Path

import numpy as np
import pytest
from regions import ROADS, WATER, draw_scene, make_models, results, run, spec_of, work_here
from typer.testing import CliRunner

from flows.cli.app import app
from pipeline.manifest import RunStatus, read_run
from pipeline.mosaics import COVERAGE
from pipeline.prepare import prepare
from pipeline.region import Outcome
from pipeline.sample import keep, spread
from pipeline.spec import RunSpec
from pipeline.status import run_status
from pipeline.storage import Store
from pipeline.validate import validate_run


@pytest.fixture
def spec(tmp_path: Path) -> RunSpec:
    """99 and 4 tiles of level 1, tiles of level 2 over them."""
    scenes = draw_scene(tmp_path / "large.tif", 450, 550), draw_scene(tmp_path / "small.tif", 100, 100, seed=2)
    return spec_of(make_models(tmp_path), *scenes, queries=(WATER, ROADS), levels=(1, 2))


def sample_of(spec: RunSpec, n: int, out: Path) -> Outcome:
    return run(spec.model_copy(update={"sample_tiles": n}), out)


def test_tiles_are_spread_over_scenes_and_within_them(spec: RunSpec, tmp_path: Path) -> None:
    from pipeline.normalise import IDENTITY
    from pipeline.prepare import scene_plan

    prepared = prepare(spec, str(tmp_path / "out"))
    plans = [scene_plan(prepared, scene, IDENTITY, "") for scene in prepared.scenes]
    chosen = spread(plans, 30)
    assert chosen == spread(plans, 30)
    fine = np.array([tile for scene in chosen.values() for tile in scene if tile[0] == 1])
    assert len(fine) == 30
    large = np.array([(row, col) for level, row, col in chosen["large"] if level == 1])
    rows, cols = plans[0].grids[1].rows, plans[0].grids[1].cols
    quarters = {(bool(row < rows / 2), bool(col < cols / 2)) for row, col in large}
    assert len(quarters) == 4
    assert sum(map(len, spread(plans, 10_000).values())) == sum(sum(plan.counts().values()) for plan in plans)
    for level, row, col in chosen["large"]:
        window = plans[0].grids[level].window(row, col)
        assert level == 1 or any(window.intersection(plans[0].grids[1].core(r, c)) for r, c in large)


def test_a_sample_is_a_run_of_its_own(spec: RunSpec, tmp_path: Path) -> None:
    out = tmp_path / "out" / "sample"
    outcome = sample_of(spec, 6, out)
    counts = outcome.manifest["counts"]
    assert outcome.status == RunStatus.SUCCESS
    timings = outcome.manifest["timings"]
    assert timings["km2_per_h"] * timings["wall_s"] / 3600 < 0.3 * (450 * 550 + 100 * 100) * 4e-6  # not of whole scenes
    assert counts["total"] == outcome.computed < 60
    assert run_status(str(out))["tile_queries"]["total"] == counts["total"]
    assert sample_of(spec, 6, out).computed == 0
    assert validate_run(str(out))["ok"]
    from pipeline.mosaics import open_mosaic

    coverage = open_mosaic(Store.at(str(out)), "large", "the-water")["coverage_l1"].values
    assert 1 < (coverage != COVERAGE.index("not_planned")).sum() < coverage.size / 2


def test_what_it_computed_the_whole_run_does_not(spec: RunSpec, tmp_path: Path) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    expected = run(spec, whole)
    sample = sample_of(spec, 6, out / "sample")
    assert keep(Store.at(str(out / "sample")), Store.at(str(out))) > 0
    assert keep(Store.at(str(out / "sample")), Store.at(str(out))) == 0
    outcome = run(spec, out)
    assert outcome.computed == expected.computed - sample.computed
    assert outcome.manifest["counts"] == expected.manifest["counts"]
    masks = {name: data for name, data in results(out).items() if name.endswith("/c/0/0")}
    assert masks == {name: data for name, data in results(whole).items() if name.endswith("/c/0/0")}
    assert validate_run(str(out))["ok"]


def test_the_command_leaves_the_region_alone(spec: RunSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work_here(monkeypatch)
    out = tmp_path / "out"
    models = ["--prompter", spec.models.prompter, "--segmenter", spec.models.segmenter]
    asked = ["--query", WATER, "--query", ROADS, "--levels", "1,2", "--batch-tiles", "4"]
    words = ["segment", *spec.scenes, *asked, *models, "--out", str(out), "--direct"]
    first = CliRunner().invoke(app, [*words, "--sample", "5"])
    assert first.exit_code == 0, first.output
    assert not (out / "run.json").exists()
    assert (out / "sample/report.html").exists()
    n = read_run(Store.at(str(out / "sample")))["counts"]["total"]
    whole = CliRunner().invoke(app, words)
    assert whole.exit_code == 0, whole.output
    history = read_run(Store.at(str(out)))["history"]
    assert history[-1]["computed"] == read_run(Store.at(str(out)))["counts"]["total"] - n
