"""A Kubernetes API on loopback, whose pods are processes of this machine; what works on it is the real Dask operator.

What tests open and ask. kubernetes_objects says what is stored, kubernetes_pods runs it, kubernetes_api answers.
"""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml
from aiohttp import web
from kubernetes_api import OPERATOR, Api
from kubernetes_objects import Object, Store
from kubernetes_pods import Nodes


class Kubernetes(Api):
    """What there is, for tests to look at. Everything is changed in the thread of the server alone."""

    def __init__(self, folder: Path) -> None:
        store = Store()
        super().__init__(store, Nodes(store, folder))
        self.folder, self.url = folder, ""
        self.loop = asyncio.new_event_loop()

    @property
    def most(self) -> dict[str, int]:
        """The most pods of each group there ever were at the same time."""
        return self.nodes.most

    def of(self, plural: str) -> list[str]:
        """Names of all objects of a kind."""
        return sorted(name for of, _, name in list(self.store.objects) if of == plural)

    def alive(self) -> list[str]:
        """Names of pods whose process runs."""
        running = [p for p in list(self.nodes.processes.values()) if p.running is not None and p.running.poll() is None]
        return sorted(p.pod["metadata"]["name"] for p in running)

    def kill(self, name: str) -> None:
        """As a node that fails: the container of a pod ends."""
        [process] = [p for p in list(self.nodes.processes.values()) if p.pod["metadata"]["name"] == name]
        assert process.running is not None
        os.killpg(process.running.pid, signal.SIGKILL)

    def put(self, plural: str, body: Object) -> None:
        """Create an object in the namespace, as somebody else does."""
        self.loop.call_soon_threadsafe(self.store.add, self.store.kind_of(plural), self.namespace, body)

    def take(self, plural: str, name: str) -> None:
        """Delete it, as somebody else does."""
        key = (plural, self.namespace, name)
        self.loop.call_soon_threadsafe(self.store.remove, self.store.kind_of(plural), key)

    def said(self) -> str:
        """The end of what everybody said."""
        return "\n".join(f"== {p.name}\n{p.read_text()[-3000:]}" for p in sorted(self.folder.glob("*.log")))


@contextmanager
def kubernetes(folder: Path) -> Iterator[Kubernetes]:
    """An API server, alone: nobody acts on what it stores but the node that runs pods."""
    made, ready = Kubernetes(folder), threading.Event()
    loop = made.loop

    async def serve() -> None:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", made.answer)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        [address] = runner.addresses
        made.url = f"http://127.0.0.1:{address[1]}"
        ready.set()
        try:
            await made.nodes.keep()
        finally:
            made.is_closing = True
            await runner.cleanup()

    def work() -> None:
        asyncio.set_event_loop(loop)
        with suppress(asyncio.CancelledError):
            loop.run_until_complete(task)
        loop.close()

    task = loop.create_task(serve())
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        assert ready.wait(30)
        yield made
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join()
        for process in made.nodes.processes.values():
            if process.running is not None and process.running.poll() is None:
                os.killpg(process.running.pid, signal.SIGKILL)
                process.running.wait()


def config(made: Kubernetes, token: str, namespace: str) -> Path:
    """A kubeconfig."""
    path = made.folder / f"kubeconfig-{token}.yaml"
    context = {"cluster": "fake", "user": token, "namespace": namespace}
    path.write_text(yaml.safe_dump({
        "apiVersion": "v1", "kind": "Config", "current-context": "fake",
        "clusters": [{"name": "fake", "cluster": {"server": made.url}}],
        "users": [{"name": token, "user": {"token": token}}],
        "contexts": [{"name": "fake", "context": context}],
    }))  # fmt: skip
    return path


@contextmanager
def operator(made: Kubernetes) -> Iterator[None]:
    """The Dask operator of dask-kubernetes, as a process of its own."""
    given = {
        **os.environ, "KUBECONFIG": str(config(made, OPERATOR, "default")), "FAKE_KUBERNETES": made.url,
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }  # fmt: skip
    with (made.folder / "operator.log").open("wb") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "fake_kubernetes"], env=given, stdout=said, stderr=said, start_new_session=True
        )
    try:
        end_s = time.monotonic() + 120
        while not {"daskclusters", "daskworkergroups", "services"} <= made.watched_kinds:
            assert process.poll() is None, made.said()
            assert time.monotonic() < end_s, made.said()
            time.sleep(0.1)
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _within_the_cluster(look_up: Callable[..., Any]) -> Callable[..., Any]:
    """Names of services lead to pods, as they do for who is in the cluster."""

    def getaddrinfo(host: Any, *arguments: Any, **options: Any) -> Any:
        if isinstance(host, str) and "-scheduler." in host:
            try:
                with urllib.request.urlopen(f"{os.environ['FAKE_KUBERNETES']}/dns/{host}") as response:  # noqa: S310
                    host = json.load(response)["address"]
            except urllib.error.HTTPError as error:
                raise socket.gaierror(socket.EAI_NONAME, f"{host} is not known") from error
        return look_up(host, *arguments, **options)

    return getaddrinfo


if __name__ == "__main__":
    import kopf.cli

    socket.getaddrinfo = _within_the_cluster(socket.getaddrinfo)
    kopf.cli.main(["run", "-A", "--standalone", "-m", "dask_kubernetes.operator.controller"])
