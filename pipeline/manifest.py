"""run.json: what a run is, was asked, and came to."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from importlib.metadata import version
from typing import Any

from pipeline.scenes import Scene
from pipeline.slugs import is_folder
from pipeline.spec import RunSpec
from pipeline.storage import Store
from pipeline.texts import one_line, shown
from t2s_core.errors import BadInput

NAME = "run.json"
SCHEMA_VERSION = "1"


class RunStatus(StrEnum):
    """How a run stands or ended."""

    SUCCESS = "SUCCESS"
    PARTIAL = "PARTIAL"
    FAILED = "FAILED"
    RUNNING = "RUNNING"
    INTERRUPTED = "INTERRUPTED"


def read_manifest(store: Store) -> dict[str, Any] | None:
    """The manifest; None where there is no run. Raises `BadInput` where run.json is not one."""
    try:
        text = store.read(NAME)
    except FileNotFoundError:
        return None
    try:
        manifest = json.loads(text)
        found = manifest["schema_version"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BadInput(f"{store.href(NAME)} is not a run's manifest; choose another --out") from error
    if found != SCHEMA_VERSION:
        raise BadInput(
            f"{store.href(NAME)} has schema version {str(found)[:40]}, this t2s reads {SCHEMA_VERSION}; use --out NEW"
        )
    fault = _fault(manifest)
    if fault is not None:
        raise BadInput(f"{store.href(NAME)} is damaged: {fault}; restore it, or choose another --out")
    return dict(manifest)


def read_run(store: Store) -> dict[str, Any]:
    """The manifest. Raises `BadInput` where there is no run."""
    manifest = read_manifest(store)
    if manifest is None:
        raise BadInput(f"{store.url}: no run.json is here; name the directory that --out named")
    return manifest


def _fault(manifest: dict[str, Any]) -> str | None:
    """Why what it says cannot be gone by: names would become folders outside of the run, and texts a page's code."""
    if manifest.get("status", RunStatus.SUCCESS) not in list(RunStatus):
        return f"status {shown(manifest['status'])} is none"
    for part, key in (("scenes", "scene_id"), ("queries", "query_id")):
        entries = manifest.get(part, [])
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            return f"{part} is no list of entries"
        odd = [entry[key] for entry in entries if key in entry and not is_folder(entry[key])]
        if odd:
            return f"{key}={shown(odd[0])} names no folder of a run"
    try:
        for entry in manifest.get("scenes", []):
            Scene.from_json(entry)
        if "spec" in manifest:
            RunSpec.model_validate(manifest["spec"])
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError) as error:
        # pydantic's, pyproj's, and what unpacking raises
        return f"a scene has no {error}" if isinstance(error, KeyError) else one_line(error, 200)
    return None


def manifest_bytes(manifest: Mapping[str, Any]) -> bytes:
    """What `write_manifest` puts."""
    return json.dumps(manifest, indent=1, ensure_ascii=False).encode()


def write_manifest(store: Store, manifest: dict[str, Any]) -> None:
    """Replace the manifest atomically."""
    store.write(NAME, manifest_bytes(manifest))


def now() -> str:
    """This moment, ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def new_run_id() -> str:
    """Names an invocation: sortable by time, unique to the microsecond."""
    return datetime.now(UTC).strftime("r%Y%m%dT%H%M%S%fZ")


def software_versions() -> dict[str, str]:
    """Versions of what shapes a result."""
    return {name: version(name) for name in ("t2s", "torch", "transformers", "rasterio", "zarr", "pyarrow", "dask")}
