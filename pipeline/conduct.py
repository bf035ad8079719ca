"""The scenes of a run through its stages, several scenes at a time.

While the last tiles of a scene are answered the next scene's keep the workers busy, and a finished scene is stitched
while others are segmented. What comes of a scene depends on no other.
"""

import contextvars
import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace

from pipeline.committed import Committed, Tally, committed
from pipeline.early import EarlyStitching
from pipeline.logs import about
from pipeline.plan import ScenePlan
from pipeline.progress import Progress
from pipeline.provenance import trace
from pipeline.publish import publish_scene
from pipeline.stages import RunContext, StageReceipt, segment_scene, stitch_scene, vectorise_scene
from pipeline.work import Stoppable, Stopped, Timed, Workers

log = logging.getLogger(__name__)

DAMAGED = "damaged"
"""The folder of a run's directory for tile results that are no whole objects."""

Stage = Callable[[ScenePlan, Committed, RunContext, Workers, Progress], StageReceipt]


@dataclass(frozen=True)
class Stages:
    """The stages of a scene in their order. Prefect wraps each in a task; without it they are called as they are."""

    segment: Stage | None = segment_scene
    """None where what is committed is all there shall be."""
    stitch: Stage = stitch_scene
    vectorise: Stage = vectorise_scene
    publish: Stage = publish_scene


DIRECT = Stages()
"""The stages as they are, with no orchestrator around them."""


@dataclass(frozen=True)
class SceneOutcome:
    """What a scene came to."""

    scene_id: str
    tally: Tally
    receipts: Sequence[StageReceipt]
    """One for each stage."""
    damaged: frozenset[str] = frozenset()
    """Names of tile results that were found damaged and put aside; what they held was computed anew."""


def conduct(
    plans: Sequence[ScenePlan],
    context: RunContext,
    stages: Stages,
    workers: Workers,
    progress: Progress,
    *,
    at_once: int = 1,
) -> list[SceneOutcome]:
    """Take every scene through the stages; outcomes in the order of the plans.

    `at_once`: scenes at the same time, each in a thread of its own; with 1 all happens in the calling thread, which
    workers need that run in it. The first exception of a stage ends the others with their next result and is raised.
    """
    stop = threading.Event()
    progress.expect(len(plans))
    if at_once == 1:
        return [_scene(plan, context, stages, workers, progress, stop) for plan in plans]
    with ThreadPoolExecutor(at_once, thread_name_prefix="t2s-scene") as pool:
        # An orchestrator keeps in context variables which flow a task belongs to.
        futures = [
            pool.submit(contextvars.copy_context().run, _scene, plan, context, stages, workers, progress, stop)
            for plan in plans
        ]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
            _raise_first(futures)
        except BaseException:  # an interrupt of the waiting thread, too
            if isinstance(workers, Stoppable):
                workers.stop()
            raise
        finally:
            stop.set()
            for future in futures:
                future.cancel()
    return [future.result() for future in futures]


def _raise_first(futures: Sequence[Future[SceneOutcome]]) -> None:
    """What a thread raised because another had ended the run explains nothing."""
    errors = [error for future in futures if future.done() and (error := future.exception()) is not None]
    for error in sorted(errors, key=lambda error: isinstance(error, Stopped)):
        raise error


def _scene(  # noqa: PLR0917 -- called through an executor, which passes by position
    plan: ScenePlan,
    context: RunContext,
    stages: Stages,
    workers: Workers,
    progress: Progress,
    stop: threading.Event,
) -> SceneOutcome:
    queries = context.spec.queries
    receipts = []
    state = committed(context.store, plan, queries)
    damaged = state.damaged
    for name in sorted(damaged):
        # Before anything is computed: the same batch may be committed again under the same name.
        context.store.put_aside(name, DAMAGED)
        progress.note(f"{context.store.href(name)} is damaged: put aside in {DAMAGED}/, what it held is open again")

    early = EarlyStitching(
        plan, context.store, context.spec, trace(plan, run_id=context.run_id, digest=context.spec_digest), workers
    )
    context = replace(context, early=early)

    def run(stage: Stage) -> None:
        timed = Timed(workers, stop)
        with about(run=context.run_id, scene=plan.scene.scene_id):
            receipt = stage(plan, state, context, timed, progress)
            facts = {"stage": receipt.stage, "numbers": {"computed": receipt.computed, "seconds": receipt.seconds}}
            log.info("stage is done", extra=facts)
        busy_s, names = timed.busy_s, frozenset(timed.names)
        if stage is stages.stitch:
            busy_s, names = busy_s + early.busy_s, names | early.workers
        receipts.append(replace(receipt, busy_s=busy_s, workers=names))

    if stages.segment is not None:
        run(stages.segment)
        # Once more, and then never again: after this stage nothing is committed, and a region's index is long.
        earlier = None if context.retry_failed else early.seen or state
        state = committed(context.store, plan, queries, earlier=earlier)
    for stage in (stages.stitch, stages.vectorise, stages.publish):
        run(stage)
    return SceneOutcome(plan.scene.scene_id, state.tally(plan.scene.scene_id), receipts, damaged)
