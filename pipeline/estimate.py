"""What a run will take, before it is started: counted from the plan; time and tokens only from what was measured."""

from typing import Any

import numpy as np

from pipeline.manifest import read_manifest
from pipeline.normalise import IDENTITY
from pipeline.plan import ModelVersions
from pipeline.prepare import Prepared, scene_plan
from pipeline.rates import RateBook, Rates, rates_of
from pipeline.scenes import Scene


def estimate(
    prepared: Prepared | None, book: RateBook | None = None, *, n_workers: int | None = None
) -> dict[str, Any]:
    """scenes, tiles, tile_queries, pixels, bytes, seconds, tokens, measured_by. Opens no scene.

    `pixels` are what the models see, overlaps counted twice; `bytes` what is decoded for them, which at coarser levels
    takes overviews for granted but knows no data by the scene's own pixels (see `read.read_window`). `seconds` and
    `tokens` are of the whole plan, as if nothing of it were done yet, scaled from the run that `measured_by` names: the
    latest with the same models in `book`, else in the run's own directory; None where there is none. `n_workers`: as
    many as that run had if None.
    """
    if prepared is None:
        counted = dict.fromkeys(("scenes", "tiles", "tile_queries", "pixels", "bytes"), 0)
        return {**counted, "seconds": None, "tokens": None, "measured_by": None}
    tiles = pixels = n_bytes = 0
    mpx = 0.0
    for scene in prepared.scenes:
        pixel_bytes = len(set(scene.bands)) * np.dtype(scene.dtype).itemsize
        for level, n in scene_plan(prepared, scene, IDENTITY, "").counts().items():
            tiles += n
            pixels += n * prepared.tile_px**2
            n_bytes += n * prepared.tile_px**2 * pixel_bytes
            if level > 1:
                n_bytes += n * (prepared.tile_px * level) ** 2 * _validity_bytes(scene, pixel_bytes)
        height, width = scene.shape
        mpx += height * width / 1e6
    n_queries = len(prepared.spec.queries)
    tile_queries = tiles * n_queries
    rates = measured(prepared, book)
    return {
        "scenes": len(prepared.scenes),
        "tiles": tiles,
        "tile_queries": tile_queries,
        "pixels": pixels,
        "bytes": n_bytes,
        "seconds": None
        if rates is None
        else round(
            rates.predict(
                tile_queries=tile_queries, mpx_queries=mpx * n_queries, n_workers=n_workers or rates.n_workers
            ),
            1,
        ),
        "tokens": None if rates is None else round(rates.tokens * tile_queries),
        "measured_by": None if rates is None else rates.run_id,
    }


def measured(prepared: Prepared, book: RateBook | None) -> Rates | None:
    """The rates to predict by; see `estimate`."""
    found = None if book is None else book.read(prepared.versions)
    return found or _of_this_directory(prepared)


def _of_this_directory(prepared: Prepared) -> Rates | None:
    manifest = read_manifest(prepared.store)
    if manifest is None or not _same_models(manifest["models"], prepared.versions):
        return None
    return rates_of(manifest)


def _same_models(models: dict[str, Any], versions: ModelVersions) -> bool:
    return (models["prompter"]["version"], models["segmenter"]["version"]) == (versions.prompter, versions.segmenter)


def _validity_bytes(scene: Scene, pixel_bytes: int) -> int:
    """Per scene pixel, what telling data from no data reads."""
    if scene.nodata.kind == "value" or scene.dtype.startswith("float"):
        return pixel_bytes
    return 0 if scene.nodata.kind == "none" and not scene.warped else 1
