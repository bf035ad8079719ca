"""What is asked of Kubernetes: a scheduler, and workers of two kinds beside it, as the Dask operator reads it."""

from typing import Annotated, Any

from pydantic import Field

from infra.pools import Pool, PoolName, Strict

_PORTS = (("tcp-comm", 8786), ("http-dashboard", 8787))
"""Of a scheduler. By name throughout: the operator's schema takes no numbers where Kubernetes takes both."""

_QUANTITY = r"^\d+(\.\d+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?$"


class Pods(Pool):
    """What a worker of one kind asks of its node."""

    cpu: Annotated[str, Field(pattern=_QUANTITY)]
    memory: Annotated[str, Field(pattern=_QUANTITY)]
    """Asked for and the limit: a pod that may take more than it asked for is the first to be evicted."""
    node_selector: Annotated[dict[str, str], Field(default_factory=dict)]
    tolerations: tuple[dict[str, str], ...] = ()


class KubernetesSettings(Strict):
    """The file of `--cluster kubernetes:FILE`."""

    image: str
    """Of scheduler and workers, with the same t2s as this command; see infra/docker."""
    gpu_image: str | None = None
    """Of workers with a GPU; `image` if left out."""
    gpu: Pods | None = None
    """Workers that ask the models; each gets one `nvidia.com/gpu`."""
    cpu: Pods
    """Workers for all else; without `gpu` the models too."""
    namespace: str | None = None
    """That of the current context if left out."""
    name: Annotated[str, Field(pattern=r"^[a-z]([-a-z0-9]{0,30}[a-z0-9])?$")] = "t2s"
    """Of the cluster; a few random letters are added, for every run has one of its own."""
    env: Annotated[dict[str, str], Field(default_factory=dict)]
    """Plain values. What is secret comes by `env_from_secrets`."""
    env_from_secrets: tuple[str, ...] = ()
    """Names of Secrets whose keys become variables of scheduler and workers, e.g. a bucket's credentials."""
    pull_secrets: tuple[str, ...] = ()
    service_account: str | None = None
    idle_s: Annotated[float, Field(ge=0)] = 300
    """How long a pod without work is kept."""
    wait_s: Annotated[float, Field(gt=0)] = 900
    """How long to wait for the scheduler, and for the first worker of a kind: nodes may have to be started."""

    @property
    def pods(self) -> dict[PoolName, Pods]:
        """By pool, those that there are."""
        return {"cpu": self.cpu} if self.gpu is None else {"gpu": self.gpu, "cpu": self.cpu}


def cluster_spec(settings: KubernetesSettings, name: str) -> dict[str, Any]:
    """The DaskCluster: a scheduler, and the pool `cpu` as its group of workers, with none yet."""
    scheduler = _container(settings, "scheduler", settings.image, cpu="1", memory="2Gi", ports=_PORTS)
    # The operator gives a scheduler without a limit of its own one of 300 s, after which it ends; a run may wait longer
    # for nodes. Should this command die, it is the operator that deletes everything, well before this.
    idle_s = 600 + int(max(settings.idle_s, settings.wait_s))
    scheduler["args"] += ["--idle-timeout", f"{2 * idle_s}s"]
    ready = {"httpGet": {"path": "/health", "port": "http-dashboard"}, "periodSeconds": 5, "timeoutSeconds": 10}
    scheduler |= {"readinessProbe": ready, "livenessProbe": {**ready, "initialDelaySeconds": 15, "periodSeconds": 20}}
    named = {"dask.org/cluster-name": name, "dask.org/component": "scheduler"}
    ports = [{"name": label, "protocol": "TCP", "port": port, "targetPort": label} for label, port in _PORTS]
    return {
        "apiVersion": "kubernetes.dask.org/v1",
        "kind": "DaskCluster",
        "metadata": {"name": name},
        "spec": {
            "idleTimeout": idle_s,
            "scheduler": {
                "spec": {**_pod(settings), "containers": [scheduler]},
                "service": {"type": "ClusterIP", "selector": named, "ports": ports},
            },
            "worker": worker_spec(settings, "cpu"),
        },
    }


def worker_spec(settings: KubernetesSettings, pool: PoolName) -> dict[str, Any]:
    """The workers of a pool, none of them yet."""
    pods = settings.pods[pool]
    image = (settings.gpu_image or settings.image) if pool == "gpu" else settings.image
    script = "gpu-worker" if pool == "gpu" else "worker"
    container = _container(settings, script, image, cpu=pods.cpu, memory=pods.memory, ports=(("http-dashboard", 8788),))
    container["name"] = "worker"
    alive = {"httpGet": {"path": "/health", "port": "http-dashboard"}, "periodSeconds": 20, "timeoutSeconds": 10}
    container["livenessProbe"] = {**alive, "initialDelaySeconds": 60, "failureThreshold": 6}
    if pool == "gpu":
        for kind in ("requests", "limits"):
            container["resources"][kind]["nvidia.com/gpu"] = "1"
    placed = {"nodeSelector": pods.node_selector, "tolerations": list(pods.tolerations)}
    return {
        "replicas": 0,
        "spec": {**_pod(settings), **{key: value for key, value in placed.items() if value}, "containers": [container]},
    }


def _container(
    settings: KubernetesSettings, script: str, image: str, *, cpu: str, memory: str, ports: tuple[tuple[str, int], ...]
) -> dict[str, Any]:
    asked = {"cpu": cpu, "memory": memory}
    return {
        "name": script,
        "image": image,
        "args": [f"infra/bin/{script}.sh"],
        "env": [{"name": name, "value": value} for name, value in settings.env.items()],
        "envFrom": [{"secretRef": {"name": name}} for name in settings.env_from_secrets],
        "ports": [{"name": label, "containerPort": port, "protocol": "TCP"} for label, port in ports],
        "resources": {"requests": dict(asked), "limits": dict(asked)},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }


def _pod(settings: KubernetesSettings) -> dict[str, Any]:
    pod: dict[str, Any] = {
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 1000,
            "fsGroup": 1000,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "automountServiceAccountToken": settings.service_account is not None,
    }
    if settings.service_account is not None:
        pod["serviceAccountName"] = settings.service_account
    if settings.pull_secrets:
        pod["imagePullSecrets"] = [{"name": name} for name in settings.pull_secrets]
    return pod
