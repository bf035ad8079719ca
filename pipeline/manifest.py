"""run.json: what a run is, was asked, and came to."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from importlib.metadata import version
from typing import Any

from pipeline.storage import Store
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
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{store.href(NAME)} is not a run's manifest; choose another --out") from error
    if found != SCHEMA_VERSION:
        raise BadInput(f"{store.href(NAME)} has schema version {found}, this t2s reads {SCHEMA_VERSION}; use --out NEW")
    return dict(manifest)


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
