"""The objects of a fake Kubernetes and their rules: what an API server makes of what it is asked to store.

It prunes what a resource's schema does not know, deletes what belongs to what is deleted, and logs what changed.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import dask_kubernetes
import jsonschema
import yaml

CRDS = Path(dask_kubernetes.__file__).parent / "operator/deployment/helm/dask-kubernetes-operator/crds"

LOOK_EVERY_S = 0.05
"""How often it is looked for what changed."""

Object = dict[str, Any]
Key = tuple[str, str, str]
"""Plural, namespace, name."""


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
class Store:
    """Everything there is. It is changed in the thread of the server alone."""

    kinds: dict[tuple[str, str], Kind] = field(default_factory=_kinds)
    """By group and plural."""
    objects: dict[Key, Object] = field(default_factory=dict)
    version: int = 1
    log: list[tuple[int, str, str, Object]] = field(default_factory=list)
    """For who watches: version, plural, what happened, to what."""

    def kind_of(self, plural: str) -> Kind:
        """The one kind of that name."""
        [kind] = [it for it in self.kinds.values() if it.plural == plural]
        return kind

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

    def change(self, kind: Kind, key: Key, changed: Object) -> Object:
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

    def remove(self, kind: Kind, key: Key) -> None:
        """Delete, or wait for who holds a finalizer."""
        found = self.objects[key]
        if found["metadata"].get("finalizers"):
            marked = copy.deepcopy(found)
            marked["metadata"]["deletionTimestamp"] = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            self.objects[key] = marked
            self._tell(kind, "MODIFIED", marked)
        else:
            self._drop(kind, key)

    def collect_garbage(self) -> None:
        """Delete what belongs to what is not there, even if it came later than its owner went."""
        alive = {body["metadata"]["uid"] for body in self.objects.values()}
        for key, body in list(self.objects.items()):
            owners = body["metadata"].get("ownerReferences", ())
            if owners and not any(owner["uid"] in alive for owner in owners):
                self.remove(self.kind_of(key[0]), key)

    def _drop(self, kind: Kind, key: Key) -> None:
        self._tell(kind, "DELETED", self.objects.pop(key))

    def _tell(self, kind: Kind, what: str, body: Object) -> None:
        self.version += 1
        body["metadata"]["resourceVersion"] = str(self.version)
        self.log.append((self.version, kind.plural, what, copy.deepcopy(body)))


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
