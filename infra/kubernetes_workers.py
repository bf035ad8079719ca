"""A scheduler of a run's own in Kubernetes, and two groups of worker pods that come and go, by the Dask operator.

dask-kubernetes creates and deletes; its own scaling asks the operator which workers shall leave, and the operator asks
the scheduler, which knows nothing of groups: told to let go of CPU workers, it takes workers with GPUs too.
"""

import asyncio
import logging
import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any, get_args
from uuid import uuid4

from infra.checks import ClusterProblem
from infra.kubernetes_pods import KubernetesSettings, cluster_spec, worker_spec
from infra.pools import PoolName

log = logging.getLogger(__name__)

_ACT_S = 120
"""How long the operator may take to act on a new cluster, and a scheduler to end once and again."""
_ANSWER_S = 60.0
"""How long one change may take."""
_GONE_S = 150.0
"""How long a cluster may take to go: the operator looks every 60 s whether what it was at with it has ended."""
_LOOK_EVERY_S = 10.0
"""How often pods are looked at that are not there yet."""
_STUCK_S = 60.0
"""How long all pods of a group may be unable to start."""
_STUCK = ("ImagePullBackOff", "ErrImagePull", "InvalidImageName", "CreateContainerConfigError", "CrashLoopBackOff")
"""Reasons of a pod that waits for somebody to mend what it was asked to start."""


class _Starts:
    """Whether pods of a kind start."""

    def __init__(self, what: str) -> None:
        """`what`: their name in messages."""
        self._what, self._told = what, set[str]()
        self._looked_s, self._stuck_since_s = -math.inf, math.inf
        self.last = "it has no pod; does the Dask operator run?"
        """What the first of them waited for when it was looked at last."""

    async def look(self, namespace: str, selector: dict[str, str]) -> None:
        """Say why pods do not start, now and then. Raises `ClusterProblem` where none has for a while."""
        now_s = time.monotonic()
        if now_s - self._looked_s < _LOOK_EVERY_S:
            return
        self._looked_s = now_s
        reasons = [reason async for reason in _reasons(namespace, selector)]
        self.last = reasons[0] if reasons else self.last
        stuck = [reason for reason in reasons if reason.startswith(_STUCK)]
        for reason in {*stuck} - self._told:
            self._told.add(reason)
            log.warning("a %s cannot start: %s", self._what, reason)
        if not stuck or len(stuck) < len(reasons):
            self._stuck_since_s = math.inf
            return
        self._stuck_since_s = min(self._stuck_since_s, now_s)
        if now_s - self._stuck_since_s >= _STUCK_S:
            raise ClusterProblem(f"no {self._what} can start: {stuck[0]}")


class KubernetesWorkers:
    """A scheduler of this run's own in a cluster, and pods that come and go."""

    def __init__(self, settings: KubernetesSettings) -> None:
        """Creates the DaskCluster and waits for its scheduler. Raises `ClusterProblem`."""
        self._asked: dict[PoolName, int] = dict.fromkeys(settings.pods, 0)
        self._sizes: dict[PoolName, int] = dict.fromkeys(settings.pods, 0)  # Deployments, once the operator is done
        self._starts = {pool: _Starts(f"{pool} pod") for pool in settings.pods}
        name = f"{settings.name}-{uuid4().hex[:6]}"
        with _as_problem():
            self.cluster: Any = _patient()(
                custom_cluster_spec=cluster_spec(settings, name),
                namespace=settings.namespace,
                resource_timeout=min(_ACT_S, int(settings.wait_s)),
                # From outside, names of services mean nothing; dask-kubernetes would ask for them for 20 s.
                port_forward_cluster_ip=None if "KUBERNETES_SERVICE_HOST" in os.environ else True,
                quiet=True,
                wait_s=settings.wait_s,
            )
        try:
            if settings.gpu is not None:
                with _as_problem():
                    self.cluster.add_worker_group("gpu", custom_spec=worker_spec(settings, "gpu"))
        except ClusterProblem:
            self.close()
            raise

    def scale(self, pool: PoolName, n: int) -> None:
        """Bring a pool to `n` pods, as far as the operator has done what it was asked before.

        Workers with the least at hand leave; what they are at is done again elsewhere. The operator replaces lost pods.
        Raises `ClusterProblem` where pods cannot start, and `RuntimeError` where the API does not answer.
        """
        try:
            with _as_problem():
                self.cluster.sync(self._scale, pool, n)
        except ClusterProblem as problem:
            if isinstance(problem.__cause__, _api_errors()) and not _is_refused(problem.__cause__):
                raise RuntimeError(str(problem)) from problem  # the API may come back
            raise

    async def _scale(self, pool: PoolName, n: int) -> None:
        async with asyncio.timeout(_ANSWER_S):
            if (n, n) != (self._asked[pool], self._sizes[pool]):
                await self._resize(pool, n)
            if self._sizes[pool]:
                await self._starts[pool].look(self.cluster.namespace, self._selector(pool))

    async def _resize(self, pool: PoolName, n: int) -> None:
        import kr8s
        from dask_kubernetes.operator._objects import DaskWorkerGroup

        if n < self._sizes[pool]:
            deployed = kr8s.asyncio.get(
                "deployments", namespace=self.cluster.namespace, label_selector=self._selector(pool)
            )
            by_name = {it.name: it async for it in deployed}
            if len(by_name) != self._sizes[pool]:
                return  # the operator is at the last change; this is called again in a moment
            # The operator compares the number that is wanted with that of Deployments: it will find nothing to do.
            for name in await self._retired(list(by_name), len(by_name) - n):
                await by_name[name].delete()
                self._sizes[pool] -= 1
        try:
            group = await DaskWorkerGroup.get(_group(self.cluster.name, pool), namespace=self.cluster.namespace)
        except kr8s.NotFoundError:
            return  # the operator has not made it yet; likewise
        await group.scale(n)
        self._asked[pool] = self._sizes[pool] = n

    async def _retired(self, names: list[str], n: int) -> list[str]:
        """Those of `names` that shall go; they take no more work. A worker has the name of its Deployment."""
        scheduler = self.cluster.scheduler_comm
        workers = (await scheduler.identity(n_workers=-1))["workers"]
        addresses = {str(worker["name"]): address for address, worker in workers.items()}
        processing = await scheduler.processing(workers=None)
        at_hand = {name: len(processing.get(addresses.get(name), ())) if name in addresses else -1 for name in names}
        leaving = sorted(names, key=lambda name: at_hand[name])[:n]
        known = [addresses[name] for name in leaving if name in addresses]
        await scheduler.retire_workers(workers=known, close_workers=False, remove=False)
        return leaving

    def _selector(self, pool: PoolName) -> dict[str, str]:
        return {"dask.org/workergroup-name": _group(self.cluster.name, pool)}

    def close(self) -> None:
        """Delete the DaskCluster, and with it all pods. Says so where that fails: what was computed is not lost."""
        with _deleting(self.cluster.name, self.cluster.namespace):
            self.cluster.close(timeout=_GONE_S)


@contextmanager
def kubernetes(settings: KubernetesSettings) -> Iterator[KubernetesWorkers]:
    """A DaskCluster that is deleted at the end. Raises `ClusterProblem`."""
    workers = KubernetesWorkers(settings)
    try:
        yield workers
    finally:
        workers.close()


@cache
def _patient() -> Any:  # noqa: ANN401 -- dask-kubernetes has no types
    from dask_kubernetes.operator import KubeCluster

    class Patient(KubeCluster):  # type: ignore[misc]
        """Ends in time where a scheduler's pod never runs: dask-kubernetes waits for ever. Leaves nothing behind."""

        def __init__(self, *, wait_s: float, **options: Any) -> None:  # noqa: ANN401
            self._wait_s = wait_s
            super().__init__(**options)

        async def _create_cluster(self) -> None:
            selector = {"dask.org/cluster-name": self.name, "dask.org/component": "scheduler"}
            creating, starts = asyncio.ensure_future(super()._create_cluster()), _Starts("scheduler's pod")
            try:
                async with asyncio.timeout(self._wait_s) as limit:
                    while not (await asyncio.wait({creating}, timeout=1))[0]:
                        await starts.look(self.namespace, selector)
                    await creating
            except BaseException as error:
                creating.cancel()
                await self._leave_nothing()
                if limit.expired():
                    told = f"its scheduler was not ready within {self._wait_s:g} s: {starts.last}"
                    raise ClusterProblem(told) from error
                raise

        async def _leave_nothing(self) -> None:
            from dask_kubernetes.operator._objects import DaskCluster

            with suppress(*_api_errors()):  # what is raised is the first fault, not that of tidying up after it
                cluster = await DaskCluster(self.name, namespace=self.namespace)
                if await cluster.exists():
                    with _deleting(self.name, self.namespace):
                        await self._close(timeout=_GONE_S)
            self.shutdown_on_close = False  # nor shall it be tried again when Python ends

        async def _close(self, timeout: float) -> None:  # noqa: ASYNC109 -- as dask-kubernetes has it
            await super()._close(timeout=timeout)
            if self.shutdown_on_close:
                await _delete_groups(self.name, self.namespace)

    return Patient


async def _delete_groups(cluster: str, namespace: str) -> None:
    """Of a cluster that is gone. The operator makes a group part of a cluster when it comes to it, and then cannot."""
    import kr8s
    from dask_kubernetes.operator._objects import DaskWorkerGroup

    for pool in get_args(PoolName):
        group = await DaskWorkerGroup(_group(cluster, pool), namespace=namespace)
        with suppress(kr8s.NotFoundError):
            await group.delete()


def _group(cluster: str, pool: PoolName) -> str:
    return f"{cluster}-{'default' if pool == 'cpu' else pool}"


@contextmanager
def _deleting(name: str, namespace: str) -> Iterator[None]:
    """Says what stays, and how to delete it."""
    try:
        with _as_problem():
            yield
    except ClusterProblem as problem:
        way_out = f"kubectl --namespace {namespace} delete daskcluster {name}"
        log.warning("the DaskCluster %s could not be deleted: %s; delete it: %s", name, problem, way_out)


async def _reasons(namespace: str, selector: dict[str, str]) -> Any:  # noqa: ANN401
    """For each pod, what it waits for; its phase where it waits for nothing."""
    import kr8s

    async for pod in kr8s.asyncio.get("pods", namespace=namespace, label_selector=selector):
        status = pod.raw.get("status", {})
        waiting = [
            it["state"]["waiting"] for it in status.get("containerStatuses", ()) if "waiting" in it.get("state", {})
        ]
        unplaced = [
            it for it in status.get("conditions", ()) if it["type"] == "PodScheduled" and it["status"] == "False"
        ]
        told = [": ".join(filter(None, (it.get("reason"), it.get("message")))) for it in (*waiting, *unplaced)]
        yield " ".join(told[0].split())[:300] if told else f"its pod is {status.get('phase', 'not known yet')}"


def _api_errors() -> tuple[type[Exception], ...]:
    import httpx
    import kr8s

    of_kr8s = (kr8s.APITimeoutError, kr8s.ServerError, kr8s.ConnectionClosedError, kr8s.NotFoundError)
    return (httpx.HTTPError, OSError, *of_kr8s)


def _is_refused(error: BaseException | None) -> bool:
    """Whether the API says that this may not be done, today or tomorrow."""
    response = getattr(error, "response", None)
    return response is not None and response.status_code in {401, 403, 422}


@contextmanager
def _as_problem() -> Iterator[None]:
    from dask_kubernetes.exceptions import SchedulerStartupError

    try:
        yield
    except ClusterProblem:
        raise
    except _api_errors() as error:
        told = " ".join(str(error).split())[:300] or type(error).__name__
        if getattr(getattr(error, "response", None), "status_code", None) == 404:  # noqa: PLR2004 -- HTTP's
            told += "; is the Dask operator installed? https://kubernetes.dask.org/en/latest/operator.html"
        raise ClusterProblem(f"the Kubernetes API: {told}") from error
    except (RuntimeError, ValueError, SchedulerStartupError) as error:
        raise ClusterProblem(" ".join(str(error).split())[:500]) from error
