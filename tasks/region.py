"""One Prefect task per stage and scene. Tiles are Dask futures inside: Prefect would need 100 ms for each."""

from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.runtime import task_run

from pipeline import publish, stages
from pipeline.committed import Committed, committed
from pipeline.plan import ScenePlan
from pipeline.progress import Progress
from pipeline.stages import RunContext, StageReceipt
from pipeline.tolerance import TooManyFailed
from pipeline.work import Workers


# Stages know from committed objects what is done; Prefect's cache would not notice a change below the task. They are
# idempotent, so a retry costs only what was not committed.
def _may_help(task: Any, task_run: Any, state: State[Any]) -> bool:  # noqa: ANN401, ARG001 -- as Prefect calls it
    """Whether to try again: not where a run was told to end early. `state`: its data is what the task raised."""
    return not isinstance(state.data, TooManyFailed)


_OPTIONS: dict[str, Any] = {
    "cache_policy": NO_CACHE,
    "persist_result": False,
    "retries": 1,
    "retry_delay_seconds": 5,
    "retry_condition_fn": _may_help,
}


@task(name="segment-scene", task_run_name="segment {plan.scene.scene_id}", **_OPTIONS)
def segment_scene(
    plan: ScenePlan, state: Committed, context: RunContext, workers: Workers, progress: Progress
) -> StageReceipt:
    """See `pipeline.stages.segment_scene`."""
    if task_run.run_count > 1:  # what the first try committed is not done twice
        state = committed(context.store, plan, context.spec.queries)
    return stages.segment_scene(plan, state, context, workers, progress)


@task(name="stitch-scene", task_run_name="stitch {plan.scene.scene_id}", **_OPTIONS)
def stitch_scene(
    plan: ScenePlan, state: Committed, context: RunContext, workers: Workers, progress: Progress
) -> StageReceipt:
    """See `pipeline.stages.stitch_scene`."""
    return stages.stitch_scene(plan, state, context, workers, progress)


@task(name="vectorise-scene", task_run_name="vectorise {plan.scene.scene_id}", **_OPTIONS)
def vectorise_scene(
    plan: ScenePlan, state: Committed, context: RunContext, workers: Workers, progress: Progress
) -> StageReceipt:
    """See `pipeline.stages.vectorise_scene`."""
    return stages.vectorise_scene(plan, state, context, workers, progress)


@task(name="publish-scene", task_run_name="publish {plan.scene.scene_id}", **_OPTIONS)
def publish_scene(
    plan: ScenePlan, state: Committed, context: RunContext, workers: Workers, progress: Progress
) -> StageReceipt:
    """See `pipeline.publish.publish_scene`."""
    return publish.publish_scene(plan, state, context, workers, progress)
