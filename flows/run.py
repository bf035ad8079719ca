"""A region run without Prefect: prepare, open workers when needed, call the stages. The flow uses it too."""

import os

from platformdirs import user_cache_dir
from pydantic import BaseModel, ConfigDict

from flows.progress import Both, progress_for
from flows.request import RunRequest
from flows.telemetry import take_over
from flows.workers import WorkersOnDemand, cluster_problems
from pipeline.conduct import DIRECT, Stages
from pipeline.estimate import measured
from pipeline.prepare import Prepared, prepare
from pipeline.progress import Progress
from pipeline.rates import RateBook, rates_of
from pipeline.region import Outcome, run_region
from pipeline.sample import FOLDER as SAMPLE
from pipeline.sample import keep
from pipeline.spec import RunSpec
from pipeline.storage import Store
from t2s_core.errors import BadInput


class RunSettings(BaseModel):
    """What changes how fast a run goes and where, but never its result."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cluster: str = "local"
    """Where Dask workers come from: see `infra.cluster`."""
    workers: int | None = None
    """Local worker processes; one per core if None."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda` or `cuda:N`."""
    scenes_at_once: int = 2
    """Scenes that are worked on at the same time, so that the last tiles of one leave no worker idle."""
    retry_failed: bool = False
    """Compute tile-queries again that failed before."""
    fresh: bool = False
    """Throw away what earlier runs left in the directory."""


def settings_of(request: RunRequest) -> RunSettings:
    """Those of a request."""
    return RunSettings(**{key: getattr(request, key) for key in RunSettings.model_fields if hasattr(request, key)})


def run(spec: RunSpec, out: str, settings: RunSettings, stages: Stages = DIRECT) -> Outcome:
    """Ask the spec's queries of its scenes; results go to `out` (a path or any fsspec URL).

    Raises `BadInput` on input that cannot work.
    """
    if problems := cluster_problems(settings.cluster, settings.device):
        raise BadInput(*map(str, problems))
    return run_prepared(prepare(spec, out), settings, stages)


def run_prepared(
    prepared: Prepared, settings: RunSettings, stages: Stages = DIRECT, watch: Progress | None = None
) -> Outcome:
    """The same for a spec whose inputs were looked at already. `watch` is told too how far the run is."""
    book = rate_book(settings.cluster, settings.device)
    take_over()
    with WorkersOnDemand(settings.cluster, settings.workers, settings.device) as workers, progress_for() as progress:
        outcome = run_region(
            prepared,
            workers,
            progress if watch is None else Both(progress, watch),
            stages=stages,
            device=settings.device,
            retry_failed=settings.retry_failed,
            fresh=settings.fresh,
            scenes_at_once=settings.scenes_at_once,
            rates=measured(prepared, book),
        )
    if prepared.samples is not None:  # what it computed the whole run does not compute again
        keep(prepared.store, Store.at(prepared.store.url.removesuffix(f"/{SAMPLE}")))
    rates = rates_of(outcome.manifest)
    if rates is not None:
        book.write(prepared.versions, rates)
    return outcome


def rate_book(cluster: str, device: str) -> RateBook:
    """What models were measured to take, kept for this user; T2S_CACHE names another place, any fsspec URL."""
    return RateBook(Store.at(os.environ.get("T2S_CACHE") or user_cache_dir("t2s")), cluster, device)
