"""Workers as Slurm jobs, of two kinds beside one scheduler: jobs with a GPU, and jobs without.

dask-jobqueue submits and cancels; its own cluster class knows one kind of job only.
"""

import logging
import math
import socket
import time
from collections.abc import Iterator, KeysView
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from infra.checks import GPU, ClusterProblem
from infra.pools import Pool, PoolName, Strict

_MOST_STILLBORN = 3
_RETIRE_BEFORE_S = 300
"""A worker hands over and leaves this long before its job's time is up, or at half of a short one."""


class Job(Pool):
    """What a job of one kind asks of Slurm. A job is one worker."""

    memory: Annotated[str, Field(pattern=r"^\d+(\.\d+)? ?(MB|MiB|GB|GiB|TB|TiB)$")]
    """Of the job, e.g. 64GB."""
    cores: Annotated[int, Field(ge=1)] = 1
    walltime: Annotated[str, Field(pattern=r"^(\d+-)?\d{1,2}:\d{2}:\d{2}$")] = "01:00:00"
    """D-HH:MM:SS or HH:MM:SS."""
    queue: str | None = None
    """Slurm's partition."""
    directives: tuple[str, ...] = ()
    """More of `#SBATCH`, e.g. `--gres=gpu:1`."""


class SlurmSettings(Strict):
    """The file of `--cluster slurm:FILE`."""

    gpu: Job | None = None
    """Jobs whose workers ask the models; their directives must ask for one GPU each."""
    cpu: Job
    """Jobs for all else; without `gpu` the models too."""
    account: str | None = None
    prologue: tuple[str, ...] = ()
    """Shell lines before the worker starts, e.g. `module load cuda` or `export T2S_CACHE=...`."""
    python: str | None = None
    """Of the worker; the one that runs this command if left out, which then must lie on a shared disk."""
    interface: str | None = None
    """Network interface that nodes reach each other by, e.g. ib0."""
    host: str | None = None
    """Where this machine listens, instead of `interface`."""
    log_folder: Path | None = None
    """For the jobs' own output; must exist on the nodes."""
    encrypted: bool = True
    """TLS between all of them, by certificates of Dask's configuration, or by temporary ones. Without it everybody on
    the network of the cluster can run code as you."""
    shared_folder: Path = Path("~/.t2s")
    """Seen by this machine and the nodes: temporary certificates lie there while a run lasts, readable by you alone."""
    idle_s: Annotated[float, Field(ge=0)] = 300
    """How long a job without work is kept."""
    wait_s: Annotated[float, Field(gt=0)] = 3600
    """How long to wait in the queue for the first worker of a kind."""

    @model_validator(mode="after")
    def _gpu_asks_for_one(self) -> Self:
        if self.gpu is not None and not any("gpu" in directive for directive in self.gpu.directives):
            raise ValueError("gpu.directives ask for no GPU; add e.g. --gres=gpu:1")
        return self

    ask_every_s: Annotated[float, Field(gt=0)] = 30
    """How often `squeue` is asked at most, and only while a worker is missing."""

    @property
    def jobs(self) -> dict[PoolName, Job]:
        """By pool, those that there are."""
        return {"cpu": self.cpu} if self.gpu is None else {"gpu": self.gpu, "cpu": self.cpu}


class SlurmWorkers:
    """A scheduler in this process, and jobs that come and go."""

    def __init__(self, settings: SlurmSettings) -> None:
        """Starts the scheduler; submits nothing yet. Raises `OSError` and `RuntimeError`."""
        from dask_jobqueue.slurm import SLURMCluster, SLURMJob
        from distributed import SchedulerPlugin, Status

        class Submitted(SLURMJob):  # type: ignore[misc]  # it has no types
            """Says of itself that it failed where Slurm refuses it: Dask's cluster wants to know at its end."""

            async def start(self) -> None:
                try:
                    await super().start()
                except BaseException:
                    self.status = Status.failed
                    raise

        class Met(SchedulerPlugin):
            """Remembers every worker that ever connected, however short."""

            def add_worker(_, scheduler: Any, worker: str) -> None:  # noqa: ANN401, N805
                self._met.add(scheduler.workers[worker].name)

        self._settings, self._numbers = settings, count()
        self._met: set[str] = set()
        self._n_stillborn, self._asked_s = 0, -math.inf
        listen = {"host": settings.host} if settings.host else {}
        self.cluster: Any = SLURMCluster(
            **_options(settings, settings.cpu),
            **_security(settings),
            job_cls=Submitted,
            interface=settings.interface,
            scheduler_options={"dashboard_address": ":0", **listen},
            silence_logs=logging.ERROR,
        )
        scheduler: Any = self.cluster.scheduler
        scheduler.add_plugin(Met())

    def scale(self, pool: PoolName, n: int) -> None:
        """Bring a pool to `n` jobs: submit, replace those that ended, let workers go that are not needed.

        A worker that leaves hands over first; what it is at is done again elsewhere. Raises `ClusterProblem` where jobs
        end one after the other before their worker connects, and `RuntimeError` where Slurm refuses.
        """
        self.cluster.sync(self._scale, pool, n)

    async def _scale(self, pool: PoolName, n: int) -> None:
        spec, scheduler = self.cluster.worker_spec, self.cluster.scheduler
        connected = {worker.name: worker for worker in scheduler.workers.values()}
        for name in await self._ended(connected.keys()):
            spec.pop(name)
        names = [name for name in spec if name.startswith(f"{pool}-")]
        # jobs that still queue cost nobody anything; then those with the least at hand
        at_hand = {name: len(connected[name].processing) if name in connected else -1 for name in names}
        leaving = sorted(names, key=lambda name: at_hand[name])[: max(0, len(names) - n)]
        # Dask's SpecCluster looks for these names among addresses, and so retires nobody before it cancels jobs.
        await scheduler.retire_workers(workers=[connected[name].address for name in leaving if name in connected])
        for name in leaving:
            spec.pop(name)
        for _ in range(n - len(names)):
            spec[f"{pool}-{next(self._numbers)}"] = self._job(pool)
        await self.cluster._correct_state()  # noqa: SLF001 -- `scale` calls it too, but knows only one kind of worker

    async def _ended(self, connected: KeysView[str]) -> list[str]:
        """Names of jobs that are over. Slurm is asked only where a worker is missing, and not often."""
        missing = {name: job.job_id for name, job in self.cluster.workers.items() if name not in connected}
        if not missing or time.monotonic() - self._asked_s < self._settings.ask_every_s:
            return []
        self._asked_s = time.monotonic()
        alive = (await self.cluster.job_cls._call(["squeue", "--me", "--noheader", "--format=%i"])).split()  # noqa: SLF001
        ended = [name for name, job_id in missing.items() if job_id not in alive and name in self.cluster.worker_spec]
        if self._met:
            self._n_stillborn = 0
        self._n_stillborn += sum(name not in self._met for name in ended)
        if self._n_stillborn >= _MOST_STILLBORN:
            where = self._settings.log_folder or "log_folder, once it is set"
            raise ClusterProblem(
                f"{self._n_stillborn} Slurm jobs ended before their worker connected; what they said is in {where}"
            )
        return ended

    def _job(self, pool: PoolName) -> dict[str, Any]:
        job = self._settings.jobs[pool]
        options = {**self.cluster.new_spec["options"], **_options(self._settings, job)}
        if pool == "gpu":
            options["worker_extra_args"] = [*options["worker_extra_args"], "--resources", f"{GPU}=1"]
        return {"cls": self.cluster.job_cls, "options": options}


def _options(settings: SlurmSettings, job: Job) -> dict[str, Any]:
    # One process of one thread, however many cores: torch and GDAL use the others
    life_s = _seconds(job.walltime) - min(_RETIRE_BEFORE_S, _seconds(job.walltime) // 2)
    return {
        "cores": 1,
        "processes": 1,
        "memory": job.memory,
        "job_cpu": job.cores,
        "queue": job.queue,
        "walltime": job.walltime,
        "account": settings.account,
        "job_extra_directives": list(job.directives),
        "job_script_prologue": list(settings.prologue),
        "python": settings.python,
        "log_directory": None if settings.log_folder is None else str(settings.log_folder),
        "job_name": "t2s",
        "death_timeout": 60,
        "nanny": False,  # a job whose worker dies ends, and another takes its place
        "worker_extra_args": ["--lifetime", f"{life_s}s", "--memory-limit", "0"],
    }


def _seconds(walltime: str) -> int:
    days, _, clock = walltime.rpartition("-")
    hours, minutes, seconds = (int(part) for part in clock.split(":"))
    return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds


def _security(settings: SlurmSettings) -> dict[str, Any]:
    if not settings.encrypted:
        return {}
    import dask
    from distributed import Security

    folder = settings.shared_folder.expanduser()
    if dask.config.get("distributed.comm.tls.ca-file", None) is not None:
        return {"security": Security(require_encryption=True), "protocol": "tls://"}
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return {"security": Security.temporary(), "protocol": "tls://", "shared_temp_directory": str(folder)}


@contextmanager
def slurm(settings: SlurmSettings) -> Iterator[SlurmWorkers]:
    """A scheduler here; its jobs are cancelled at the end. Raises `ClusterProblem`."""
    try:
        workers = SlurmWorkers(settings)
    except (OSError, RuntimeError) as error:
        raise ClusterProblem(f"no scheduler can listen on {socket.gethostname()}: {error}") from error
    with workers.cluster:
        yield workers
