"""The region run as a Prefect flow against a real, temporary server."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from regions import draw_scene, make_models, results, run, spec_of

from pipeline.manifest import RunStatus

# Read when Prefect is imported: a busy machine needs longer than its 20 s, and tests report to nobody.
os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")


@pytest.fixture(scope="module")
def server() -> Iterator[None]:
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=120):
        yield


def task_runs() -> list[Any]:
    from prefect.client.orchestration import get_client

    async def read() -> list[Any]:
        async with get_client() as client:
            return list(await client.read_task_runs())

    return asyncio.run(read())


@pytest.mark.usefixtures("server")
def test_the_flow_completes_with_one_task_run_per_scene_and_stage(tmp_path: Path) -> None:
    from flows.run import RunSettings
    from flows.segment_region import segment_region

    models = make_models(tmp_path)
    scenes = [draw_scene(tmp_path / f"{name}.tif", seed=seed) for seed, name in enumerate(("alpha", "beta"))]
    spec = spec_of(models, *scenes)
    state = segment_region(spec, str(tmp_path / "out"), RunSettings(workers=1, device="cpu"), return_state=True)
    assert state.is_completed(), state
    outcome = state.result()
    assert (outcome.status, outcome.computed) == (RunStatus.SUCCESS, 18)
    stages = ("segment", "stitch", "vectorise", "publish")
    runs = task_runs()
    assert sorted(r.name for r in runs) == sorted(f"{stage} {name}" for stage in stages for name in ("alpha", "beta"))
    assert {r.state.type.value for r in runs} == {"COMPLETED"}
    run(spec, tmp_path / "direct")
    assert results(tmp_path / "out") == results(tmp_path / "direct")
