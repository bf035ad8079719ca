"""The region run as a Prefect flow: the same stages as without Prefect, one task per stage and scene."""

import logging

from prefect import flow
from prefect.events import emit_event
from prefect.runtime import deployment
from prefect.states import Completed

from flows.artifacts import ShownProgress, show_region
from flows.request import RunRequest
from flows.run import run_prepared, settings_of
from flows.run_file import prepared, requested
from pipeline.conduct import Stages
from pipeline.manifest import RunStatus
from pipeline.region import Outcome
from pipeline.work import Stopped
from tasks.region import publish_scene, segment_scene, stitch_scene, vectorise_scene


def _is_of_no_stopped_stage(record: logging.LogRecord) -> bool:
    raised = record.exc_info[0] if isinstance(record.exc_info, tuple) else None
    return raised is not Stopped and "exception Stopped" not in record.getMessage()


@flow(name="segment-region", persist_result=False)
def segment_region(run: RunRequest | str) -> Outcome:
    """Ask queries of scenes, or of those that are new or changed since the last run into the same place.

    Args:
        run: What is asked, or the address of a run.yaml that the worker can read. A deployment goes on without scenes
            that cannot be used, unless `skip_bad_scenes` is false.

    Returns:
        What came of it; of a run that is PARTIAL, as the result of a completed state of the name `Partial`.

    Raises:
        BadInput: The input cannot work.
        RuntimeError: Every tile-query failed, so that the flow run is marked failed.

    """
    _say_nothing_of_stopped_stages()
    request = requested(run)
    if request.skip_bad_scenes is None and deployment.id is not None:
        request = request.model_copy(update={"skip_bad_scenes": True})
    stages = Stages(segment_scene, stitch_scene, vectorise_scene, publish_scene)
    ready = prepared(request)
    outcome = run_prepared(ready, settings_of(request), stages, watch=ShownProgress())
    show_region(outcome, ready.store)
    name = outcome.status.value.lower()
    emit_event(
        f"t2s.run.{name}",
        {"prefect.resource.id": f"t2s.run.{outcome.manifest['run_id']}"},
        payload={"out": ready.store.url},
    )
    if outcome.status is RunStatus.FAILED:
        raise RuntimeError(f"every tile-query failed; see `t2s status {ready.store.url}`")
    if outcome.status is RunStatus.PARTIAL:  # who looks at Prefect alone shall see it, too
        said = f"some tile-queries have no answer; see `t2s status {ready.store.url}`"
        return Completed(name="Partial", message=said, data=outcome)  # type: ignore[return-value]  # Prefect unpacks it
    return outcome


def _say_nothing_of_stopped_stages() -> None:
    """What ended the run is said; that it ended the stages of other scenes explains nothing."""
    logging.getLogger("prefect.task_runs").addFilter(_is_of_no_stopped_stage)  # once, however often
