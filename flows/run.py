"""A region run without Prefect: prepare, open workers when needed, call the stages. The flow uses it too."""

from pydantic import BaseModel, ConfigDict

from flows.progress import progress_for
from flows.workers import WorkersOnDemand
from pipeline.prepare import Prepared, prepare
from pipeline.region import DIRECT, Outcome, Stages, run_region
from pipeline.spec import RunSpec


class RunSettings(BaseModel):
    """What changes how fast a run goes and where, but never its result."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cluster: str = "local"
    """`local`, or a Dask scheduler's address."""
    workers: int | None = None
    """Local worker processes; one per core if None."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda` or `cuda:N`."""
    retry_failed: bool = False
    """Compute tile-queries again that failed before."""
    fresh: bool = False
    """Throw away what earlier runs left in the directory."""


def run(spec: RunSpec, out: str, settings: RunSettings, stages: Stages = DIRECT) -> Outcome:
    """Ask the spec's queries of its scenes; results go to `out` (a path or any fsspec URL).

    Raises `BadInput` on input that cannot work.
    """
    return run_prepared(prepare(spec, out), settings, stages)


def run_prepared(prepared: Prepared, settings: RunSettings, stages: Stages = DIRECT) -> Outcome:
    """The same for a spec whose inputs were looked at already."""
    with WorkersOnDemand(settings.cluster, settings.workers) as workers, progress_for() as progress:
        return run_region(
            prepared,
            workers,
            progress,
            stages=stages,
            device=settings.device,
            retry_failed=settings.retry_failed,
            fresh=settings.fresh,
        )
