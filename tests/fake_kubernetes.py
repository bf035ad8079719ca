"""A Kubernetes API on loopback, whose pods are processes of this machine; what works on it is the real Dask operator.

It stores objects, tells who watches, prunes what a resource's schema does not know, deletes what belongs to what is
deleted, refuses what a Role does not grant, forwards ports, and starts each Deployment's container as
a process with an address of its own (127.x.y.z), restarts it, and asks its probe.
"""

import asyncio
import base64
import copy
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import dask_kubernetes
import jsonpatch
import jsonschema
import yaml
from aiohttp import ClientError, ClientSession, ClientTimeout, WSMsgType, web

ROOT = Path(__file__).resolve().parents[1]
CRDS = Path(dask_kubernetes.__file__).parent / "operator/deployment/helm/dask-kubernetes-operator/crds"
OPERATOR = "operator"
"""The token of who may do everything."""

_LOOK_EVERY_S = 0.05

Object = dict[str, Any]


@dataclass(frozen=True)
class Kind:
    """A resource of the API."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True
    schema: Mapping[str, Any] | None = None
    has_status: bool = False
    """Whether status is written by a path of its own, and by no other."""


def _kinds() -> dict[tuple[str, str], Kind]:
    """By group and plural."""
    known = [
        Kind("", "v1", "pods", "Pod"),
        Kind("", "v1", "services", "Service"),
        Kind("", "v1", "secrets", "Secret"),
        Kind("", "v1", "events", "Event"),
        Kind("", "v1", "namespaces", "Namespace", namespaced=False),
        Kind("apps", "v1", "deployments", "Deployment"),
        Kind("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False),
    ]
    for file in sorted(CRDS.glob("*.yaml")):
        spec = yaml.safe_load(file.read_text())["spec"]
        [version] = spec["versions"]
        schema = version["schema"]["openAPIV3Schema"]
        has_status = "status" in version.get("subresources", {})
        names = spec["names"]
        found = Kind(
            spec["group"], version["name"], names["plural"], names["kind"], schema=schema, has_status=has_status
        )
        known.append(found)
    return {(kind.group, kind.plural): kind for kind in known}


class Refused(Exception):
    """Becomes a Status."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code, self.reason = code, reason


@dataclass
class Process:
    """The container of a pod."""

    pod: Object
    address: str
    log: Path
    running: subprocess.Popen[bytes] | None = None
    starts: int = 0


@dataclass
class Kubernetes:
    """What there is, for tests to look at. Everything is changed in the thread of the server alone."""

    folder: Path
    url: str = ""
    granted: list[Mapping[str, Any]] = field(default_factory=list)
    """Rules of a Role for everybody but the operator."""
    objects: dict[tuple[str, str, str], Object] = field(default_factory=dict)
    """By plural, namespace, name."""
    processes: dict[str, Process] = field(default_factory=dict)
    """By uid of their pod."""
    most: dict[str, int] = field(default_factory=dict)
    """The most pods there ever were at the same time, by what their names begin with up to `-worker-`."""
    down: bool = False
    """Whether who is not the operator is answered by 503 when asking for Dask's resources and Deployments. Ports are
    forwarded all the same: without that nobody outside of a cluster reaches a scheduler."""
    namespace: str = "t2s"
    """Of that Role."""
    missing: set[str] = field(default_factory=set)
    """Plurals that nobody installed."""

    watched_kinds: set[str] = field(default_factory=set)
    """Plurals that somebody was told about as they changed."""

    def __post_init__(self) -> None:
        self.kinds = _kinds()
        self._version, self._log, self.is_closing = 1, list[tuple[int, str, str, Object]](), False
        self._http: ClientSession | None = None
        self.loop = asyncio.new_event_loop()

    # ---------------------------------------------------------------- what tests ask

    def of(self, plural: str) -> list[str]:
        """Names of all objects of a kind."""
        return sorted(name for of, _, name in list(self.objects) if of == plural)

    def alive(self) -> list[str]:
        """Names of pods whose process runs."""
        running = [p for p in list(self.processes.values()) if p.running is not None and p.running.poll() is None]
        return sorted(p.pod["metadata"]["name"] for p in running)

    def kill(self, name: str) -> None:
        """As a node that fails: the container of a pod ends."""
        [process] = [p for p in list(self.processes.values()) if p.pod["metadata"]["name"] == name]
        assert process.running is not None
        os.killpg(process.running.pid, signal.SIGKILL)

    def put(self, plural: str, body: Object) -> None:
        """Create an object in the namespace, as somebody else does."""
        [kind] = [it for it in self.kinds.values() if it.plural == plural]
        self.loop.call_soon_threadsafe(self.add, kind, self.namespace, body)

    def take(self, plural: str, name: str) -> None:
        """Delete it, as somebody else does."""
        [kind] = [it for it in self.kinds.values() if it.plural == plural]
        self.loop.call_soon_threadsafe(self.remove, kind, (plural, self.namespace, name))

    def said(self) -> str:
        """The end of what everybody said."""
        return "\n".join(f"== {p.name}\n{p.read_text()[-3000:]}" for p in sorted(self.folder.glob("*.log")))

    # ---------------------------------------------------------------- objects

    def add(self, kind: Kind, namespace: str, body: Object) -> Object:
        """Create an object as an API server does."""
        made = copy.deepcopy(body)
        meta = made.setdefault("metadata", {})
        if kind.schema is not None:
            _validate(kind, made)
        name = meta.setdefault("name", f"{meta.pop('generateName', '')}{uuid4().hex[:5]}")
        if (kind.plural, namespace, name) in self.objects:
            raise Refused(409, "AlreadyExists", f'{kind.plural} "{name}" already exists')
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        meta |= {"uid": str(uuid4()), "creationTimestamp": now, "generation": 1}
        if kind.namespaced:
            meta["namespace"] = namespace
        made |= {"apiVersion": f"{kind.group}/{kind.version}".lstrip("/"), "kind": kind.kind}
        if kind.plural == "services":
            made["status"] = {"loadBalancer": {}}
        self.objects[kind.plural, namespace, name] = made
        self._tell(kind, "ADDED", made)
        return made

    def change(self, kind: Kind, key: tuple[str, str, str], changed: Object) -> Object:
        """Put a changed object in place of what there is."""
        before = self.objects[key]
        for name in ("uid", "creationTimestamp", "name", "generation", "deletionTimestamp"):
            if name in before["metadata"]:
                changed["metadata"][name] = before["metadata"][name]
        if kind.schema is not None:
            _validate(kind, changed)
        if changed == before:
            return before
        if changed.get("spec") != before.get("spec"):
            changed["metadata"]["generation"] += 1
        self.objects[key] = changed
        self._tell(kind, "MODIFIED", changed)
        if "deletionTimestamp" in changed["metadata"] and not changed["metadata"].get("finalizers"):
            self._drop(kind, key)
        return changed

    def remove(self, kind: Kind, key: tuple[str, str, str]) -> None:
        """Delete, or wait for who holds a finalizer."""
        found = self.objects[key]
        if found["metadata"].get("finalizers"):
            marked = copy.deepcopy(found)
            marked["metadata"]["deletionTimestamp"] = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            self.objects[key] = marked
            self._tell(kind, "MODIFIED", marked)
        else:
            self._drop(kind, key)

    def _drop(self, kind: Kind, key: tuple[str, str, str]) -> None:
        gone = self.objects.pop(key)
        self._tell(kind, "DELETED", gone)
        uid = gone["metadata"]["uid"]
        for of, body in list(self.objects.items()):
            owners = body["metadata"].get("ownerReferences", ())
            if any(owner["uid"] == uid for owner in owners):
                [owned] = [it for it in self.kinds.values() if it.plural == of[0]]
                self.remove(owned, of)

    def _tell(self, kind: Kind, what: str, body: Object) -> None:
        self._version += 1
        body["metadata"]["resourceVersion"] = str(self._version)
        self._log.append((self._version, kind.plural, what, copy.deepcopy(body)))

    # ---------------------------------------------------------------- HTTP

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Any request."""
        try:
            return await self._answer(request)
        except Refused as refused:
            # Else the connection is closed on who is still writing, before the answer is read.
            if request.can_read_body:
                await request.read()
            status = {
                "kind": "Status", "apiVersion": "v1", "status": "Failure", "message": str(refused),
                "reason": refused.reason, "code": refused.code,
            }  # fmt: skip
            return web.json_response(status, status=refused.code)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        is_operator = request.headers.get("Authorization") == f"Bearer {OPERATOR}"
        base, *parts = request.path.strip("/").split("/")
        if base == "version":
            return web.json_response({"major": "1", "minor": "33", "gitVersion": "v1.33.1"})
        if base == "dns":  # of ours: addresses of services for who is within the cluster
            address = self.address_of(parts[0])
            return web.json_response({"address": address}, status=404 if address is None else 200)
        if base == "api":
            parts.insert(0, "")
        if len(parts) < 3:
            return web.json_response(self._discovered(parts))
        kind, key, sub = self._named(parts)
        if self.down and kind.group and not is_operator:
            raise Refused(503, "ServiceUnavailable", "the server is currently unable to handle the request")
        if not is_operator:
            self._check(request, kind, key[1], f"{key[0]}/{sub}" if sub else key[0], has_name=bool(key[2]))
        return await self._of_kind(request, kind, key, sub)

    def _named(self, parts: list[str]) -> tuple[Kind, tuple[str, str, str], str]:
        group, _, *parts = parts
        namespace = ""
        if parts[0] == "namespaces" and len(parts) > 2:
            namespace, parts = parts[1], parts[2:]
        plural, name, sub = (*parts, "", "")[:3]
        kind = self.kinds.get((group, plural))
        if kind is None or plural in self.missing:
            raise Refused(404, "NotFound", "the server could not find the requested resource")
        return kind, (plural, namespace, name), sub

    async def _of_kind(
        self, request: web.Request, kind: Kind, key: tuple[str, str, str], sub: str
    ) -> web.StreamResponse:
        plural, namespace, name = key
        if sub == "portforward":
            return await self._forward(request, key)
        if name:
            return web.json_response(await self._one(request, kind, key, sub))
        if request.method == "POST":
            return web.json_response(self.add(kind, namespace, await request.json()), status=201)
        if request.query.get("watch") == "true":
            return await self._stream(request, kind, namespace)
        chosen = list(self._chosen(request, plural, namespace))
        of = {"apiVersion": f"{kind.group}/{kind.version}".lstrip("/"), "kind": f"{kind.kind}List"}
        return web.json_response({**of, "metadata": {"resourceVersion": str(self._version)}, "items": chosen})

    def _discovered(self, parts: list[str]) -> Object:
        kinds = [kind for kind in self.kinds.values() if kind.plural not in self.missing]
        if len(parts) == 2:
            verbs = ["create", "delete", "get", "list", "patch", "watch"]
            listed = [
                {"name": k.plural, "singularName": k.kind.lower(), "namespaced": k.namespaced, "kind": k.kind,
                 "verbs": verbs}
                for k in kinds if k.group == parts[0]
            ]  # fmt: skip
            listed += [
                {
                    "name": f"{k.plural}/status",
                    "singularName": "",
                    "namespaced": True,
                    "kind": k.kind,
                    "verbs": ["patch"],
                }
                for k in kinds
                if k.group == parts[0] and k.has_status
            ]
            return {"kind": "APIResourceList", "groupVersion": "/".join(parts).lstrip("/"), "resources": listed}
        if parts == [""]:
            return {"kind": "APIVersions", "versions": ["v1"]}
        groups = []
        for group, version in sorted({(k.group, k.version) for k in kinds if k.group}):
            one = {"groupVersion": f"{group}/{version}", "version": version}
            groups.append({"name": group, "versions": [one], "preferredVersion": one})
        return {"kind": "APIGroupList", "groups": groups}

    def _check(self, request: web.Request, kind: Kind, namespace: str, resource: str, *, has_name: bool) -> None:
        verb = {"POST": "create", "PATCH": "patch", "DELETE": "delete"}.get(request.method, "get")
        if verb == "get" and not has_name:
            verb = "watch" if request.query.get("watch") == "true" else "list"
        for rule in self.granted if namespace == self.namespace else ():
            if kind.group in rule["apiGroups"] and resource in rule["resources"] and verb in rule["verbs"]:
                return
        who = f'User "t2s" cannot {verb} resource "{resource}" in API group "{kind.group}"'
        raise Refused(403, "Forbidden", f'{who} in the namespace "{namespace}"')

    async def _one(self, request: web.Request, kind: Kind, key: tuple[str, str, str], sub: str) -> Object:
        if key not in self.objects:
            raise Refused(404, "NotFound", f'{kind.plural} "{key[2]}" not found')
        found = self.objects[key]
        match request.method:
            case "DELETE":
                self.remove(kind, key)
                return {"kind": "Status", "status": "Success"}
            case "PATCH":
                changed, patch = copy.deepcopy(found), await request.json()
                if request.content_type == "application/json-patch+json":
                    try:
                        changed = jsonpatch.apply_patch(changed, patch)
                    except (jsonpatch.JsonPatchException, jsonpatch.JsonPointerException) as error:
                        raise Refused(422, "Invalid", str(error)) from error
                else:
                    changed = _merged(changed, patch)
                if kind.has_status:
                    kept = ("status",) if sub != "status" else tuple(changed.keys() - {"status"})
                    changed |= {part: found[part] for part in kept if part in found}
                return self.change(kind, key, changed)
            case _:
                return found

    def _chosen(self, request: web.Request, plural: str, namespace: str) -> Iterator[Object]:
        labels = _selector(request.query.get("labelSelector", ""))
        fields = _selector(request.query.get("fieldSelector", ""))
        for (of, within, _), body in list(self.objects.items()):
            if of != plural or (namespace and within != namespace):
                continue
            has = body["metadata"].get("labels", {})
            if all(has.get(k) == v for k, v in labels.items()) and all(_at(body, k) == v for k, v in fields.items()):
                yield body

    async def _stream(self, request: web.Request, kind: Kind, namespace: str) -> web.StreamResponse:
        self.watched_kinds.add(kind.plural)
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        since, at = int(request.query.get("resourceVersion", "0")), 0
        while not self.is_closing:
            news, at = self._log[at:], len(self._log)
            for version, plural, what, body in news:
                if plural == kind.plural and version > since and namespace in {"", body["metadata"].get("namespace")}:
                    await response.write(json.dumps({"type": what, "object": body}).encode() + b"\n")
            await asyncio.sleep(_LOOK_EVERY_S)
        return response

    async def _forward(self, request: web.Request, key: tuple[str, str, str]) -> web.StreamResponse:
        port = int(request.query["ports"])
        process = self.processes[self.objects[key]["metadata"]["uid"]]
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        for channel in (b"\x00", b"\x01"):
            await ws.send_bytes(channel + port.to_bytes(2, "little"))
        reader, writer = await asyncio.open_connection(process.address, port)

        async def back() -> None:
            while data := await reader.read(2**16):
                await ws.send_bytes(b"\x00" + data)
            await ws.close()

        task = asyncio.ensure_future(back())
        try:
            async for message in ws:
                if message.type is WSMsgType.BINARY:
                    writer.write(message.data[1:])
                    await writer.drain()
        finally:
            task.cancel()
            writer.close()
        return ws

    # ---------------------------------------------------------------- pods

    def address_of(self, service: str) -> str | None:
        """Where `SERVICE.NAMESPACE` leads to."""
        name, namespace, *_ = (*service.split("."), "")
        found = self.objects.get(("services", namespace, name))
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
                await asyncio.sleep(_LOOK_EVERY_S)
        finally:
            await self._http.close()

    async def _look(self) -> None:
        pods, deployments = self.kinds["", "pods"], self.kinds["apps", "deployments"]
        owned = {b["metadata"]["ownerReferences"][0]["uid"] for (of, _, _), b in self.objects.items() if of == "pods"}
        for (of, namespace, name), body in list(self.objects.items()):
            if of == deployments.plural and body["metadata"]["uid"] not in owned:
                template = copy.deepcopy(body["spec"]["template"])
                template["metadata"]["name"] = f"{name}-{uuid4().hex[:5]}"
                owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": name, "uid": body["metadata"]["uid"]}
                template["metadata"]["ownerReferences"] = [owner]
                self.add(pods, namespace, {**template, "status": {"phase": "Pending"}})
        alive = {b["metadata"]["uid"]: (key, b) for key, b in self.objects.items() if key[0] == "pods"}
        for uid, process in list(self.processes.items()):
            if uid not in alive:
                del self.processes[uid]
                if process.running is not None and process.running.poll() is None:
                    _end(process.running)
        for uid, (key, pod) in alive.items():
            if key in self.objects:  # somebody may have deleted it while the probe of another was asked
                await self._node(pods, key, self.processes.get(uid) or self._placed(uid, pod))
        groups = [p.pod["metadata"]["name"].rpartition("-worker-")[0] for p in self.processes.values()]
        for group in groups:
            self.most[group] = max(self.most.get(group, 0), groups.count(group))

    def _placed(self, uid: str, pod: Object) -> Process:
        address = f"127.{random.randint(1, 254)}.{random.randint(0, 255)}.{random.randint(1, 254)}"
        name = pod["metadata"]["name"]
        self.processes[uid] = Process(pod, address, self.folder / f"{name}.log")
        return self.processes[uid]

    async def _node(self, pods: Kind, key: tuple[str, str, str], process: Process) -> None:
        """Start what does not run, and say how it is."""
        pod = self.objects[key]
        [container] = pod["spec"]["containers"]
        missing = [it["secretRef"]["name"] for it in container.get("envFrom", ())
                   if ("secrets", key[1], it["secretRef"]["name"]) not in self.objects]  # fmt: skip
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
        if key in self.objects:
            self.change(pods, key, {**copy.deepcopy(self.objects[key]), "status": status})

    def _start(self, namespace: str, container: Object, process: Process) -> None:
        secret: dict[str, str] = {}
        for it in container.get("envFrom", ()):
            data = self.objects["secrets", namespace, it["secretRef"]["name"]].get("data", {})
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


def _validate(kind: Kind, body: Object) -> None:
    """Prune and check by the schema of a custom resource."""
    assert kind.schema is not None
    for part in ("spec", "status"):
        if part in body:
            body[part] = _pruned(body[part], kind.schema["properties"].get(part, {}))
    try:
        jsonschema.validate(body, kind.schema)
    except jsonschema.ValidationError as error:
        raise Refused(422, "Invalid", f"{kind.kind}: {error.json_path}: {error.message[:200]}") from error


def _pruned(value: Any, schema: Mapping[str, Any]) -> Any:
    if schema.get("x-kubernetes-preserve-unknown-fields") or schema.get("additionalProperties"):
        return value
    if isinstance(value, list):
        return [_pruned(part, schema.get("items", {})) for part in value]
    if isinstance(value, dict):
        known = schema.get("properties", {})
        return {key: _pruned(part, known[key]) for key, part in value.items() if key in known}
    return value


def _merged(value: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return patch
    done = dict(value) if isinstance(value, dict) else {}
    for key, part in patch.items():
        if part is None:
            done.pop(key, None)
        else:
            done[key] = _merged(done.get(key), part)
    return done


def _selector(text: str) -> dict[str, str]:
    pairs = (part.partition("=") for part in text.replace("==", "=").split(",") if part)
    return {key: value for key, _, value in pairs}


def _at(body: Any, path: str) -> Any:
    for part in path.split("."):
        body = body.get(part, {})
    return body


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
            await made.keep()
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
        for process in made.processes.values():
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
