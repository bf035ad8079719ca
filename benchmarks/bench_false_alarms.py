"""Does what neighbouring tiles see keep false alarms out of a region's mask? Takes minutes: run by name.

The bundled pair answers the demo's questions on drawn test regions, once on a clear day and once in haze, which it was
not taught. The same tile results are then made into masks in several ways:

- `cores`: a pixel is its own tile's word alone; nothing is blended.
- `blended`: what `pipeline.stitch` does, a mean weighted by the taper and by the predicted IoU of the claim.
- `lonely 1/2`, `lonely 1/4`: as blended, but what one tile alone claims counts half (a quarter) for each other tile
  that had the pixel well inside and does not claim it.
- `doubt squared`: as blended, with the square of the predicted IoU.
"""

import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.transform import from_origin
from scipy import ndimage

from pipeline.committed import committed
from pipeline.manifest import read_manifest
from pipeline.prepare import prepare
from pipeline.progress import Silent
from pipeline.queries import Query
from pipeline.rebuilt import plans_of
from pipeline.region import run_region
from pipeline.results import TileResult, read_results
from pipeline.spec import RunSpec
from pipeline.stitch import CERTAIN, TileView, stitch_window, threshold_mask, view_of, weight_of
from pipeline.storage import Store
from pipeline.tiling import TileGrid, Window
from pipeline.work import InProcess
from t2s_core.metrics import (
    PixelCounts,
    ciou,
    count_pixels,
    giou,
    no_target_accuracy,
    paired_bootstrap,
    pixel_counts,
    pixel_precision,
)  # fmt: skip
from t2s_core.world.draw import draw_region
from t2s_core.world.looks import Look, seen
from t2s_core.world.queries import FIRST_SEED, demo_queries

LONG = True
SIDE_PX, N_REGIONS, THRESHOLD = 896, 8, 0.5
INSIDE_PX = 16
"""A tile has a pixel well inside that lies this far from its borders."""
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Told:
    """What one tile says of its part of a scene."""

    part: Window
    core: Window
    view: TileView
    weight: NDArray[np.float64]
    """Taper times predicted IoU, 0 without data."""
    claims: Mask
    clear: Mask
    """True where it has the pixel well inside and does not claim it."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One question of one region."""

    scene: Window
    results: list[TileResult]
    grids: dict[int, TileGrid]
    told: list[Told]
    truth: Mask


def measure() -> dict[str, Any]:
    """Precision of blended masks minus that of cores on clear days, and all numbers of all rules on both days."""
    folder = Path(os.environ.get("T2S_FALSE_ALARMS_FOLDER") or tempfile.mkdtemp())
    days = {day: _of_day(folder / day, day) for day in get_args(Look)}
    clear = days["clear"]
    return {
        "value": round(clear["blended"]["precision"] - clear["cores"]["precision"], 5),
        "unit": "pixel precision of blended tiles minus that of tiles cut at their cores, clear day",
        "runs": 1,
        "details": {"side_px": SIDE_PX, "regions": N_REGIONS, "inside_px": INSIDE_PX, **days},
    }


def _of_day(folder: Path, day: Look) -> dict[str, dict[str, Any]]:
    samples = list(_samples(folder, day))
    counts, false = {}, {}
    for name, rule in RULES.items():
        masks = [rule(sample) for sample in samples]
        pairs = [count_pixels(sample.truth, mask) for sample, mask in zip(samples, masks, strict=True)]
        counts[name] = pixel_counts(*np.array(pairs).T)
        false[name] = sum(_false_regions(sample.truth, mask) for sample, mask in zip(samples, masks, strict=True))
    return {name: {**_scores(counts[name], counts["blended"]), "false_regions": false[name]} for name in RULES}


def _scores(counts: PixelCounts, blended: PixelCounts) -> dict[str, Any]:
    gain = paired_bootstrap(counts.iou, blended.iou)
    return {
        "precision": round(pixel_precision(counts).value, 5),
        "recall": round(float(counts.intersection_px.sum() / counts.truth_px.sum()), 5),
        "giou": round(giou(counts).value, 5),
        "giou_over_blended_ci95": [round(value, 5) for value in gain.ci95],
        "ciou": round(ciou(counts).value, 5),
        "no_target_accuracy": round(no_target_accuracy(counts).value, 5),
    }


def _false_regions(truth: Mask, mask: Mask) -> int:
    """Connected regions of the mask without any pixel of the truth."""
    labels, n = ndimage.label(mask)
    return int(n - np.count_nonzero(np.unique(labels[truth])))


def _samples(folder: Path, day: Look) -> Iterator[Sample]:
    seeds = range(FIRST_SEED["test"] + 310_000_000, FIRST_SEED["test"] + 310_000_000 + N_REGIONS)
    regions = {f"r{seed}": draw_region(seed, SIDE_PX, SIDE_PX) for seed in seeds}
    folder.mkdir(parents=True, exist_ok=True)
    for name, region in regions.items():
        _write(folder / f"{name}.tif", seen(region.image, day))
    queries = tuple(Query(query_id=q.id, text=q.text) for q in demo_queries())
    spec = RunSpec(scenes=tuple(str(folder / f"{name}.tif") for name in regions), queries=queries)
    run_region(prepare(spec, str(folder / "run")), InProcess(), Silent(), device="cpu")
    store = Store.at(str(folder / "run"))
    manifest = read_manifest(store)
    assert manifest is not None
    for plan in plans_of(manifest, store):
        state, scene = committed(store, plan, queries), Window(0, 0, SIDE_PX, SIDE_PX)
        for query, asked in zip(queries, demo_queries(), strict=True):
            index = state.of_query(query)
            keys = frozenset(index["key"].to_pylist())
            batches = index["batch"].unique().to_pylist()
            results = [r for b in batches for r in read_results(store, b, keys=keys, scene_id=plan.scene.scene_id)]
            told = [_told(result, plan.grids[1], scene) for result in results]
            yield Sample(scene, results, dict(plan.grids), told, regions[plan.scene.scene_id].mask(asked.kinds))


def _write(path: Path, image: NDArray[np.uint8]) -> None:
    if not path.exists():
        height, width, n_bands = image.shape
        with rasterio.open(
            path, "w", driver="GTiff", width=width, height=height, count=n_bands, dtype="uint8", crs="EPSG:32633",
            transform=from_origin(391_000, 5_820_000, 0.3, 0.3), photometric="RGB",
        ) as dataset:  # fmt: skip
            dataset.write(np.moveaxis(image, -1, 0))


def _told(result: TileResult, grid: TileGrid, scene: Window) -> Told:
    part = scene.intersection(result.window_scene_px)
    assert part is not None
    view = view_of(result, part)
    claims = view.claims(THRESHOLD) > 0
    well_inside = np.zeros(claims.shape, np.bool_)
    top, left = (0 if start == 0 else INSIDE_PX for start in (part.y0, part.x0))
    bottom, right = (end if end == SIDE_PX else end - INSIDE_PX for end in (part.y1, part.x1))
    well_inside[top : bottom - part.y0, left : right - part.x0] = True
    return Told(
        part, grid.core(result.tile.row, result.tile.col), view, weight_of(result, view, grid, part).astype(float),
        claims, well_inside & ~claims & view.looked,
    )  # fmt: skip


def _cores(sample: Sample) -> Mask:
    mask = np.zeros(sample.truth.shape, np.bool_)
    for told in sample.told:
        mask[told.core.slices_in(sample.scene)] = told.claims[told.core.slices_in(told.part)]
    return mask


def _blended(sample: Sample) -> Mask:
    return threshold_mask(stitch_window(sample.scene, sample.results, sample.grids).probability, THRESHOLD) == 1


def _lonely(factor: float) -> Callable[[Sample], Mask]:
    """The claim of one tile alone counts `factor` for each tile with a clear view that does not claim the pixel."""

    def rule(sample: Sample) -> Mask:
        n_claims, n_clear = (np.zeros(sample.truth.shape, np.int64) for _ in range(2))
        for told in sample.told:
            inside = told.part.slices_in(sample.scene)
            n_claims[inside] += told.claims
            n_clear[inside] += told.clear
        factors = np.where(n_claims == 1, factor**n_clear, 1.0)
        return _mean_of(sample, lambda told: np.where(told.claims, factors[told.part.slices_in(sample.scene)], 1.0))

    return rule


def _doubt_squared(sample: Sample) -> Mask:
    return _mean_of(sample, lambda told: told.view.trust / 255)


def _mean_of(sample: Sample, factor: Callable[[Told], NDArray[np.float64]]) -> Mask:
    """The blended mask, with the weights of each tile times a factor."""
    weighted, weights = np.zeros(sample.truth.shape), np.zeros(sample.truth.shape)
    for told in sample.told:
        inside, weight = told.part.slices_in(sample.scene), told.weight * factor(told)
        weighted[inside] += weight * told.view.probability_units
        weights[inside] += weight
    codes = np.floor(weighted / np.maximum(weights * 256, 1e-9) + 0.5)
    return (weights > 0) & (codes >= THRESHOLD * CERTAIN)


RULES: dict[str, Callable[[Sample], Mask]] = {
    "cores": _cores,
    "blended": _blended,
    "lonely 1/2": _lonely(0.5),
    "lonely 1/4": _lonely(0.25),
    "doubt squared": _doubt_squared,
}
