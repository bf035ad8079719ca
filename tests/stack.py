"""A whole stack on loopback, of real processes: object store, Prefect server and worker, Dask scheduler and workers."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import pytest

T = TypeVar("T")
ROOT = Path(__file__).resolve().parents[1]
POOL = "t2s-gpu"
WAIT_S = 240
"""For anything that a busy machine takes long for."""


@dataclass
class Stack:
    """Where everything is. The environment of this process knows store and server too."""

    folder: Path
    bucket: str
    """URL."""
    scheduler: str
    """The address of the Dask scheduler."""
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, name: str, *arguments: object) -> None:
        """A Python module in a process group of its own; what it says goes into `folder`."""
        with (self.folder / f"{name}.log").open("wb") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", *map(str, arguments)],
                stdout=log, stderr=subprocess.STDOUT, start_new_session=True, cwd=ROOT,
            )  # fmt: skip

    def said(self) -> str:
        """The end of what every process said."""
        return "\n".join(f"== {p.stem}\n{p.read_text()[-3000:]}" for p in sorted(self.folder.glob("*.log")))

    def wait_for(self, what: str, ready: Callable[[], T | None]) -> T:
        """What is ready, once it is."""
        end_s = time.monotonic() + WAIT_S
        while time.monotonic() < end_s:
            for name, process in self.processes.items():
                assert process.poll() is None, f"{name} has ended\n{self.said()}"
            if (found := ready()) is not None:
                return found
            time.sleep(0.3)
        raise TimeoutError(f"{what}: not within {WAIT_S} s\n{self.said()}")

    def deploy(self, **environment: str) -> None:
        """`prefect deploy` of everything in infra/prefect.yaml; nothing runs by the clock."""
        asked("create_work_pool", POOL, 1)
        asked("create_work_pool", "t2s-cpu", None)
        command = ["prefect", "--no-prompt", "deploy", "--all", "--prefect-file", "infra/prefect.yaml"]
        done = subprocess.run(
            [sys.executable, "-m", *command], env={**os.environ, **environment}, cwd=ROOT, check=False,
            capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        for name in ("segment-region", "retrain-nightly"):
            asked("pause", f"{name}/{name}")

    def run(self, name: str, parameters: dict[str, Any] | None = None) -> UUID:
        """Start a flow run of a deployment."""
        return UUID(asked("run", f"{name}/{name}", parameters or {}))

    def ended(self, flow_run_id: UUID) -> Any:
        """The flow run, once it has ended."""

        def ready() -> Any:
            run = asked("read", flow_run_id)
            return run if run.state is not None and run.state.is_final() else None

        return self.wait_for(f"flow run {flow_run_id}", ready)

    def runs_of(self, name: str) -> dict[UUID, Any]:
        """All flow runs of a deployment."""
        return {run.id: run for run in asked("runs", f"{name}/{name}")}


def asked(what: str, *arguments: Any) -> Any:
    """One request to the Prefect server."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.client.schemas.filters import (
        ArtifactFilter,
        ArtifactFilterFlowRunId,
        DeploymentFilter,
        DeploymentFilterId,
    )

    async def ask() -> Any:
        async with get_client() as client:
            match what, arguments:
                case "create_work_pool", (name, limit):
                    return await client.create_work_pool(
                        WorkPoolCreate(name=name, type="process", concurrency_limit=limit)
                    )
                case "read", (flow_run_id,):
                    return await client.read_flow_run(flow_run_id)
                case "artifacts", (flow_run_id,):
                    chosen = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[flow_run_id]))
                    return await client.read_artifacts(artifact_filter=chosen)
                case _, (name, *rest):
                    deployment = await client.read_deployment_by_name(name)
                    return await _of_deployment(client, what, deployment, rest, DeploymentFilter, DeploymentFilterId)

    return asyncio.run(ask())


async def _of_deployment(
    client: Any, what: str, deployment: Any, rest: Sequence[Any], of: Any, by_id: Any
) -> Awaitable[Any] | Any:
    if what == "pause":
        return await client.pause_deployment(deployment.id)
    if what == "run":
        return str((await client.create_flow_run_from_deployment(deployment.id, parameters=rest[0])).id)
    if what == "runs":
        return await client.read_flow_runs(deployment_filter=of(id=by_id(any_=[deployment.id])))
    return deployment


@contextmanager
def stack(folder: Path) -> Iterator[Stack]:
    """Start everything at once, wait until it answers, and end it all."""
    store_port, prefect_port, dask_port = _free_ports(3)
    made = Stack(folder, "s3://stack", f"tcp://127.0.0.1:{dask_port}")
    with pytest.MonkeyPatch.context() as patch:
        for key, value in {
            "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "never-to-be-seen", "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{store_port}",
            "PREFECT_API_URL": f"http://127.0.0.1:{prefect_port}/api", "PREFECT_HOME": str(folder / "prefect"),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "PREFECT_WORKER_QUERY_SECONDS": "1", "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        }.items():  # fmt: skip
            patch.setenv(key, value)
        try:
            made.start(
                "prefect", "prefect", "server", "start", "--host", "127.0.0.1", "--port", prefect_port, "--no-ui"
            )
            made.start("store", "moto.server", "-H", "127.0.0.1", "-p", store_port)
            made.start("scheduler", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", dask_port,
                       "--no-dashboard")  # fmt: skip
            for name, resources in (("gpu", ["--resources", "GPU=1"]), ("cpu", [])):
                made.start(name, "distributed.cli.dask_worker", made.scheduler, "--nthreads", 1, "--no-dashboard",
                           "--memory-limit", 0, "--local-directory", folder / name, *resources)  # fmt: skip
            made.wait_for("the store", lambda: _answers(os.environ["AWS_ENDPOINT_URL"]))
            made.wait_for("the Prefect server", lambda: _answers(f"{os.environ['PREFECT_API_URL']}/health"))
            yield made
        finally:
            for process in made.processes.values():
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _free_ports(n: int) -> list[int]:
    taken = [socket.create_server(("127.0.0.1", 0)) for _ in range(n)]
    ports = [int(one.getsockname()[1]) for one in taken]
    for one in taken:
        one.close()
    return ports


def _answers(url: str) -> bool | None:
    try:
        urllib.request.urlopen(url, timeout=5).close()  # noqa: S310 -- http, on loopback
    except (urllib.error.URLError, OSError):
        return None
    return True
