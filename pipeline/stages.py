"""The stages of a run, one scene at a time. Each is idempotent: it looks at what is committed and does the rest."""

import hashlib
import json
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby, islice
from typing import Any

import pyarrow as pa

from pipeline.committed import Committed, committed
from pipeline.early import EarlyStitching, Watch
from pipeline.features import Provenance, vectorise_scene_query
from pipeline.first_look import irrelevant_by
from pipeline.metrics import OF_RUN
from pipeline.mosaics import Layout
from pipeline.plan import IsDone, IsIrrelevant, ScenePlan, nothing
from pipeline.progress import Progress
from pipeline.provenance import trace
from pipeline.queries import Query
from pipeline.results import TileStatus
from pipeline.spec import RunSpec
from pipeline.stitching import planned_tiles, stitch_scene_query
from pipeline.storage import Store
from pipeline.task_sizes import TaskSizes
from pipeline.tolerance import Tolerance
from pipeline.work import Workers
from pipeline.worker import SegmentTask, run_batches

STITCH_VERSION = "4"
"""Raise it when stitching or vectorising changes its results or what these say of themselves: all is made anew then."""
_ROWS_AT_ONCE = 4096


@dataclass(frozen=True)
class RunContext:
    """What all stages of an invocation share."""

    store: Store
    spec: RunSpec
    run_id: str
    spec_digest: str
    """Of the spec as run.json holds it: see `provenance`."""
    device: str = "auto"
    """Where the models run: `auto`, `cpu`, `cuda` or `cuda:N`. Changes speed, not the plan."""
    retry_failed: bool = False
    tolerance: Tolerance = field(default_factory=lambda: Tolerance(None, 0))
    early: EarlyStitching | None = None
    """Of the scene that the stages are at; None stitches nothing before all is segmented."""


@dataclass(frozen=True)
class StageReceipt:
    """What a stage did, for the manifest."""

    stage: str
    scene_id: str
    seconds: float
    computed: int
    """Tile-queries, mosaics or partitions made by this invocation; 0 where all was done already."""
    details: dict[str, Any] = field(default_factory=dict)
    busy_s: float = 0.0
    """Seconds that all workers together were at work for it."""
    workers: frozenset[str] = frozenset()
    """Names of the workers that were."""


def segment_scene(
    plan: ScenePlan, state: Committed, context: RunContext, workers: Workers, progress: Progress
) -> StageReceipt:
    """Answer every tile-query of a scene that is not committed yet. `state`: what was, before.

    Raises `TooManyFailed`, which ends the run: what is at work by then is still committed, nothing more is started.
    """
    start_s, looked, queries = time.perf_counter(), _Tally(), context.spec.queries
    is_irrelevant: IsIrrelevant = nothing
    if plan.first_look is not None and state.n_open(retry_failed=context.retry_failed):
        look = plan.look()
        seen = committed(context.store, look, queries)
        looked = _segment(look, seen, context, workers, progress, name="look")
        earlier = None if context.retry_failed else seen
        is_irrelevant = irrelevant_by(committed(context.store, look, queries, earlier=earlier), plan)
        if look.grids.keys() & plan.grids.keys():  # then the look has answered a part of the plan
            state = committed(context.store, plan, queries, earlier=None if context.retry_failed else state)
    tally = _segment(plan, state, context, workers, progress, name="segment", is_irrelevant=is_irrelevant)
    details = {
        "worker_seconds": dict(looked.seconds + tally.seconds),
        "n_tokens": looked.n_tokens + tally.n_tokens,
        "n_tiles": tally.n_tiles,
        "n_of_scene": _n_of_scene(plan, state, len(queries)),
    }
    return StageReceipt("segment", plan.scene.scene_id, time.perf_counter() - start_s, tally.computed, details)


def _n_of_scene(plan: ScenePlan, state: Committed, n_queries: int) -> int:
    """Tile-queries of the whole scene, of which a sample asks a few."""
    if plan.sample is None:
        return state.n_wanted
    return sum(replace(plan, sample=None).counts().values()) * n_queries


@dataclass
class _Tally:
    computed: int = 0
    n_tokens: int = 0
    n_tiles: int = 0
    seconds: Counter[str] = field(default_factory=Counter)


def _segment(
    plan: ScenePlan,
    state: Committed,
    context: RunContext,
    workers: Workers,
    progress: Progress,
    *,
    name: str,
    is_irrelevant: IsIrrelevant = nothing,
) -> _Tally:
    tally = _Tally()
    if not context.retry_failed:
        context.tolerance.count(state.counts()[TileStatus.FAILED.value])
    n_open = state.n_open(retry_failed=context.retry_failed)
    advance = progress.start(name, plan.scene.scene_id, state.n_wanted, state.n_wanted - n_open)
    of_batch = context.spec.batch_tiles * len(context.spec.queries)
    sizes = TaskSizes(-(-n_open // of_batch), lambda: workers.threads, tile_queries=of_batch)
    is_done = state.is_done(retry_failed=context.retry_failed)
    tasks = _tasks(plan, context, sizes, is_done, is_irrelevant)
    with _watch(context, state, name) if n_open else nullcontext(Watch(None)) as watch:
        for receipts in workers.map(run_batches, watch.given(tasks), models=True):
            sizes.took(receipts)
            for receipt in receipts:
                n = sum(receipt.statuses.values())
                tally.computed += n
                tally.n_tokens += receipt.n_tokens
                tally.n_tiles += receipt.n_tiles
                tally.seconds.update(receipt.seconds())
                OF_RUN.count(receipt.statuses, receipt.n_tokens, receipt.seconds())
                advance(n)
                context.tolerance.count(receipt.statuses[TileStatus.FAILED.value])
                watch.committed(receipt.name)
    return tally


def _watch(context: RunContext, state: Committed, name: str) -> AbstractContextManager[Watch]:
    # What is computed again may replace what a block was made of; and a first look answers tiles of another plan.
    if context.early is None or context.retry_failed or name != "segment":
        return nullcontext(Watch(None))
    return context.early.beside(state)


def stitch_scene(
    plan: ScenePlan, state: Committed, context: RunContext, workers: Workers, progress: Progress
) -> StageReceipt:
    """Blend a scene's tile results, which `state` lists, into one mosaic per query."""
    start_s = time.perf_counter()
    planned = planned_tiles(plan.grids, (tile.key for tile in plan.tiles()))
    advance = progress.start("stitch", plan.scene.scene_id, len(context.spec.queries), 0)
    computed, pixels, seams = 0, {}, {}
    for query in context.spec.queries:
        receipt = stitch_scene_query(
            context.store,
            plan.scene,
            query,
            threshold=context.spec.threshold_of(query),
            index=state.of_query(query),
            grids=plan.grids,
            workers=workers,
            planned=planned,
            fingerprint=fingerprint(plan, context.spec, state, query),
            trace=trace(plan, run_id=context.run_id, digest=context.spec_digest),
            layout=Layout.sharded(context.spec.shard_px),
            early=None if context.early is None else context.early.of(query),
        )
        computed += not receipt.reused
        if context.early is not None:
            context.early.forget(query)
        pixels[query.query_id] = {"target_px": receipt.target_px, "unseen_px": receipt.unseen_px}
        seams[query.query_id] = receipt.seams
        advance(1)
    details = {"pixels": pixels, "seams": seams}
    return StageReceipt("stitch", plan.scene.scene_id, time.perf_counter() - start_s, computed, details)


def vectorise_scene(
    plan: ScenePlan, state: Committed, context: RunContext, workers: Workers, progress: Progress
) -> StageReceipt:
    """Turn a scene's mosaics into one partition of features per query. `state` as stitching had it."""
    start_s = time.perf_counter()
    provenance = Provenance(plan.versions.prompter, plan.versions.segmenter, context.run_id)
    advance = progress.start("vectorise", plan.scene.scene_id, len(context.spec.queries), 0)
    computed, features = 0, {}
    for query in context.spec.queries:
        receipt = vectorise_scene_query(
            context.store,
            plan.scene,
            query,
            index=state.of_query(query),
            grids=plan.grids,
            workers=workers,
            fingerprint=_features_fingerprint(plan, context.spec, state, query),
            trace=trace(plan, run_id=context.run_id, digest=context.spec_digest),
            provenance=provenance,
            rules=context.spec.rules_of(query),
        )
        computed += not receipt.reused
        features[query.query_id] = receipt.n_features
        advance(1)
    return StageReceipt(
        "vectorise", plan.scene.scene_id, time.perf_counter() - start_s, computed, {"features": features}
    )


def fingerprint(plan: ScenePlan, spec: RunSpec, state: Committed, query: Query) -> str:
    """Hash of all that determines a scene's mosaic of one query: JSON whose `results` are (key, status, batch)."""
    facts = {
        "stitch_version": STITCH_VERSION,
        "results": [],
        "n_tiles": state.n_wanted // len(spec.queries),  # of this query: another query must not touch what is finished
        "scene": plan.scene.to_json(),
        "overlap_px": {level: grid.overlap_px for level, grid in plan.grids.items()},
        "query": [query.text, query.label],
        "threshold": spec.threshold_of(query),
        "shard_px": spec.shard_px,
    }
    before, start, after = json.dumps(facts, sort_keys=True).partition('"results": [')
    digest = hashlib.sha256((before + start).encode())
    for n, rows in enumerate(_sorted_rows(state.of_query(query))):
        digest.update((", " * (n > 0) + json.dumps(rows)[1:-1]).encode())
    digest.update(after.encode())
    return digest.hexdigest()[:32]


def _sorted_rows(index: pa.Table) -> Iterator[list[list[str]]]:
    """(key, status, batch) in their order, some at a time: as Python objects, a huge scene's would fill the memory."""
    names = ["key", "status", "batch"]
    plain = index.select(names).cast(pa.schema([(name, pa.string()) for name in names]))
    ordered = plain.sort_by([(name, "ascending") for name in names])
    for some in ordered.combine_chunks().to_batches(max_chunksize=_ROWS_AT_ONCE):
        yield [[row[name] for name in names] for row in some.to_pylist()]


def _features_fingerprint(plan: ScenePlan, spec: RunSpec, state: Committed, query: Query) -> str:
    """The same for its features, which depend on the mosaic and on the rules."""
    facts = {"mosaic": fingerprint(plan, spec, state, query), "rules": asdict(spec.rules_of(query))}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


def _tasks(
    plan: ScenePlan, context: RunContext, sizes: TaskSizes, is_done: IsDone, is_irrelevant: IsIrrelevant
) -> Iterator[SegmentTask]:
    every = plan.batches(context.spec.queries, is_done, context.spec.batch_tiles, is_irrelevant)
    for level, batches in groupby(every, key=lambda batch: batch.tiles[0].key.level):
        while some := tuple(islice(batches, sizes.next())):
            yield SegmentTask(
                store=context.store,
                scene=plan.scene,
                stretch=plan.stretch,
                tile_px=plan.grids[level].tile_px,
                batches=some,
                versions=plan.versions,
                device=context.device,
                run_id=context.run_id,
                scene_fault=plan.fault,
                retry_failed=context.retry_failed,
            )
