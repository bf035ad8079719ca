"""What a coarser level of tiles adds to the bundled pair, and what it costs. Takes half an hour: run by name.

Regions of the drawn world, none of which was trained on, as they are drawn and enlarged two and four times, so that a
lake is half a tile, a tile, or several tiles long. Each is asked the demo's questions and for rivers, at level 1 alone,
at the coarser level alone (4, or T2S_BENCH_LEVEL) and at both; a sample is one question on one scene, scored on the
stitched mask.
"""

import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from PIL import Image
from rasterio.transform import from_origin
from scipy import ndimage

from pipeline.mosaics import open_mosaic
from pipeline.prepare import prepare
from pipeline.progress import Silent
from pipeline.queries import Query
from pipeline.region import run_region
from pipeline.spec import RunSpec
from pipeline.work import InProcess
from t2s_core import metrics
from t2s_core.world.classes import Kind
from t2s_core.world.draw import draw_region
from t2s_core.world.queries import FIRST_SEED, WorldQuery, all_queries, demo_queries

LONG = True
SIDE_PX = int(os.environ.get("T2S_BENCH_SIDE_PX", "1536"))
SCENES = int(os.environ.get("T2S_BENCH_SCENES", "3"))
ENLARGED = (1, 2, 4)
COARSE = int(os.environ.get("T2S_BENCH_LEVEL", "4"))
SETTINGS = ((1,), (COARSE,), (1, COARSE))
TILE_PX = 256
GSD_M = 0.3
_SEED = FIRST_SEED["test"] + 310_000_000  # no other benchmark's, nor the demo's


@dataclass(frozen=True)
class Sample:
    """One question on one scene, in one setting."""

    question: str
    enlarged: int
    levels: tuple[int, ...]
    holds: str
    """`large` where something of the target is longer than a tile of level 1, else `small`, or `nothing`."""
    counts: tuple[int, int, int, int]


def measure() -> dict[str, Any]:
    """What the coarser level adds to the gIoU of level 1 alone, over all samples; paired."""
    samples = list(_samples())
    by_setting = {levels: [s for s in samples if s.levels == levels] for levels in SETTINGS}
    gain = metrics.paired_bootstrap(_ious(by_setting[SETTINGS[2]]), _ious(by_setting[SETTINGS[0]]))
    return {
        "value": round(gain.value, 4),
        "ci95": [round(value, 4) for value in gain.ci95],
        "unit": f"gIoU at levels 1 and {COARSE} minus that at level 1, same samples",
        "runs": 1,
        "details": {
            "side_px": SIDE_PX, "scenes": SCENES, "enlarged": ENLARGED, "tile_px": TILE_PX,
            "by_enlargement": [_row(samples, enlarged=factor) for factor in ENLARGED],
            "by_target": [_row(samples, holds=holds) for holds in ("large", "small", "nothing")],
            "by_target_and_enlargement": [
                _row(samples, holds=holds, enlarged=factor) for holds in ("large", "small") for factor in ENLARGED
            ],
            "by_question": [_row(samples, question=q.id) for q in questions()],
            "all": _row(samples),
        },
    }  # fmt: skip


def questions() -> tuple[WorldQuery, ...]:
    """The demo's, and one for rivers."""
    rivers = next(q for q in all_queries("test") if q.kinds == {Kind.RIVER} and q.category == "direct")
    return (*demo_queries(), rivers)


def _samples() -> Iterator[Sample]:
    for number in range(SCENES):
        for factor in ENLARGED:
            with tempfile.TemporaryDirectory() as folder:
                yield from _scene(Path(folder), _SEED + number, factor)


def _scene(folder: Path, seed: int, factor: int) -> Iterator[Sample]:
    region = draw_region(seed, SIDE_PX // factor, SIDE_PX // factor)
    image = Image.fromarray(region.image).resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC)
    _write(folder / "scene.tif", np.asarray(image))
    truths = {q.id: np.kron(region.mask(q.kinds), np.ones((factor, factor), np.bool_)) for q in questions()}
    queries = tuple(Query(query_id=q.id, text=q.text) for q in questions())
    for levels in SETTINGS:  # what one level came to is not asked again
        spec = RunSpec(scenes=(str(folder / "scene.tif"),), queries=queries, levels=levels, tile_px=TILE_PX)
        prepared = prepare(spec, str(folder / "out"))
        run_region(prepared, InProcess(), Silent(), device="cpu")
        (scene,) = prepared.scenes
        for query_id, truth in truths.items():
            found = np.asarray(open_mosaic(prepared.store, scene.scene_id, query_id)["mask"].values) == 1
            yield Sample(query_id, factor, levels, _holds(truth), metrics.count_pixels(truth, found))


def _write(path: Path, image: NDArray[np.uint8]) -> None:
    profile = {
        "driver": "GTiff", "width": SIDE_PX, "height": SIDE_PX, "count": 3, "dtype": "uint8", "photometric": "RGB",
        "crs": "EPSG:32633", "transform": from_origin(391_000, 5_820_000, GSD_M, GSD_M), "tiled": True,
    }  # fmt: skip
    with rasterio.open(path, "w", **profile) as file:
        file.write(image.transpose(2, 0, 1))


def _holds(truth: NDArray[np.bool_]) -> str:
    labels, n = ndimage.label(truth)
    if n == 0:
        return "nothing"
    longest = max(max(s.stop - s.start for s in found) for found in ndimage.find_objects(labels))
    return "large" if longest > TILE_PX else "small"


def _row(samples: Sequence[Sample], **where: object) -> dict[str, Any]:
    chosen = [s for s in samples if all(getattr(s, name) == value for name, value in where.items())]
    row: dict[str, Any] = {**where, "n": len(chosen) // len(SETTINGS)}
    for levels in SETTINGS:
        mine = [s for s in chosen if s.levels == levels]
        if mine:
            counts = metrics.pixel_counts(*np.array([s.counts for s in mine]).T)
            there = counts.truth_px > 0
            found = {"giou": metrics.giou(counts)}
            if there.any():
                found |= {"ciou": metrics.ciou(counts), "precision": metrics.pixel_precision(counts)}
            if not there.all():
                found["no_target_accuracy"] = metrics.no_target_accuracy(counts)
            row[",".join(map(str, levels))] = {name: round(value.value, 4) for name, value in found.items()}
    return row


def _ious(samples: Sequence[Sample]) -> list[float]:
    return [metrics.giou(metrics.pixel_counts(*np.array([s.counts]).T)).value for s in samples]
