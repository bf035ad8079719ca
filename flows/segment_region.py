"""The region run as a Prefect flow: the same stages as without Prefect, one task per stage and scene."""

from prefect import flow

from flows.run import RunSettings, run
from pipeline.conduct import Stages
from pipeline.manifest import RunStatus
from pipeline.region import Outcome
from pipeline.spec import RunSpec
from tasks.region import publish_scene, segment_scene, stitch_scene, vectorise_scene


@flow(name="segment-region", persist_result=False)
def segment_region(spec: RunSpec, out: str, settings: RunSettings | None = None) -> Outcome:
    """Ask the spec's queries of its scenes; results go to `out` (a path or any fsspec URL).

    Raises `BadInput` on input that cannot work, and `RuntimeError` where every tile-query failed, so that the flow run
    is marked failed.
    """
    stages = Stages(segment_scene, stitch_scene, vectorise_scene, publish_scene)
    outcome = run(spec, out, settings or RunSettings(), stages)
    if outcome.status is RunStatus.FAILED:
        raise RuntimeError(f"every tile-query failed; see `t2s status {out}`")
    return outcome
