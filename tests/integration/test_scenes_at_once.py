"""Several scenes at the same time: the same results, and one that fails ends the others."""

import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from regions import NOTHING, ROADS, WATER, draw_scene, make_models, results, run, spec_of

from pipeline.committed import Committed
from pipeline.conduct import Stages
from pipeline.manifest import RunStatus
from pipeline.plan import ScenePlan
from pipeline.progress import Progress
from pipeline.spec import Models, RunSpec
from pipeline.stages import RunContext, StageReceipt, segment_scene
from pipeline.status import run_status
from pipeline.work import InProcess, Workers


class Serially(InProcess):
    """One item at a time, whoever asks: an engine is for one thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def map(self, function: Callable[..., Any], items: Iterable[Any], *, models: bool = False) -> Iterator[Any]:
        """See `Workers.map`."""
        for item in items:
            with self._lock:
                result = function(item)
            yield result


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return make_models(tmp_path_factory.mktemp("models"))


@pytest.fixture
def spec(models: Models, tmp_path: Path) -> RunSpec:
    scenes = [draw_scene(tmp_path / f"{name}.tif", seed=i) for i, name in enumerate(("alpha", "beta", "gamma"))]
    return spec_of(models, *scenes, queries=[WATER, ROADS, NOTHING])


def test_results_are_the_same_however_many_scenes_run_at_once(spec: RunSpec, tmp_path: Path) -> None:
    one = run(spec, tmp_path / "one")
    several = run(spec, tmp_path / "several", Serially(), scenes_at_once=3)
    assert several.status is RunStatus.SUCCESS
    assert results(tmp_path / "one") == results(tmp_path / "several")
    assert several.manifest["counts"] == one.manifest["counts"]
    assert [s["scene_id"] for s in several.manifest["seams"]] == [s["scene_id"] for s in one.manifest["seams"]]


def test_a_scene_that_fails_ends_the_others_and_what_is_committed_stays(spec: RunSpec, tmp_path: Path) -> None:
    begun = threading.Event()

    def segment(
        plan: ScenePlan, state: Committed, context: RunContext, workers: Workers, progress: Progress
    ) -> StageReceipt:
        if plan.scene.scene_id == "beta":
            assert begun.wait(60)
            raise OSError("the disk is full")

        def counted(results: Iterator[Any]) -> Iterator[Any]:
            for result in results:
                begun.set()
                yield result

        class Counted(InProcess):
            def map(self, function: Callable[..., Any], items: Iterable[Any], *, models: bool = False) -> Iterator[Any]:
                return counted(workers.map(function, items))

        return segment_scene(plan, state, context, Counted(), progress)

    with pytest.raises(OSError, match="the disk is full"):
        run(spec, tmp_path / "out", Serially(), scenes_at_once=2, stages=Stages(segment=segment))
    status = run_status(str(tmp_path / "out"))
    assert (status["status"], status["error"]) == ("FAILED", "OSError: the disk is full")
    assert status["tile_queries"]["pending"] > 0
    assert run(spec, tmp_path / "out").status is RunStatus.SUCCESS
    run(spec, tmp_path / "undisturbed")
    assert results(tmp_path / "out") == results(tmp_path / "undisturbed")


def test_the_clock_is_accounted_for(spec: RunSpec, tmp_path: Path) -> None:
    timings = run(spec, tmp_path / "out").manifest["timings"]
    assert timings["n_workers"] == 1
    parts = timings["workers_s"]
    assert {"loading", "reading", "writing", "stitching", "vectorising", "publishing", "idle"} < set(parts)
    busy = timings["busy_s"]
    assert busy["segment"] > 0
    assert busy["stitch"] == pytest.approx(parts["stitching"])
    # one worker in one process: what it did and what it did not do is the clock
    idle_s = timings["wall_s"] - sum(busy.values())
    assert idle_s >= 0
    assert parts["idle"] <= timings["wall_s"]
    assert timings["stitched_mpx"] == pytest.approx(3 * 3 * 120 * 150 / 1e6, abs=1e-3)
