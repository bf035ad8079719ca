"""One Prefect task per stage and scene. Tiles are Dask futures inside: Prefect would need 100 ms for each."""

from prefect import task
from prefect.runtime import task_run

from pipeline import publish, stages
from pipeline.committed import Committed, committed
from pipeline.plan import ScenePlan
from pipeline.progress import Progress
from pipeline.stages import RunContext, StageReceipt
from pipeline.tolerance import TooManyFailed
from pipeline.work import Stopped, Workers
from tasks.retries import retried

# Stages know from committed objects what is done.
_OPTIONS = retried(TooManyFailed, Stopped)


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
