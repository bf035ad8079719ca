"""What runs on a worker: read batches' windows, ask the models, commit the results, all three at the same time."""

import logging
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.logs import about
from pipeline.metrics import OF_WORKER
from pipeline.model_names import local
from pipeline.normalise import Stretch
from pipeline.plan import Ask, Batch, ModelVersions, PlannedTile
from pipeline.read import TilePixels
from pipeline.reading import ReadBatch, read_batches
from pipeline.redaction import redacted
from pipeline.results import MaskRecord, PromptRecord, TileResult, TileStatus, read_index, write_batch
from pipeline.scenes import Scene
from pipeline.storage import Store
from pipeline.threads import ahead, behind
from t2s_core.engine import Engine, EngineSeconds, Question, TileAnswer, TileImage
from t2s_core.errors import MachineFault
from t2s_core.masks import quantise
from t2s_core.registry import load_prompter, load_segmenter
from t2s_core.template import load_template

log = logging.getLogger(__name__)

_STAGES = {
    "loading": "load",
    "reading": "read",
    "prompting": "prompt",
    "encoding": "encode",
    "decoding": "decode",
    "writing": "write",
    "waiting": "idle",
}
"""By name, as run.json has it: the field of `BatchReceipt`."""
_TURNS = threading.Lock()
"""Of threads of one process at its engine, and at loading it: neither is made for two at a time."""
_AHEAD, _BEHIND = 2, 2
"""Batches that are read before the models want them, and that wait for their commit: each holds its pixels or masks."""


@dataclass(frozen=True, slots=True)
class SegmentTask:
    """Everything a worker needs, by value: it reads no global state."""

    store: Store
    scene: Scene
    stretch: Stretch
    tile_px: int
    batches: tuple[Batch, ...]
    """Of the one scene, at least one. How many make a task changes speed alone."""
    versions: ModelVersions
    device: str
    run_id: str
    scene_fault: str = ""
    """See `ScenePlan.fault`."""
    retry_failed: bool = False
    """Compute batches anew that are committed, for some of their tile-queries failed."""


@dataclass(frozen=True, slots=True)
class BatchReceipt:
    """What crosses the scheduler instead of pixels. Reading, models and writing overlap: seconds do not add up."""

    name: str
    n_tiles: int
    statuses: Counter[str]
    n_tokens: int
    load_s: float
    """Seconds spent on loading models: 0 but for a worker's first batch."""
    read_s: float
    prompt_s: float
    encode_s: float
    decode_s: float
    write_s: float
    idle_s: float
    """Seconds in which the models waited, for the batch's pixels or for commits."""
    wall_s: float
    """Seconds from the end of the task's batch before, idle ones among them. A task's batches add up to the task."""

    def seconds(self) -> dict[str, float]:
        """By stage, as run.json and metrics have it; stages overlap."""
        return {name: getattr(self, f"{short}_s") for name, short in _STAGES.items()}


def run_batches(task: SegmentTask) -> list[BatchReceipt]:
    """Answer batches and commit each. Unreadable pixels and broken machines become `failed` rows, never silence.

    While the models answer one batch, on the calling thread, the next ones are read and the ones before are committed.
    Returns when all are committed, in their order. Raises what a commit raises; what came before it stays committed.
    A task may be given again where its worker died: what that one had committed is not done again.
    """
    with about(run=task.run_id, scene=task.scene.scene_id, stage="segment"):
        return _run(task)


def _run(task: SegmentTask) -> list[BatchReceipt]:
    found: list[BatchReceipt] = []

    def open_batches() -> Iterator[Batch]:  # on the reading thread: asking a bucket takes time, too
        for batch in task.batches:
            if not task.retry_failed and task.store.exists(batch.name):
                found.append(_done_before(task.store, batch))
            else:
                yield batch

    made = _run_open(task, open_batches())
    return found + made


def _done_before(store: Store, batch: Batch) -> BatchReceipt:
    index, damaged = read_index(store, [batch.name])
    if damaged:
        raise MachineFault(f"{store.href(batch.name)} is damaged; run the same command again")
    statuses = Counter(index["status"].to_pylist())
    return BatchReceipt(batch.name, len(batch.tiles), statuses, 0, *(0.0,) * 8)


def _run_open(task: SegmentTask, open_batches: Iterator[Batch]) -> list[BatchReceipt]:
    reading = read_batches(task.scene, open_batches, task.tile_px, task.stretch, fault=task.scene_fault)
    receipts: list[tuple[BatchReceipt, Future[float]]] = []
    before_s = time.perf_counter()
    with ahead(reading, _AHEAD) as batches, behind(partial(_commit, task.store), _BEHIND) as commit:
        for read in batches:
            read_s = time.perf_counter()
            receipt, results = _ask(task, read)
            asked_s = time.perf_counter()
            written = commit((receipt.name, results))
            now_s = time.perf_counter()
            idle_s = read_s - before_s + now_s - asked_s
            receipts.append((replace(receipt, idle_s=idle_s, wall_s=now_s - before_s), written))
            before_s = now_s
    rest_s = time.perf_counter() - before_s
    done = [replace(receipt, write_s=written.result()) for receipt, written in receipts]
    for receipt in done:
        _tell(receipt)
    if done:
        done[-1] = replace(done[-1], idle_s=done[-1].idle_s + rest_s, wall_s=done[-1].wall_s + rest_s)
    return done


def _tell(receipt: BatchReceipt) -> None:
    seconds = receipt.seconds()
    OF_WORKER.count(receipt.statuses, receipt.n_tokens, seconds)
    rounded = {name: round(spent, 3) for name, spent in seconds.items()}
    numbers = {"tiles": receipt.n_tiles, "tokens": receipt.n_tokens, **receipt.statuses, "seconds": rounded}
    log.info("batch is committed", extra={"batch": receipt.name, "numbers": numbers})


def _ask(task: SegmentTask, read: ReadBatch) -> tuple[BatchReceipt, list[TileResult]]:
    """A batch's results, and what is known of its receipt by then."""
    load_s, spent = 0.0, EngineSeconds()
    results: list[TileResult] = []
    readable: list[tuple[PlannedTile, tuple[Ask, ...], TilePixels]] = []
    for tile, asks, pixels in zip(read.batch.tiles, read.batch.asks, read.pixels, strict=True):
        if isinstance(pixels, str):
            results += [_unanswered(task, tile, ask, status=TileStatus.FAILED, reason=pixels) for ask in asks]
        elif not pixels.valid.any():
            results += [_unanswered(task, tile, ask, status=TileStatus.SKIPPED_NODATA, reason="") for ask in asks]
        elif read.batch.irrelevant:
            status = TileStatus.SKIPPED_IRRELEVANT
            results += [_unanswered(task, tile, ask, status=status, reason="", valid=pixels.valid) for ask in asks]
        else:
            readable.append((tile, asks, pixels))
    if readable:
        with _TURNS:
            start_s, misses = time.perf_counter(), _engine.cache_info().misses
            engine = _engine(task.versions, task.device)
            # a worker that will answer nothing never pays for the models, and one that does pays once
            load_s = time.perf_counter() - start_s if _engine.cache_info().misses > misses else 0.0
            before = replace(engine.spent)
            results += _answers(engine, task, readable)
            spent = engine.spent.since(before)
    receipt = BatchReceipt(
        name=read.batch.name,
        n_tiles=len(read.batch.tiles),
        statuses=Counter(r.status.value for r in results),
        n_tokens=sum(r.n_tokens for r in results),
        load_s=load_s,
        read_s=read.read_s,
        prompt_s=spent.prompting_s,
        encode_s=spent.encoding_s,
        decode_s=spent.decoding_s,
        write_s=0.0,
        idle_s=0.0,
        wall_s=0.0,
    )
    return receipt, results


def _commit(store: Store, named: tuple[str, Sequence[TileResult]]) -> float:
    """Seconds that it took."""
    start_s = time.perf_counter()
    write_batch(store, *named)
    return time.perf_counter() - start_s


@lru_cache(maxsize=1)
def _engine(versions: ModelVersions, device: str) -> Engine:
    """One engine per worker process, loaded when first needed, and anew when the files behind its names changed."""
    # here, because a worker that only stitches should start fast
    import torch
    from transformers.utils.logging import disable_progress_bar

    from t2s_core.devices import device_name

    disable_progress_bar()  # the run has its own; this one would write over it from another process
    chosen = device_name(device)
    if chosen == "cpu":
        torch.set_num_threads(1)  # parallelism comes from worker processes; more threads would fight each other
    models = versions.models
    template = load_template(Path(models.prompt_template)) if models.prompt_template is not None else None
    engine = Engine(
        load_prompter(local(models.prompter), device=chosen, template=template),
        load_segmenter(models.segmenter, device=chosen),
    )
    for planned, loaded in (
        (versions.prompter, engine.prompter.version),
        (versions.segmenter, engine.segmenter.version),
    ):
        if planned != loaded:  # a worker elsewhere may hold other files under the same name
            raise MachineFault(
                f"this worker loads {loaded} where the run was planned with {planned}; bring them together"
            )
    return engine


def _answers(
    engine: Engine, task: SegmentTask, readable: Sequence[tuple[PlannedTile, tuple[Ask, ...], TilePixels]]
) -> list[TileResult]:
    tiles = [TileImage(str(tile.key), pixels.image) for tile, _, pixels in readable]
    questions = [Question(ask.query_id, ask.query) for ask in readable[0][1]]
    answers = _answer_or_reason(engine, tiles, questions)
    return [
        _unanswered(task, tile, ask, status=TileStatus.FAILED, reason=answer, valid=pixels.valid)
        if isinstance(answer, str)
        else _answered(task, tile, ask, answer, pixels.valid)
        for (tile, ask, pixels), answer in zip(
            ((tile, ask, pixels) for tile, asks, pixels in readable for ask in asks), answers, strict=True
        )
    ]


def _answer_or_reason(
    engine: Engine, tiles: Sequence[TileImage], questions: Sequence[Question]
) -> list[TileAnswer | str]:
    """Tile-major answers. After a fault each tile-query is tried alone: a bad one does not take the batch with it."""
    try:
        return list(engine.answer(tiles, questions))
    except MachineFault as fault:
        if len(tiles) == len(questions) == 1:
            return [str(fault)]
    return [_answer_or_reason(engine, [tile], [question])[0] for tile in tiles for question in questions]


def _answered(
    task: SegmentTask, tile: PlannedTile, ask: Ask, answer: TileAnswer, valid: NDArray[np.bool_]
) -> TileResult:
    return replace(
        _unanswered(task, tile, ask, status=TileStatus(answer.status.value), reason=answer.reason, valid=valid),
        reply=answer.reply.text,
        reasoning=answer.reasoning,
        n_tokens=answer.reply.n_tokens,
        prompts=tuple(PromptRecord(p.box, p.points) for p in answer.prompts_tile_px),
        masks=tuple(MaskRecord(quantise(m.logits), m.predicted_iou) for m in answer.masks),
    )


def _unanswered(
    task: SegmentTask,
    tile: PlannedTile,
    ask: Ask,
    *,
    status: TileStatus,
    reason: str,
    valid: NDArray[np.bool_] | None = None,
) -> TileResult:
    reason = redacted(reason)
    if status is TileStatus.FAILED:
        log.warning("tile-query failed: %s", reason, extra={"tile": str(tile.key), "query": ask.query_id})
    return TileResult(
        key=ask.key,
        tile=tile.key,
        window_scene_px=tile.window_scene_px,
        query_id=ask.query_id,
        query=ask.query,
        status=status,
        reason=reason,
        reply="",
        reasoning="",
        n_tokens=0,
        prompts=(),
        masks=(),
        valid=None if valid is None or valid.all() else valid,
        prompter=task.versions.prompter,
        segmenter=task.versions.segmenter,
        run_id=task.run_id,
    )
