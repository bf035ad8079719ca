"""The pods of a fake Kubernetes, as processes of this machine.

Each Deployment's container is started as a process with an address of its own (127.x.y.z), started again when it
ends, and asked by its probe.
"""

import asyncio
import base64
import copy
import os
import random
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

from aiohttp import ClientError, ClientSession, ClientTimeout, web
from kubernetes_objects import LOOK_EVERY_S, Key, Kind, Object, Store

ROOT = Path(__file__).resolve().parents[1]


@dataclass
class Process:
    """The container of a pod."""

    pod: Object
    address: str
    log: Path
    running: subprocess.Popen[bytes] | None = None
    starts: int = 0


@dataclass
class Nodes:
    """Where pods run, and who makes them of Deployments."""

    store: Store
    folder: Path
    """Of what pods say."""
    processes: dict[str, Process] = field(default_factory=dict)
    """By uid of their pod."""
    most: dict[str, int] = field(default_factory=dict)
    """The most pods there ever were at the same time, by what their names begin with up to `-worker-`."""

    def __post_init__(self) -> None:
        self._http: ClientSession | None = None

    def address_of(self, service: str) -> str | None:
        """Where `SERVICE.NAMESPACE` leads to."""
        name, namespace, *_ = (*service.split("."), "")
        found = self.store.objects.get(("services", namespace, name))
        if found is None:
            return None
        wanted = found["spec"]["selector"].items()
        for process in self.processes.values():
            if wanted <= process.pod["metadata"]["labels"].items():
                return process.address
        return None

    async def keep(self) -> None:
        """What controllers and nodes do, for ever."""
        self._http = ClientSession(timeout=ClientTimeout(total=5))
        try:
            while True:
                await self._look()
                await asyncio.sleep(LOOK_EVERY_S)
        finally:
            await self._http.close()

    async def _look(self) -> None:
        self.store.collect_garbage()
        pods, deployments = self.store.kinds["", "pods"], self.store.kinds["apps", "deployments"]
        owned = {
            b["metadata"]["ownerReferences"][0]["uid"] for (of, _, _), b in self.store.objects.items() if of == "pods"
        }
        for (of, namespace, name), body in list(self.store.objects.items()):
            if of == deployments.plural and body["metadata"]["uid"] not in owned:
                template = copy.deepcopy(body["spec"]["template"])
                template["metadata"]["name"] = f"{name}-{uuid4().hex[:5]}"
                owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": name, "uid": body["metadata"]["uid"]}
                template["metadata"]["ownerReferences"] = [owner]
                self.store.add(pods, namespace, {**template, "status": {"phase": "Pending"}})
        alive = {b["metadata"]["uid"]: (key, b) for key, b in self.store.objects.items() if key[0] == "pods"}
        for uid, process in list(self.processes.items()):
            if uid not in alive:
                del self.processes[uid]
                if process.running is not None and process.running.poll() is None:
                    _end(process.running)
        for uid, (key, pod) in alive.items():
            if key in self.store.objects:  # somebody may have deleted it while the probe of another was asked
                await self._node(pods, key, self.processes.get(uid) or self._placed(uid, pod))
        groups = [p.pod["metadata"]["name"].rpartition("-worker-")[0] for p in self.processes.values()]
        for group in groups:
            self.most[group] = max(self.most.get(group, 0), groups.count(group))

    def _placed(self, uid: str, pod: Object) -> Process:
        address = f"127.{random.randint(1, 254)}.{random.randint(0, 255)}.{random.randint(1, 254)}"
        name = pod["metadata"]["name"]
        self.processes[uid] = Process(pod, address, self.folder / f"{name}.log")
        return self.processes[uid]

    async def _node(self, pods: Kind, key: Key, process: Process) -> None:
        """Start what does not run, and say how it is."""
        pod = self.store.objects[key]
        [container] = pod["spec"]["containers"]
        missing = [it["secretRef"]["name"] for it in container.get("envFrom", ())
                   if ("secrets", key[1], it["secretRef"]["name"]) not in self.store.objects]  # fmt: skip
        waiting = None
        if "no/such" in container["image"]:
            waiting = {"reason": "ImagePullBackOff", "message": f'Back-off pulling image "{container["image"]}"'}
        elif missing:
            waiting = {"reason": "CreateContainerConfigError", "message": f'secret "{missing[0]}" not found'}
        elif process.running is None or process.running.poll() is not None:
            self._start(key[1], container, process)
        is_ready = waiting is None and await self._is_ready(container, process)
        state = {"waiting": waiting} if waiting else {"running": {}}
        of_container = {"name": container["name"], "state": state, "ready": is_ready}
        status = {
            "phase": "Pending" if waiting else "Running",
            "podIP": process.address,
            "conditions": [{"type": it, "status": str(is_ready)} for it in ("Ready", "ContainersReady")],
            "containerStatuses": [{**of_container, "restartCount": max(0, process.starts - 1)}],
        }
        if key in self.store.objects:
            self.store.change(pods, key, {**copy.deepcopy(self.store.objects[key]), "status": status})

    def _start(self, namespace: str, container: Object, process: Process) -> None:
        secret: dict[str, str] = {}
        for it in container.get("envFrom", ()):
            data = self.store.objects["secrets", namespace, it["secretRef"]["name"]].get("data", {})
            secret |= {name: base64.b64decode(value).decode() for name, value in data.items()}
        given = {it["name"]: it["value"] for it in container.get("env", ())}
        if "DASK_SCHEDULER_ADDRESS" in given:  # there is no name server
            scheme, host, port = given["DASK_SCHEDULER_ADDRESS"].replace("//", "").split(":")
            given["DASK_SCHEDULER_ADDRESS"] = f"{scheme}://{self.address_of(host)}:{port}"
        of_image = {"T2S_PYTHON": sys.executable, "T2S_HOST": process.address, "T2S_GPU_CHECK": "off"}
        passed = {name: os.environ[name] for name in ("PATH", "T2S_CACHE") if name in os.environ}
        with process.log.open("ab") as said:
            process.running = subprocess.Popen(
                container["args"], cwd=ROOT, stdout=said, stderr=said, stdin=subprocess.DEVNULL, start_new_session=True,
                env={**passed, **of_image, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **secret, **given},
            )  # fmt: skip
        process.starts += 1

    async def _is_ready(self, container: Object, process: Process) -> bool:
        probe = container.get("readinessProbe")
        if probe is None:
            return True
        [port] = [it["containerPort"] for it in container["ports"] if it["name"] == probe["httpGet"]["port"]]
        assert self._http is not None
        try:
            async with self._http.get(f"http://{process.address}:{port}{probe['httpGet']['path']}") as response:
                return response.status == web.HTTPOk.status_code
        except (ClientError, TimeoutError):
            return False


def _end(process: subprocess.Popen[bytes]) -> None:
    """As a node does: SIGTERM, and after its patience SIGKILL."""
    os.killpg(process.pid, signal.SIGTERM)

    def later() -> None:
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    threading.Thread(target=later, daemon=True).start()
