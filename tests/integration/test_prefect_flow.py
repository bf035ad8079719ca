"""The region run as a Prefect flow against a real, temporary server."""

import asyncio
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from regions import WATER, draw_scene, make_models, results, run, spec_of

from pipeline.manifest import RunStatus
from pipeline.status import run_status

# Read when Prefect is imported: a busy machine needs longer than its 20 s, and tests report to nobody.
os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")


@pytest.fixture(scope="module")
def server() -> Iterator[None]:
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=120):
        yield


def flow_states() -> list[str]:
    """The latest first."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.sorting import FlowRunSort

    async def read() -> list[Any]:
        async with get_client() as client:
            return list(await client.read_flow_runs(sort=FlowRunSort.START_TIME_DESC))

    return [run.state.type.value for run in asyncio.run(read())]


def task_runs() -> list[Any]:
    from prefect.client.orchestration import get_client

    async def read() -> list[Any]:
        async with get_client() as client:
            return list(await client.read_task_runs())

    return asyncio.run(read())


@pytest.mark.usefixtures("server")
def test_the_flow_completes_with_one_task_run_per_scene_and_stage(tmp_path: Path) -> None:
    from flows.request import RunRequest
    from flows.segment_region import segment_region

    models = make_models(tmp_path)
    scenes = [draw_scene(tmp_path / f"{name}.tif", seed=seed) for seed, name in enumerate(("alpha", "beta"))]
    spec = spec_of(models, *scenes)
    asked = RunRequest(
        scenes=spec.scenes, query=(WATER,), prompter=models.prompter, segmenter=models.segmenter, batch_tiles=4,
        out=str(tmp_path / "out"), workers=1, device="cpu",
    )  # fmt: skip
    state = segment_region(asked, return_state=True)
    assert state.is_completed(), state
    outcome = state.result()
    assert (outcome.status, outcome.computed) == (RunStatus.SUCCESS, 18)
    stages = ("segment", "stitch", "vectorise", "publish")
    runs = task_runs()
    assert sorted(r.name for r in runs) == sorted(f"{stage} {name}" for stage in stages for name in ("alpha", "beta"))
    assert {r.state.type.value for r in runs} == {"COMPLETED"}
    run(spec, tmp_path / "direct")
    assert results(tmp_path / "out") == results(tmp_path / "direct")


@pytest.mark.usefixtures("server")
def test_a_run_that_fails_too_often_is_failed_in_prefect_too_and_is_not_tried_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.cli.app import main

    models, scene, out = make_models(tmp_path, replies=[]), draw_scene(tmp_path / "gamma.tif"), tmp_path / "out"
    given = ["segment", scene, "--query", WATER, "--prompter", models.prompter, "--segmenter", models.segmenter]
    how = ["--orchestrator", "prefect", "--max-failed", "5%", "--workers", "1", "--device", "cpu", "--out", out]
    monkeypatch.setattr(sys, "argv", ["t2s", *map(str, [*given, *how])])
    with pytest.raises(SystemExit) as ending:
        main()
    failed = [line for line in capsys.readouterr().err.splitlines() if line.startswith("failed: ")]
    assert ending.value.code == 1
    assert len(failed) == 1
    status = run_status(str(out))
    assert status["status"] == "FAILED"
    assert status["error"] == f"TooManyFailed: {failed[0].removeprefix('failed: ')}"
    states = {r.name: (r.state.type.value, r.run_count) for r in task_runs() if "gamma" in r.name}
    assert states == {"segment gamma": ("FAILED", 1)}
    assert flow_states()[0] == "FAILED"
