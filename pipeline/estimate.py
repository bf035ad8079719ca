"""What a run will take, before it is started: counted from the plan; time only from what was measured."""

from typing import Any

import numpy as np

from pipeline.manifest import read_manifest
from pipeline.normalise import IDENTITY
from pipeline.prepare import Prepared, scene_plan
from pipeline.scenes import Scene


def estimate(prepared: Prepared | None) -> dict[str, Any]:
    """scenes, tiles, tile_queries, pixels, bytes, seconds, tokens. Opens no scene.

    `pixels` are what the models see, overlaps counted twice; `bytes` what is decoded for them, which at coarser levels
    takes overviews for granted but knows no data by the scene's own pixels (see `read.read_window`). `seconds` and
    `tokens` are scaled from the latest invocation in the run's directory that computed something with the same models;
    None where there is none.
    """
    if prepared is None:
        return {"scenes": 0, "tiles": 0, "tile_queries": 0, "pixels": 0, "bytes": 0, "seconds": None, "tokens": None}
    tiles = pixels = n_bytes = 0
    for scene in prepared.scenes:
        pixel_bytes = len(set(scene.bands)) * np.dtype(scene.dtype).itemsize
        for tile in scene_plan(prepared, scene, IDENTITY, "").tiles():
            tiles += 1
            pixels += prepared.tile_px**2
            n_bytes += prepared.tile_px**2 * pixel_bytes
            if tile.key.level > 1:
                n_bytes += (prepared.tile_px * tile.key.level) ** 2 * _validity_bytes(scene, pixel_bytes)
    tile_queries = tiles * len(prepared.spec.queries)
    seconds, tokens = _measured(prepared)
    return {
        "scenes": len(prepared.scenes),
        "tiles": tiles,
        "tile_queries": tile_queries,
        "pixels": pixels,
        "bytes": n_bytes,
        "seconds": None if seconds is None else round(seconds * tile_queries, 1),
        "tokens": None if tokens is None else round(tokens * tile_queries),
    }


def _validity_bytes(scene: Scene, pixel_bytes: int) -> int:
    """Per scene pixel, what telling data from no data reads."""
    if scene.nodata.kind == "value" or scene.dtype.startswith("float"):
        return pixel_bytes
    return 0 if scene.nodata.kind == "none" and not scene.warped else 1


def _measured(prepared: Prepared) -> tuple[float, float] | tuple[None, None]:
    """(seconds, tokens) per tile-query of an earlier run in the same place with the same models."""
    manifest = read_manifest(prepared.store)
    versions = prepared.versions
    if manifest is None or (versions.prompter, versions.segmenter) != (
        manifest["models"]["prompter"]["version"],
        manifest["models"]["segmenter"]["version"],
    ):
        return None, None
    for entry in reversed(manifest["history"]):
        if entry.get("computed"):
            return entry["seconds"] / entry["computed"], entry["n_tokens"] / entry["computed"]
    return None, None
