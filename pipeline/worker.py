"""What runs on a worker: read a batch's windows, ask the models, commit the results."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import shapely
from numpy.typing import NDArray

from pipeline.model_names import local
from pipeline.normalise import Stretch
from pipeline.pixels import UnreadablePixels, open_scene
from pipeline.plan import Ask, Batch, ModelVersions, PlannedTile
from pipeline.read import TilePixels, read_window
from pipeline.results import MaskRecord, PromptRecord, TileResult, TileStatus, write_batch
from pipeline.scenes import Scene
from pipeline.storage import Store
from t2s_core.engine import Engine, Question, TileAnswer, TileImage
from t2s_core.errors import MachineFault
from t2s_core.masks import quantise
from t2s_core.registry import load_prompter, load_segmenter
from t2s_core.template import load_template


@dataclass(frozen=True, slots=True)
class BatchTask:
    """Everything a worker needs, by value: it reads no global state."""

    store: Store
    scene: Scene
    stretch: Stretch
    tile_px: int
    batch: Batch
    versions: ModelVersions
    device: str
    run_id: str
    scene_fault: str = ""
    """See `ScenePlan.fault`."""


@dataclass(frozen=True, slots=True)
class BatchReceipt:
    """What crosses the scheduler instead of pixels."""

    name: str
    n_tiles: int
    statuses: Counter[str]
    n_tokens: int
    load_s: float
    """Seconds spent on loading models: 0 but for a worker's first batch."""
    read_s: float
    model_s: float
    write_s: float


def run_batch(task: BatchTask) -> BatchReceipt:
    """Answer one batch and commit it. Unreadable pixels and broken machines become `failed` rows, never silence."""
    start_s = time.perf_counter()
    results: list[TileResult] = []
    readable: list[tuple[PlannedTile, tuple[Ask, ...], TilePixels]] = []
    for tile, asks, pixels in _read_tiles(task):
        if isinstance(pixels, str):
            results += [_unanswered(task, tile, ask, status=TileStatus.FAILED, reason=pixels) for ask in asks]
        elif not pixels.valid.any():
            results += [_unanswered(task, tile, ask, status=TileStatus.SKIPPED_NODATA, reason="") for ask in asks]
        else:
            readable.append((tile, asks, pixels))
    read_s, load_s = time.perf_counter() - start_s, 0.0
    start_s = time.perf_counter()
    if readable:
        misses = _engine.cache_info().misses
        engine = _engine(task.versions, task.device)
        # a worker that will answer nothing never pays for the models, and one that does pays once
        load_s = time.perf_counter() - start_s if _engine.cache_info().misses > misses else 0.0
        results += _answers(engine, task, readable)
    model_s = time.perf_counter() - start_s - load_s
    start_s = time.perf_counter()
    write_batch(task.store, task.batch.name, results)
    return BatchReceipt(
        name=task.batch.name,
        n_tiles=len(task.batch.tiles),
        statuses=Counter(r.status.value for r in results),
        n_tokens=sum(r.n_tokens for r in results),
        load_s=load_s,
        read_s=read_s,
        model_s=model_s,
        write_s=time.perf_counter() - start_s,
    )


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


def _read_tiles(task: BatchTask) -> Iterator[tuple[PlannedTile, tuple[Ask, ...], TilePixels | str]]:
    """Each tile with its pixels, or with the reason why they could not be had."""
    if task.scene_fault:
        yield from ((t, a, task.scene_fault) for t, a in zip(task.batch.tiles, task.batch.asks, strict=True))
        return
    try:
        with open_scene(task.scene) as dataset:
            for tile, asks in zip(task.batch.tiles, task.batch.asks, strict=True):
                try:
                    pixels = read_window(dataset, task.scene, tile.window_scene_px, task.tile_px, task.stretch)
                    yield tile, asks, replace(pixels, valid=pixels.valid & _inside_aoi(tile))
                except UnreadablePixels as error:
                    yield tile, asks, str(error)
    except UnreadablePixels as error:  # the scene itself no longer opens
        for tile, asks in zip(task.batch.tiles, task.batch.asks, strict=True):
            yield tile, asks, str(error)


def _inside_aoi(tile: PlannedTile) -> NDArray[np.bool_]:
    """(height, width) of the window, True where a pixel's centre is in the area of interest."""
    window = tile.window_scene_px
    if tile.aoi_scene_px is None:
        return np.ones((window.height, window.width), dtype=np.bool_)
    from rasterio.features import geometry_mask
    from rasterio.transform import Affine

    inside: NDArray[np.bool_] = geometry_mask(
        [shapely.from_wkb(tile.aoi_scene_px)],
        out_shape=(window.height, window.width),
        transform=Affine.translation(window.x0, window.y0),
        invert=True,
    )
    return inside


def _answers(
    engine: Engine, task: BatchTask, readable: Sequence[tuple[PlannedTile, tuple[Ask, ...], TilePixels]]
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


def _answered(task: BatchTask, tile: PlannedTile, ask: Ask, answer: TileAnswer, valid: NDArray[np.bool_]) -> TileResult:
    return replace(
        _unanswered(task, tile, ask, status=TileStatus(answer.status.value), reason=answer.reason, valid=valid),
        reply=answer.reply.text,
        reasoning=answer.reasoning,
        n_tokens=answer.reply.n_tokens,
        prompts=tuple(PromptRecord(p.box, p.points) for p in answer.prompts_tile_px),
        masks=tuple(MaskRecord(quantise(m.logits), m.predicted_iou) for m in answer.masks),
    )


def _unanswered(
    task: BatchTask,
    tile: PlannedTile,
    ask: Ask,
    *,
    status: TileStatus,
    reason: str,
    valid: NDArray[np.bool_] | None = None,
) -> TileResult:
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
