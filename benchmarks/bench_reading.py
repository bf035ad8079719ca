"""Tiles of a 16-bit scene as the models want them, against torchgeo's grid sampler; and against decoding alone.

Ours are 8-bit RGB by the scene's stretch with a mask of valid pixels, batch by batch as a worker reads them; torchgeo
gives floats as the file has them, which is less work. Same file, tiles, stride and bands; each in one process, without
further workers, in turn. Every run opens the file anew: GDAL's cache of decoded blocks begins empty.
"""

import json
import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from peers import PYTHON, missing_peer
from rasterio.windows import Window as RasterioWindow

from pipeline.normalise import Stretch, scene_stretch
from pipeline.plan import Batch, ModelVersions, ScenePlan, grids_for, nothing
from pipeline.queries import Query
from pipeline.reading import read_batches
from pipeline.scenes import Scene, resolve
from pipeline.spec import Models

BLOCK_PX, TILE_PX, OVERLAP_PX, BATCH_TILES, RUNS = 512, 512, 128, 8, 5


def missing() -> str | None:
    return missing_peer("torchgeo")


def measure() -> dict[str, Any]:
    """Ratio of the speeds; each pass over the file after one that warmed the page cache."""
    side = int(os.environ.get("T2S_BENCH_SIDE_PX", "8192"))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scene.tif"
        _draw(path, side)
        scene = resolve([str(path)]).scenes[0]
        stretch = scene_stretch(scene)
        batches = _batches(scene, stretch)
        n_tiles = sum(len(batch.tiles) for batch in batches)
        command = [str(PYTHON), str(Path(__file__).with_name("peer_torchgeo.py"))]
        arguments = [folder, str(TILE_PX), str(TILE_PX - OVERLAP_PX)]
        with subprocess.Popen([*command, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as peer:
            times = [
                (_ours_s(scene, batches, stretch), _peer_s(peer, n_tiles), _decode_s(path)) for _ in range(RUNS + 1)
            ]
    ours_s, peer_s, decode_s = (list(column) for column in zip(*times[1:], strict=True))
    return {
        "ratio": _median_ratio(peer_s, ours_s),
        "unit": "tiles/s of ours / tiles/s of torchgeo's grid sampler, one process each",
        "runs": RUNS,
        "details": {
            "side_px": side, "block_px": BLOCK_PX, "tile_px": TILE_PX, "overlap_px": OVERLAP_PX, "n_tiles": n_tiles,
            "batch_tiles": BATCH_TILES, "file": "3 bands of 16 bits, by pixel, deflate",
            "tiles_per_s": round(n_tiles / float(np.median(ours_s)), 1),
            "torchgeo_tiles_per_s": round(n_tiles / float(np.median(peer_s)), 1),
            "of_decoding_each_block_once": _median_ratio(decode_s, ours_s),
            "ours_s": _rounded(ours_s), "torchgeo_s": _rounded(peer_s), "decode_s": _rounded(decode_s),
        },
    }  # fmt: skip


def _draw(path: Path, side: int) -> None:
    """Smooth ground with grain: it packs about as imagery does."""
    rng = np.random.default_rng(0)
    profile = {
        "driver": "GTiff", "width": side, "height": side, "count": 3, "dtype": "uint16", "crs": "EPSG:32633",
        "transform": rasterio.Affine(0.5, 0, 500_000, 0, -0.5, 5_000_000), "tiled": True, "blockxsize": BLOCK_PX,
        "blockysize": BLOCK_PX, "compress": "deflate", "interleave": "pixel",
    }  # fmt: skip
    with rasterio.open(path, "w", **profile) as file:
        for y in range(0, side, BLOCK_PX):
            rows, cols = np.mgrid[y : min(y + BLOCK_PX, side), 0:side]
            ground = 2000 + 900 * np.sin(rows / 97) * np.cos(cols / 61)
            grain = rng.integers(0, 64, (3, *ground.shape))
            window = RasterioWindow(0, y, side, ground.shape[0])
            file.write((ground + grain).astype(np.uint16), window=window)


def _batches(scene: Scene, stretch: Stretch) -> tuple[Batch, ...]:
    grids = grids_for(scene, tile_px=TILE_PX, overlap_px=OVERLAP_PX, levels=[1])
    plan = ScenePlan(scene, stretch, grids, None, ModelVersions(Models(), "none@0", "none@0"))
    return tuple(plan.batches((Query(query_id="any", text="any"),), nothing, BATCH_TILES))


def _ours_s(scene: Scene, batches: tuple[Batch, ...], stretch: Stretch) -> float:
    start_s = time.perf_counter()
    for batch in read_batches(scene, batches, TILE_PX, stretch):
        assert not any(isinstance(pixels, str) for pixels in batch.pixels), batch.pixels
    return time.perf_counter() - start_s


def _peer_s(peer: subprocess.Popen[str], n_tiles: int) -> float:
    assert peer.stdin is not None
    assert peer.stdout is not None
    peer.stdin.write("go\n")
    peer.stdin.flush()
    said = json.loads(peer.stdout.readline())
    assert said["tiles"] == n_tiles, f"torchgeo read {said['tiles']} tiles of {n_tiles}"
    return float(said["seconds"])


def _decode_s(path: Path) -> float:
    """Seconds to decode every block once, as the file has it: nothing can be faster."""
    start_s = time.perf_counter()
    with rasterio.open(path) as dataset:
        for _, window in dataset.block_windows(1):
            dataset.read(window=window)
    return time.perf_counter() - start_s


def _median_ratio(over_s: list[float], under_s: list[float]) -> float:
    return round(float(np.median([a / b for a, b in zip(over_s, under_s, strict=True)])), 3)


def _rounded(seconds: list[float]) -> list[float]:
    return [round(s, 3) for s in seconds]
