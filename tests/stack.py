"""A whole stack on loopback, of real processes: what README starts, an object store, and who is told of failures."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar
from uuid import UUID

import pytest

T = TypeVar("T")
ROOT = Path(__file__).resolve().parents[1]
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
    instead: dict[str, str]
    """What README's lines say, and what they shall say here."""
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    groups: list[int] = field(default_factory=list)
    """Of processes that README's lines started."""
    told: list[dict[str, Any]] = field(default_factory=list)
    """What was posted to the webhook."""

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
        raise TimeoutError(f"{what}: not within {WAIT_S} s; the webhook was told {self.told}\n{self.said()}")

    def follow(self, script: str) -> None:
        """A script of README as a reader runs it, but for ports and place. What it starts in the background stays."""
        for before, after in self.instead.items():
            script = script.replace(before, after)
        assert "$PWD/out" not in script
        desk = self.folder / "desk"
        if not desk.exists():
            desk.mkdir()
            (desk / "infra").symlink_to(ROOT / "infra")
        name = f"readme-{len(self.groups)}"
        with (self.folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                ["bash", "-euo", "pipefail", "-c", script], stdout=log, stderr=subprocess.STDOUT, cwd=desk,
                stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        self.groups.append(process.pid)
        try:
            code = process.wait(2 * WAIT_S)
        except subprocess.TimeoutExpired as error:
            raise TimeoutError(f"README's script\n{self.said()}") from error
        assert code == 0, self.said()

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
    from prefect.client.schemas.filters import (
        ArtifactFilter,
        ArtifactFilterFlowRunId,
        DeploymentFilter,
        DeploymentFilterId,
    )

    async def ask() -> Any:
        async with get_client() as client:
            match what, arguments:
                case "pool", (name,):
                    return await client.read_work_pool(name)
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
    if what == "run":
        return str((await client.create_flow_run_from_deployment(deployment.id, parameters=rest[0])).id)
    if what == "runs":
        return await client.read_flow_runs(deployment_filter=of(id=by_id(any_=[deployment.id])))
    return deployment


@contextmanager
def stack(folder: Path) -> Iterator[Stack]:
    """A store and a webhook, and the environment for all else; everything ends with it."""
    store_port, prefect_port, dask_port = _free_ports(3)
    from prefect.settings import PREFECT_API_URL, temporary_settings

    bucket = "s3://stack"
    instead = {
        "4200": str(prefect_port), "8786": str(dask_port), "PLACE=$PWD/out/demo": f"PLACE={bucket}",
        "[the lake]": '["where are vehicles parked?"]',  # of which such small scenes have some
    }  # fmt: skip
    made = Stack(folder, bucket, f"tcp://127.0.0.1:{dask_port}", instead)
    with pytest.MonkeyPatch.context() as patch, _webhook(made.told) as webhook:
        for key, value in {
            "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "never-to-be-seen", "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{store_port}", "T2S_WEBHOOK": webhook,
            "PREFECT_API_URL": f"http://127.0.0.1:{prefect_port}/api", "PREFECT_HOME": str(folder / "prefect"),
            "PREFECT_SERVER_API_PORT": str(prefect_port), "PREFECT_SERVER_UI_ENABLED": "false",
            "PREFECT_SERVER_SERVICES_SCHEDULER_ENABLED": "false",  # nothing runs by the clock
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "PREFECT_WORKER_QUERY_SECONDS": "1", "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        }.items():  # fmt: skip
            patch.setenv(key, value)
        try:
            made.start("store", "moto.server", "-H", "127.0.0.1", "-p", store_port)
            made.wait_for("the store", lambda: _answers(os.environ["AWS_ENDPOINT_URL"]))
            # Where this process has imported Prefect before, it looks at the environment no more, and would start a
            # server of its own: then the one that all others talk to misses events, and holds back what follows them.
            with temporary_settings({PREFECT_API_URL: os.environ["PREFECT_API_URL"]}):
                yield made
        finally:
            for process in made.processes.values():
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            for group in made.groups:
                with suppress(ProcessLookupError):  # nothing of it runs any more
                    os.killpg(group, signal.SIGKILL)


@contextmanager
def _webhook(told: list[dict[str, Any]]) -> Iterator[str]:
    """Where notifications are posted to."""

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/hook"
        server.shutdown()


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
