"""Dask workers that start only when there is work: a run that finds everything done costs no cluster."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from itertools import chain
from threading import Event, Lock
from types import TracebackType
from typing import Self, TypeVar

from flows.telemetry import watch
from infra.checks import ClusterProblem
from infra.cluster import check_cluster, cluster_for
from pipeline.scenes import Problem
from pipeline.work import DaskWorkers
from t2s_core.errors import BadInput

T = TypeVar("T")
R = TypeVar("R")


def cluster_problems(cluster: str, device: str) -> list[Problem]:
    """What is wrong with a cluster as it is asked for: its spelling, its file of settings. Nothing is started."""
    try:
        check_cluster(cluster, device=device)
    except ClusterProblem as problem:
        return [Problem(f"--cluster {cluster}", str(problem))]
    return []


class WorkersOnDemand:
    """`pipeline.work.Workers` on a cluster that is opened by the first item and closed with the context."""

    def __init__(self, cluster: str, n_workers: int | None, device: str = "cpu") -> None:
        """See `infra.cluster.cluster_for`; `device` is where models shall run, if any do.

        Raises `BadInput` for what is wrong with the cluster as it is asked for, whether or not there will be work.
        """
        if problems := cluster_problems(cluster, device):
            raise BadInput(*map(str, problems))
        self._cluster, self._n_workers, self._device = cluster, n_workers, device
        self._stack = ExitStack()
        self._workers: DaskWorkers | None = None
        self._opening = Lock()
        self._stopped = Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    @property
    def threads(self) -> int:
        """See `Workers.threads`; 1 before there are any."""
        return 1 if self._workers is None else self._workers.threads

    @property
    def models_apart(self) -> bool:
        """See `Workers.models_apart`; False before there are any."""
        return self._workers is not None and self._workers.models_apart

    def stop(self) -> None:
        """See `pipeline.work.Stoppable.stop`."""
        self._stopped.set()
        if self._workers is not None:
            self._workers.stop()

    def map(self, function: Callable[[T], R], items: Iterable[T], *, models: bool = False) -> Iterator[R]:
        """See `Workers.map`. Raises `BadInput` where the cluster cannot be used as it is."""
        pending = iter(items)
        for first in pending:
            try:
                yield from self._open().map(function, chain([first], pending), models=models)
            except ClusterProblem as problem:
                raise BadInput(f"--cluster {self._cluster}: {problem}") from problem

    def _open(self) -> DaskWorkers:
        with self._opening:  # scenes run in threads, and any of them may be the first to need workers
            if self._workers is None:
                cluster = self._stack.enter_context(
                    cluster_for(self._cluster, n_workers=self._n_workers, device=self._device)
                )
                watch(cluster.client)
                self._workers = DaskWorkers(
                    cluster.client,
                    patience_s=cluster.patience_s,
                    on_gpus=cluster.on_gpus,
                    want=cluster.want,
                    check=cluster.check,
                )
                if self._stopped.is_set():
                    self._workers.stop()
            return self._workers
