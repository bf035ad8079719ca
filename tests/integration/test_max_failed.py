"""`--max-failed`: a run that fails too often ends early, keeps what it has, and says so everywhere alike."""

import json
from pathlib import Path
from typing import Any

import pytest
from regions import TILE_PX, WATER, draw_scene, make_models, results, run, spec_of

from fakes import reply_text  # isort: skip

from pipeline.manifest import RunStatus
from pipeline.status import run_status
from pipeline.tolerance import TooManyFailed
from t2s_core.prompts import InstancePrompt

ANSWERED = [
    (f"alpha/1/0/{col}", WATER, reply_text([InstancePrompt((6, 8, 44, 50), ((20, 20), (30, 30)))])) for col in range(3)
]


def failing(folder: Path, **changes: Any) -> Any:
    """Of nine tiles three are answered; four to a batch, so the batches have 1, 1 and 1 of them or so."""
    return spec_of(make_models(folder, ANSWERED), draw_scene(folder / "alpha.tif"), **changes)


@pytest.mark.parametrize("max_failed", ["3", "40%"])
def test_it_ends_early_and_run_json_status_and_report_agree(max_failed: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(TooManyFailed) as ending:
        run(failing(tmp_path, max_failed=max_failed), out)
    text = str(ending.value)
    assert f"--max-failed {max_failed} bears 3: ended early" in text
    assert "--retry-failed" in text
    assert "\n" not in text
    manifest, status = json.loads((out / "run.json").read_text()), run_status(str(out))
    assert manifest["status"] == status["status"] == "FAILED"
    assert manifest["error"] == status["error"] == f"TooManyFailed: {text}"
    assert manifest["counts"] == status["tile_queries"]
    assert manifest["failures"] == status["failures"]
    assert status["tile_queries"]["failed"] > 3
    assert status["tile_queries"]["pending"] > 0, "it went on to the end"
    assert sum(group["count"] for group in status["failure_reasons"]) == status["tile_queries"]["failed"]
    assert len(status["failure_reasons"]) == 1
    assert not (out / "report.html").exists()


def test_the_same_command_ends_at_once_until_the_cause_is_mended_and_then_goes_on(tmp_path: Path) -> None:
    out = tmp_path / "out"
    spec = failing(tmp_path, max_failed="3")
    with pytest.raises(TooManyFailed):
        run(spec, out)
    kept = run_status(str(out))["tile_queries"]
    with pytest.raises(TooManyFailed):
        run(spec, out)
    assert run_status(str(out))["tile_queries"] == kept
    outcome = run(spec.model_copy(update={"max_failed": "67%"}), out)
    assert (outcome.status, outcome.manifest["counts"]["failed"]) == (RunStatus.PARTIAL, 6)
    assert outcome.computed == kept["pending"]
    with pytest.raises(TooManyFailed):
        run(spec, out, retry_failed=True)  # nothing is mended


def test_what_bears_enough_comes_to_what_it_comes_to_without_a_limit(tmp_path: Path) -> None:
    outcome = run(failing(tmp_path, max_failed="6"), tmp_path / "limited")
    scene = tmp_path / "alpha.tif"
    spec = spec_of(make_models(tmp_path, ANSWERED), scene)
    assert outcome.status is run(spec, tmp_path / "out").status is RunStatus.PARTIAL
    limited, unlimited = (
        {name: found for name, found in results(tmp_path / out).items() if not name.endswith("zarr.json")}
        for out in ("limited", "out")  # what is written beside results names the spec, which differs
    )
    assert limited == unlimited


def test_the_command_says_it_in_one_line_and_exits_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    from flows.cli.app import main

    spec, out = failing(tmp_path), tmp_path / "out"
    models = ["--prompter", spec.models.prompter, "--segmenter", spec.models.segmenter, "--tile-px", str(TILE_PX)]
    given = ["t2s", "segment", *spec.scenes, "--query", WATER, "--out", str(out), *models, "--direct", "--workers", "1"]
    monkeypatch.setattr(sys, "argv", [*given, "--max-failed", "3", "--device", "cpu"])
    with pytest.raises(SystemExit) as ending:
        main()
    said = capsys.readouterr().err.splitlines()
    assert ending.value.code == 1
    assert [line for line in said if line.startswith("failed: ")] == [said[-1]]
    assert "--max-failed 3 bears 3" in said[-1]
    monkeypatch.setattr(sys, "argv", ["t2s", "status", str(out)])
    with pytest.raises(SystemExit):
        main()
    told = capsys.readouterr().out
    assert "x recorded@" in told
    assert "holds no reply for tile '*' and query 'the water' (e.g. alpha/1/" in told
