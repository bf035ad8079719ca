"""Where Dask workers come from. Imports nothing of ours, so that it can be copied to where a cluster is started.

- `local`: a process per core of this machine
- `local-gpu`: a process per GPU of this machine, and others for what needs none
- `tcp://HOST:PORT`: a scheduler that runs somewhere; `tls://` with the certificates of Dask's own configuration
- `slurm:FILE`: jobs of Slurm, settings in a YAML file: `infra.slurm_jobs.SlurmSettings`
- `kubernetes:FILE`: pods of Kubernetes, likewise: `infra.kubernetes_pods.KubernetesSettings`
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from infra.checks import ClusterProblem, check_gpus, check_threads, check_versions, extra, workers_of
from infra.pools import Pool, PoolName, Scaler

LOCAL, LOCAL_GPU, SLURM, KUBERNETES = "local", "local-gpu", "slurm", "kubernetes"
SPELLINGS = "local, local-gpu, tcp://HOST:PORT, tls://HOST:PORT, slurm:FILE or kubernetes:FILE"

_PATIENCE_S = 30.0
"""How long workers may take that somebody else starts."""
_KEPT_MESSAGES = 20
"""How many messages of each connection Dask keeps for its developers; `bin/scheduler.sh` says it to schedulers."""


@dataclass(frozen=True)
class Cluster:
    """What a run needs to know of its cluster."""

    client: Any
    """Connected `distributed.Client`."""
    on_gpus: bool | None
    """Whether models go to workers that have a GPU, which some are then; None: as soon as there is one."""
    patience_s: float
    """How long it may be without a worker of the kind that is needed."""
    want: Callable[[PoolName, float], None] = lambda *_: None
    """Told of how many items of a pool could be worked on at the same time."""
    check: Callable[[], None] = lambda: None
    """Asked now and then while the run waits. Raises `ClusterProblem` where waiting is in vain."""


@contextmanager
def cluster_for(cluster: str = LOCAL, *, n_workers: int | None = None, device: str = "auto") -> Iterator[Cluster]:
    """A connected cluster, let go at the end.

    `cluster`: see the module. Workers of a scheduler's address stay, all others are stopped. `n_workers`: of local
    processes; see `infra.local`. `device`: `auto`, `cpu`, `cuda` or `cuda:N`, where the models shall run.

    Raises `ClusterProblem`, in a line, for whatever cannot work: before any task, never by waiting for it.
    """
    opening = _opening(cluster, n_workers, device)
    _keep_few_messages()
    # A lost scheduler is our caller's to report, in a line; Dask's own account of it is pages long.
    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)
    with ExitStack() as stack:
        yield opening(stack)


def _keep_few_messages() -> None:
    """Dask keeps 1,000, tasks and all: memory of client and scheduler would grow with the region for hours."""
    import dask
    import distributed  # noqa: F401 -- whose default this replaces; what a user has set stands

    dask.config.update_defaults({"distributed": {"admin": {"low-level-log-length": _KEPT_MESSAGES}}})


def check_cluster(cluster: str, *, device: str = "auto") -> None:
    """Raise `ClusterProblem` for what is wrong with a cluster as it is asked for. Starts nothing and asks nobody."""
    _opening(cluster, None, device)


def _opening(cluster: str, n_workers: int | None, device: str) -> Callable[[ExitStack], Cluster]:
    """Opens the cluster, for which all is there on this side."""
    kind, _, file = cluster.partition(":")
    if cluster == LOCAL:
        return lambda stack: _local(stack, n_workers)
    if cluster == LOCAL_GPU:
        if device == "cpu":
            raise ClusterProblem("--device cpu needs no GPUs; use --cluster local")
        return lambda stack: _local_gpus(stack, n_workers)
    if cluster.startswith(("tcp://", "tls://")):
        _check_address(cluster)
        return lambda stack: _somewhere(stack, cluster, device)
    if kind == SLURM and file:
        return _slurm(file, device)
    if kind == KUBERNETES and file:
        return _kubernetes(file, device)
    raise ClusterProblem(f"there is no such kind of cluster; use {SPELLINGS}")


def _check_address(address: str) -> None:
    parts = urlsplit(address)
    try:
        is_whole = parts.hostname and parts.port is not None and not parts.path.strip("/")
    except ValueError:  # of a port that is none
        is_whole = False
    if not is_whole:
        raise ClusterProblem(f"that is no address of a scheduler; write e.g. {parts.scheme}://head:8786")
    if parts.scheme == "tls":
        from distributed.security import Security

        try:
            certificate = Security().get_connection_args("client")["ssl_context"]
        except OSError as error:  # of a file, or of what is in it
            raise ClusterProblem(f"the certificates that Dask's configuration names cannot be used: {error}") from error
        if certificate is None:
            raise ClusterProblem(
                "this side has no certificate; set distributed.comm.tls.ca-file and .client.cert and .key in Dask's "
                "configuration"
            )


def _client(stack: ExitStack, cluster: Any, **options: Any) -> Any:  # noqa: ANN401 -- distributed has no types
    from distributed import Client

    # Not the default client: small reads of ours by way of Dask arrays need no cluster, and outlive one that is lost.
    # `closing`, for a client's own context belongs to the thread that enters it, and here another one may leave it.
    return stack.enter_context(closing(Client(cluster, set_as_default=False, **options)))


def _local(stack: ExitStack, n_workers: int | None) -> Cluster:
    from infra.local import local_processes

    client = _client(stack, stack.enter_context(local_processes(n_workers)))
    return Cluster(client, on_gpus=False, patience_s=_PATIENCE_S)


def _local_gpus(stack: ExitStack, n_workers: int | None) -> Cluster:
    from infra.local import local_gpus

    client = _client(stack, stack.enter_context(local_gpus(n_workers)))
    return Cluster(client, on_gpus=True, patience_s=_PATIENCE_S)


def _somewhere(stack: ExitStack, address: str, device: str) -> Cluster:
    client = _connected(stack, address)
    try:
        client.wait_for_workers(1, timeout=_PATIENCE_S)
    except TimeoutError as error:
        raise ClusterProblem(
            f"no worker is connected to it, nor came within {_PATIENCE_S:g} s; start workers: dask worker {address}"
        ) from error
    check_versions(client)
    workers = workers_of(client)
    check_threads(workers)
    if device.startswith("cuda"):
        check_gpus(workers.values())
    on_gpus = {"cpu": False, "auto": None}.get(device, True)
    return Cluster(client, on_gpus, _PATIENCE_S, check=_Newcomers(client, set(workers)))


def _connected(stack: ExitStack, address: str) -> Any:  # noqa: ANN401
    try:
        return _client(stack, address, timeout=_PATIENCE_S)
    except (OSError, RuntimeError, ValueError) as error:
        told = " ".join(str(error.__cause__ or error).split())
        raise ClusterProblem(f"no scheduler answers there: {told[:300]}") from error


class _Newcomers:
    """Checks the software of workers that join a running job."""

    def __init__(self, client: Any, known: set[str]) -> None:  # noqa: ANN401
        self._client, self._known = client, known

    def __call__(self) -> None:
        workers = workers_of(self._client)
        if workers.keys() - self._known:
            check_versions(self._client)
            check_threads(workers)
            self._known |= workers.keys()


def _slurm(file: str, device: str) -> Callable[[ExitStack], Cluster]:
    from infra.settings import read_settings
    from infra.slurm_jobs import SlurmSettings, slurm

    settings = read_settings(file, SlurmSettings)
    on_gpus = _on_gpus(settings.gpu is not None, device, file)
    extra("dask-jobqueue", "slurm")
    return lambda stack: _scaled(stack, slurm(settings), settings, settings.jobs, on_gpus=on_gpus)


def _kubernetes(file: str, device: str) -> Callable[[ExitStack], Cluster]:
    from infra.kubernetes_pods import KubernetesSettings
    from infra.kubernetes_workers import kubernetes
    from infra.settings import read_settings

    settings = read_settings(file, KubernetesSettings)
    on_gpus = _on_gpus(settings.gpu is not None, device, file)
    extra("dask-kubernetes", "kubernetes")
    return lambda stack: _scaled(stack, kubernetes(settings), settings, settings.pods, on_gpus=on_gpus)


def _on_gpus(there_are: bool, device: str, file: str) -> bool:
    if device.startswith("cuda") and not there_are:
        raise ClusterProblem(f"--device {device} wants a GPU, and {file} has no `gpu`; add it, or use --device cpu")
    return there_are and device != "cpu"


def _scaled(
    stack: ExitStack,
    opening: AbstractContextManager[Any],
    settings: Any,  # noqa: ANN401 -- of Slurm or of Kubernetes, which share these two
    pools: Mapping[PoolName, Pool],
    *,
    on_gpus: bool,
) -> Cluster:
    workers = stack.enter_context(opening)
    wanted = {name: pool for name, pool in pools.items() if name != "gpu" or on_gpus}
    scaler = Scaler(wanted, workers.scale, idle_s=settings.idle_s)
    client = _client(stack, workers.cluster)
    newcomers = _Newcomers(client, set())
    try:
        failing = stack.enter_context(scaler.following(passing=RuntimeError))
    except (OSError, RuntimeError) as error:
        told = f"{error.filename} is not to be found here" if isinstance(error, FileNotFoundError) else str(error)
        raise ClusterProblem(" ".join(told.split())[:500]) from error

    def check() -> None:
        failing()
        newcomers()

    return Cluster(client, on_gpus, settings.wait_s, scaler.want, check)
