"""A task of several batches: all committed or an error, receipts that say where the time went, no thread left over."""

import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import BoxSegmenter, ScriptedPrompter, reply_text
from tiffs import draw_tiff, noise, scene_of

from pipeline import worker
from pipeline.normalise import IDENTITY
from pipeline.plan import Batch, ModelVersions, ScenePlan, grids_for, nothing
from pipeline.queries import parse_queries
from pipeline.results import TileStatus, batch_names, read_results
from pipeline.scenes import Scene
from pipeline.spec import Models
from pipeline.storage import Store
from pipeline.threads import ahead
from pipeline.worker import SegmentTask, run_batches
from t2s_core.engine import Engine
from t2s_core.errors import ContractError, MachineFault
from t2s_core.ports import RawReply
from t2s_core.prompts import InstancePrompt

TILE_PX = 64
VERSIONS = ModelVersions(Models(prompter="scripted", segmenter="boxes"), "scripted@1", "boxes@1")
BOX = reply_text([InstancePrompt((10, 10, 200, 200), ((50, 50), (90, 90)))])


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    with ahead((_ for _ in ()), 1):  # the one thread that stays with this one
        before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


@pytest.fixture
def prompter(monkeypatch: pytest.MonkeyPatch) -> ScriptedPrompter:
    scripted = ScriptedPrompter(lambda *_: BOX)
    engine = Engine(scripted, BoxSegmenter())
    monkeypatch.setattr(worker, "_engine", lru_cache(lambda *_: engine))
    return scripted


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    pixels = noise(3, 200, 260)
    pixels[:, :, :120] = 0  # the first two tiles of a row see nothing
    return scene_of(draw_tiff(tmp_path / "a.tif", pixels, nodata=0, tiled=True, blockxsize=32, blockysize=32))


def task_of(scene: Scene, store: Store, *, n: int | None = None) -> SegmentTask:
    plan = ScenePlan(scene, IDENTITY, grids_for(scene, tile_px=TILE_PX, overlap_px=16, levels=[1]), None, VERSIONS)
    batches: tuple[Batch, ...] = tuple(plan.batches(parse_queries(["the water", "the roads"]), nothing, 4))
    return SegmentTask(store, scene, IDENTITY, TILE_PX, batches[:n], VERSIONS, "cpu", "r1")


def committed(store: Store, scene: Scene) -> dict[str, list[Any]]:
    names = batch_names(store, scene.scene_id)
    return {name: list(read_results(store, name, scene_id=scene.scene_id)) for name in names}


def test_a_task_commits_each_of_its_batches_and_says_so_in_order(
    scene: Scene, tmp_path: Path, prompter: ScriptedPrompter
) -> None:
    store = Store.at(str(tmp_path / "out"))
    task = task_of(scene, store)
    receipts = run_batches(task)
    assert [receipt.name for receipt in receipts] == [batch.name for batch in task.batches]
    assert [receipt.n_tiles for receipt in receipts] == [len(batch.tiles) for batch in task.batches]
    rows = committed(store, scene)
    assert set(rows) == {batch.name for batch in task.batches}
    for receipt in receipts:
        assert receipt.statuses == Counter(row.status.value for row in rows[receipt.name])
    statuses = sum((receipt.statuses for receipt in receipts), Counter[str]())
    assert statuses[TileStatus.OK] > statuses[TileStatus.SKIPPED_NODATA] > 0


def test_several_batches_to_a_task_come_to_what_one_to_a_task_does(
    scene: Scene, tmp_path: Path, prompter: ScriptedPrompter
) -> None:
    together, apart = Store.at(str(tmp_path / "together")), Store.at(str(tmp_path / "apart"))
    task = task_of(scene, together)
    run_batches(task)
    for batch in task.batches:
        run_batches(SegmentTask(apart, scene, IDENTITY, TILE_PX, (batch,), VERSIONS, "cpu", "r1"))
    names = batch_names(together, scene.scene_id)
    assert names == batch_names(apart, scene.scene_id)
    assert [together.read(name) for name in names] == [apart.read(name) for name in names]


def test_seconds_of_the_batches_add_up_to_those_of_the_task(
    scene: Scene, tmp_path: Path, prompter: ScriptedPrompter, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = iter(range(1_000_000))
    monkeypatch.setattr(worker.time, "perf_counter", lambda: float(next(ticks)))
    receipts = run_batches(task_of(scene, Store.at(str(tmp_path / "out"))))
    n_ticks = next(ticks)
    assert 0 < sum(receipt.wall_s for receipt in receipts) < n_ticks
    for receipt in receipts:
        assert 0 < receipt.idle_s < receipt.wall_s
        model_s = receipt.prompt_s + receipt.encode_s + receipt.decode_s
        assert receipt.idle_s + receipt.load_s + model_s <= receipt.wall_s
        assert min(receipt.read_s, receipt.write_s) > 0
        assert (model_s > 0) is (TileStatus.OK.value in receipt.statuses)


def test_a_failing_commit_fails_the_task_and_leaves_the_others(
    scene: Scene, tmp_path: Path, prompter: ScriptedPrompter, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store.at(str(tmp_path / "out"))
    task = task_of(scene, store)
    write = worker.write_batch

    def write_or_fail(store: Store, name: str, results: Sequence[Any]) -> None:
        if name == task.batches[1].name:
            raise OSError("no space left on device")
        write(store, name, results)

    monkeypatch.setattr(worker, "write_batch", write_or_fail)
    with pytest.raises(OSError, match="no space left"):
        run_batches(task)
    assert task.batches[0].name in committed(store, scene)
    assert task.batches[1].name not in committed(store, scene)


@pytest.mark.parametrize("error", [ContractError("another shape"), KeyboardInterrupt()])
def test_what_came_before_an_error_of_the_models_is_committed(
    scene: Scene, tmp_path: Path, prompter: ScriptedPrompter, error: BaseException
) -> None:
    store = Store.at(str(tmp_path / "out"))
    task = task_of(scene, store)

    def fail_later(key: str, query: str) -> str:
        if len(prompter.calls) > 2:
            raise error
        return BOX

    prompter.script = fail_later
    with pytest.raises(type(error)):
        run_batches(task)
    names = [batch.name for batch in task.batches]
    done = committed(store, scene)
    assert set(done) == set(names[: len(done)])
    assert 2 <= len(done) < len(names)


def test_a_fault_of_one_batch_is_rows_of_that_batch(scene: Scene, tmp_path: Path, prompter: ScriptedPrompter) -> None:
    store = Store.at(str(tmp_path / "out"))
    task = task_of(scene, store)
    place, tile = next((i, t) for i, b in enumerate(task.batches) for t in b.tiles if t.key.col > 2)

    def fault(key: str, query: str) -> str:
        if key == str(tile.key):
            raise MachineFault("out of memory")
        return BOX

    prompter.script = fault
    receipts = run_batches(task)
    failed = [receipt.statuses[TileStatus.FAILED] for receipt in receipts]
    assert failed == [2 * (n == place) for n in range(len(receipts))]
    reasons = {row.reason for row in committed(store, scene)[receipts[place].name] if row.status is TileStatus.FAILED}
    assert reasons == {"out of memory"}


def test_batches_without_data_never_ask_for_the_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = scene_of(draw_tiff(tmp_path / "a.tif", np.zeros((3, 200, 200), np.uint8), nodata=0))
    monkeypatch.setattr(worker, "_engine", lambda *_: pytest.fail("the models were asked for"))
    receipts = run_batches(task_of(scene, Store.at(str(tmp_path / "out"))))
    assert {status for receipt in receipts for status in receipt.statuses} == {TileStatus.SKIPPED_NODATA}
    assert all(receipt.load_s == 0 for receipt in receipts)


def test_the_models_run_on_the_calling_thread(scene: Scene, tmp_path: Path, prompter: ScriptedPrompter) -> None:
    threads = set()

    def note(key: str, query: str) -> str:
        threads.add(threading.current_thread())
        return BOX

    prompter.script = note
    run_batches(task_of(scene, Store.at(str(tmp_path / "out"))))
    assert threads == {threading.current_thread()}


def test_tokens_are_counted(scene: Scene, tmp_path: Path, prompter: ScriptedPrompter) -> None:
    prompter.reply = lambda requests: [RawReply(BOX, truncated=False, n_tokens=7) for _ in requests]  # type: ignore[method-assign]
    receipts = run_batches(task_of(scene, Store.at(str(tmp_path / "out"))))
    assert [r.n_tokens for r in receipts] == [7 * r.statuses[TileStatus.OK] for r in receipts]


def test_a_task_that_is_given_again_does_only_what_its_first_worker_had_not_committed(
    scene: Scene, tmp_path: Path, prompter: ScriptedPrompter
) -> None:
    store = Store.at(str(tmp_path / "out"))
    task = task_of(scene, store, n=3)
    first = run_batches(replace(task, batches=task.batches[1:2]))  # then it died
    before = {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in batch_names(store, scene.scene_id)}
    receipts = run_batches(task)
    assert {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in before} == before
    assert sorted(r.name for r in receipts) == sorted(b.name for b in task.batches)
    (found,) = (r for r in receipts if r.name == first[0].name)
    assert (found.statuses, found.wall_s) == (first[0].statuses, 0.0)


def test_who_retries_failures_computes_committed_batches_anew(
    scene: Scene, tmp_path: Path, prompter: ScriptedPrompter
) -> None:
    store = Store.at(str(tmp_path / "out"))
    task = replace(task_of(scene, store, n=1), retry_failed=True)
    run_batches(task)
    before = (tmp_path / "out" / task.batches[0].name).stat().st_mtime_ns
    run_batches(task)
    assert (tmp_path / "out" / task.batches[0].name).stat().st_mtime_ns > before


def test_threads_of_a_worker_take_turns_at_its_models_and_load_them_once(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_models, most, loads = [0], [0], []

    def script(*_: Any) -> str:
        at_models[0] += 1
        most[0] = max(most[0], at_models[0])
        time.sleep(0.005)
        at_models[0] -= 1
        return BOX

    def load(*_: Any) -> Engine:
        loads.append(threading.get_ident())
        time.sleep(0.05)
        return Engine(ScriptedPrompter(script), BoxSegmenter())

    monkeypatch.setattr(worker, "_engine", lru_cache(load))
    stores = [Store.at(str(tmp_path / name)) for name in ("a", "b", "c")]
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda store: run_batches(task_of(scene, store)), stores))
    assert most == [1]
    assert len(loads) == 1
    assert len({str(committed(store, scene)) for store in stores}) == 1
