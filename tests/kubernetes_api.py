"""The HTTP face of a fake Kubernetes: it tells who watches, refuses what a Role does not grant, forwards ports."""

import asyncio
import copy
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import jsonpatch
from aiohttp import WSMsgType, web
from kubernetes_objects import LOOK_EVERY_S, Key, Kind, Object, Refused, Store
from kubernetes_pods import Nodes

OPERATOR = "operator"
"""The token of who may do everything."""


@dataclass
class Api:
    """The API server: it answers requests about what is stored and what runs."""

    store: Store
    nodes: Nodes
    granted: list[Mapping[str, Any]] = field(default_factory=list)
    """Rules of a Role for everybody but the operator."""
    namespace: str = "t2s"
    """Of that Role."""
    down: bool = False
    """Whether who is not the operator is answered by 503 when asking for Dask's resources and Deployments. Ports are
    forwarded all the same: without that nobody outside of a cluster reaches a scheduler."""
    operator_waits_s: float = 0
    """For each answer, as where much is asked of an API: between two steps of the operator, others are quicker."""
    missing: set[str] = field(default_factory=set)
    """Plurals that nobody installed."""
    watched_kinds: set[str] = field(default_factory=set)
    """Plurals that somebody was told about as they changed."""
    is_closing: bool = False
    """Whether who watches is told no more."""

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
        if is_operator and "watch" not in request.query:
            await asyncio.sleep(self.operator_waits_s)
        base, *parts = request.path.strip("/").split("/")
        if base == "version":
            return web.json_response({"major": "1", "minor": "33", "gitVersion": "v1.33.1"})
        if base == "dns":  # of ours: addresses of services for who is within the cluster
            address = self.nodes.address_of(parts[0])
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

    def _named(self, parts: list[str]) -> tuple[Kind, Key, str]:
        group, _, *parts = parts
        namespace = ""
        if parts[0] == "namespaces" and len(parts) > 2:
            namespace, parts = parts[1], parts[2:]
        plural, name, sub = (*parts, "", "")[:3]
        kind = self.store.kinds.get((group, plural))
        if kind is None or plural in self.missing:
            raise Refused(404, "NotFound", "the server could not find the requested resource")
        return kind, (plural, namespace, name), sub

    async def _of_kind(self, request: web.Request, kind: Kind, key: Key, sub: str) -> web.StreamResponse:
        plural, namespace, name = key
        if sub == "portforward":
            return await self._forward(request, key)
        if name:
            return web.json_response(await self._one(request, kind, key, sub))
        if request.method == "POST":
            return web.json_response(self.store.add(kind, namespace, await request.json()), status=201)
        if request.query.get("watch") == "true":
            return await self._stream(request, kind, namespace)
        chosen = list(self._chosen(request, plural, namespace))
        of = {"apiVersion": f"{kind.group}/{kind.version}".lstrip("/"), "kind": f"{kind.kind}List"}
        return web.json_response({**of, "metadata": {"resourceVersion": str(self.store.version)}, "items": chosen})

    def _discovered(self, parts: list[str]) -> Object:
        kinds = [kind for kind in self.store.kinds.values() if kind.plural not in self.missing]
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

    async def _one(self, request: web.Request, kind: Kind, key: Key, sub: str) -> Object:
        if key not in self.store.objects:
            raise Refused(404, "NotFound", f'{kind.plural} "{key[2]}" not found')
        found = self.store.objects[key]
        match request.method:
            case "DELETE":
                self.store.remove(kind, key)
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
                return self.store.change(kind, key, changed)
            case _:
                return found

    def _chosen(self, request: web.Request, plural: str, namespace: str) -> Iterator[Object]:
        labels = _selector(request.query.get("labelSelector", ""))
        fields = _selector(request.query.get("fieldSelector", ""))
        for (of, within, _), body in list(self.store.objects.items()):
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
            news, at = self.store.log[at:], len(self.store.log)
            for version, plural, what, body in news:
                if plural == kind.plural and version > since and namespace in {"", body["metadata"].get("namespace")}:
                    await response.write(json.dumps({"type": what, "object": body}).encode() + b"\n")
            await asyncio.sleep(LOOK_EVERY_S)
        return response

    async def _forward(self, request: web.Request, key: Key) -> web.StreamResponse:
        port = int(request.query["ports"])
        process = self.nodes.processes[self.store.objects[key]["metadata"]["uid"]]
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
