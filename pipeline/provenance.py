"""What every output says of where it comes from: run, spec, models, and the version of the scene."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from pipeline.plan import ScenePlan

TRACE = ("t2s:run_id", "t2s:spec_digest", "t2s:prompter", "t2s:segmenter", "t2s:scene_href", "t2s:scene_etag")
"""Attributes of a Zarr group, metadata of a Parquet file, tags of a COG, properties of a STAC asset."""


def spec_digest(spec: Mapping[str, Any]) -> str:
    """32 hex digits of a spec as run.json holds it; `specs` of run.json gives the spec back."""
    return hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()[:32]


def trace(plan: ScenePlan, *, run_id: str, digest: str) -> dict[str, str]:
    """The values of `TRACE` for what an invocation makes of a scene."""
    scene, versions = plan.scene, plan.versions
    values = (run_id, digest, versions.prompter, versions.segmenter, scene.href, scene.etag)
    return dict(zip(TRACE, values, strict=True))
