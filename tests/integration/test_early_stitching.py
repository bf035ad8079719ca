"""A run that stitches while it segments comes to what any other run comes to, however it ends."""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from regions import NOTHING, ROADS, WATER, draw_scene, files, make_models, results, run, spec_of

import pipeline.early
import pipeline.mosaics
import pipeline.stitching
from pipeline.conduct import Stage, Stages
from pipeline.manifest import RunStatus
from pipeline.region import Outcome
from pipeline.sources import Sources
from pipeline.spec import Models, RunSpec
from pipeline.stages import StageReceipt, segment_scene, stitch_scene
from pipeline.status import run_status
from pipeline.stitching import MosaicBlocks
from pipeline.validate import validate_run
from pipeline.work import InProcess, Workers

WAIT_S = 60


class Apart(InProcess):
    """Models here, all else there. The last answer waits for the first blocks that are stitched early."""

    models_apart = True

    def __init__(self) -> None:
        self.stitched = threading.Event()

    def map(self, function: Callable[..., Any], items: Iterable[Any], *, models: bool = False) -> Iterator[Any]:
        """See `Workers.map`."""
        given = list(items)
        for n, item in enumerate(given):
            if n == len(given) - 1 and models and any(t.name == "t2s-early" for t in threading.enumerate()):
                self.wait()
            yield function(item)

    def wait(self) -> None:
        """For a block."""
        assert self.stitched.wait(WAIT_S), "no block was stitched early"


class Dying(Apart):
    """Before the last answer."""

    def wait(self) -> None:
        """For a block, and then for nothing any more."""
        super().wait()
        raise ConnectionError("the plug was pulled")


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline.mosaics, "BLOCK_PX", 512)
    monkeypatch.setattr(pipeline.early, "_FEWEST_BLOCKS", 1)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return make_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_scene(tmp_path_factory.mktemp("scenes") / "alpha.tif", 1400, 200)


@pytest.fixture
def early(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many blocks each round made."""
    found: list[int] = []
    add = MosaicBlocks.add

    def noted(self: MosaicBlocks, sources: Iterable[Sources], workers: Workers, *, n_blocks: int) -> None:
        add(self, sources, workers, n_blocks=n_blocks)
        if threading.current_thread().name == "t2s-early":
            found.append(n_blocks)
            workers._workers.stitched.set()  # type: ignore[attr-defined]  # of what times them

    monkeypatch.setattr(MosaicBlocks, "add", noted)
    return found


def both(spec: RunSpec, folder: Path, **options: Any) -> tuple[Outcome, Outcome]:
    """A run that stitches early and one that does not."""
    apart, plain = run(spec, folder / "apart", Apart(), **options), run(spec, folder / "plain", **options)
    assert results(folder / "apart") == results(folder / "plain")
    assert apart.manifest["counts"] == plain.manifest["counts"]
    assert apart.manifest["seams"] == plain.manifest["seams"]
    return apart, plain


def test_it_comes_to_the_same(models: Models, scene: Path, early: Sequence[int], tmp_path: Path) -> None:
    apart, plain = both(spec_of(models, scene, queries=[WATER, NOTHING]), tmp_path)
    assert early
    assert apart.status is RunStatus.SUCCESS
    assert apart.manifest["timings"]["stitched_mpx"] == plain.manifest["timings"]["stitched_mpx"]
    assert apart.manifest["timings"]["workers_s"]["stitching"] > 0


def test_after_a_first_look_too(models: Models, scene: Path, early: Sequence[int], tmp_path: Path) -> None:
    both(spec_of(models, scene, queries=[WATER, NOTHING], first_look=2), tmp_path)
    assert early


def test_a_finished_mosaic_is_not_touched_before_another_takes_its_place(
    models: Models, scene: Path, early: Sequence[int], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run(spec_of(models, scene), out)
    before = files(out)
    more = spec_of(models, scene, queries=[WATER, ROADS])
    run(more, out, Apart())
    assert early
    after = files(out)
    assert all(after[name] == content for name, content in before.items() if "/the-water/" in name)
    run(more, tmp_path / "plain")
    of_roads, plain = (
        {name: content for name, content in results(folder).items() if "/the-roads/" in name and "/c/" in name}
        for folder in (out, tmp_path / "plain")
    )
    assert of_roads == plain


def test_a_run_that_ends_half_way_leaves_what_the_next_one_goes_on_from(
    models: Models, scene: Path, early: Sequence[int], tmp_path: Path
) -> None:
    spec, out = spec_of(models, scene), tmp_path / "out"
    with pytest.raises(ConnectionError):
        run(spec, out, Dying())
    assert early
    assert run_status(str(out))["tile_queries"]["pending"] > 0
    assert not [t for t in threading.enumerate() if t.name == "t2s-early"]
    assert run(spec, out).status is RunStatus.SUCCESS
    run(spec, tmp_path / "plain")
    assert results(out) == results(tmp_path / "plain")


def test_an_attempt_that_fails_leaves_no_block_to_the_next_one(
    models: Models, scene: Path, early: Sequence[int], tmp_path: Path
) -> None:
    """Prefect tries stages again, with all that they share."""

    class DyingOnce(Apart):
        left = 1

        def wait(self) -> None:
            super().wait()
            if self.left:
                self.left = 0
                raise ConnectionError("the bucket was away")

    def twice(stage: Stage) -> Stage:
        def tried(*given: Any) -> StageReceipt:
            try:
                return stage(*given)
            except ConnectionError:
                return stage(*given)

        return tried

    spec, finish = spec_of(models, scene), pipeline.stitching.finish
    fails = [True]

    def failing_once(*given: Any, **options: Any) -> None:
        finish(*given, **options)
        if fails.pop():
            fails.append(False)
            raise ConnectionError("the bucket was away")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.stitching.finish", failing_once)
        stages = Stages(segment=twice(segment_scene), stitch=twice(stitch_scene))
        outcome = run(spec, tmp_path / "out", DyingOnce(), stages=stages)
    assert outcome.status is RunStatus.SUCCESS
    assert len(early) > 0
    plain = run(spec, tmp_path / "plain")
    assert results(tmp_path / "out") == results(tmp_path / "plain")
    assert outcome.manifest["seams"] == plain.manifest["seams"]


def test_what_stitching_dies_of_stops_no_model(
    models: Models, scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    workers, spec, out = Apart(), spec_of(models, scene), tmp_path / "out"

    def full(*_: object) -> None:
        workers.stitched.set()
        raise OSError("no space is left")

    with monkeypatch.context() as patch:
        patch.setattr("pipeline.stitching.write_block", full)
        with pytest.raises(OSError, match="no space is left"):
            run(spec, out, workers)
    assert "cannot be stitched early" in caplog.text
    status = run_status(str(out))
    assert (status["error"], status["tile_queries"]["pending"]) == ("OSError: no space is left", 0)
    assert run(spec, out).status is RunStatus.SUCCESS


def test_an_unfinished_run_is_looked_at_as_any(
    models: Models, scene: Path, early: Sequence[int], tmp_path: Path
) -> None:
    out = str(tmp_path / "out")
    with pytest.raises(ConnectionError):
        run(spec_of(models, scene), Path(out), Dying())
    assert early
    said = {check["name"]: check["detail"] for check in validate_run(out)["checks"] if not check["ok"]}
    assert "no coverage of level 1" in said["coverage"]
    assert "KeyError" not in str(said)
