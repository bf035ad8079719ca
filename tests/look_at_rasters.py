"""Looks at rasters as a run does, in a process with little memory; says what became of each, one JSON line per file."""

import hashlib
import json
import resource
import signal
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.normalise import scene_stretch
from pipeline.pixels import UnreadablePixels, open_scene, read_bands
from pipeline.plan import Batch, PlannedTile
from pipeline.reading import read_batches
from pipeline.scenes import resolve
from pipeline.tiling import TileKey, Window

MEMORY_BYTES = 1_500_000_000
"""Beyond what the libraries themselves map."""
SECONDS = 20
MOST_WINDOWS = 40
TILE_PX = 64


def look(path: Path) -> dict[str, Any]:
    resolved = resolve([str(path)])
    if resolved.problems:
        return {"problems": [p.problem for p in resolved.problems]}
    (scene,) = resolved.scenes
    height, width = scene.shape
    try:
        stretch = scene_stretch(scene)
    except UnreadablePixels as error:
        return {"failed": [str(error)]}
    places = ((x, y) for y in range(0, height, TILE_PX) for x in range(0, width, TILE_PX))
    corners = list(islice(places, MOST_WINDOWS))
    windows = [Window(x, y, x + TILE_PX, y + TILE_PX) for x, y in corners]
    tiles = tuple(PlannedTile(TileKey("a", 1, 0, i), window, None) for i, window in enumerate(windows))
    (batch,) = read_batches(scene, [Batch("b", tiles, ((),) * len(tiles))], TILE_PX, stretch)
    failed = [pixels for pixels in batch.pixels if isinstance(pixels, str)]
    if failed:
        return {"failed": failed, "n": len(tiles)}
    if height * width > 2**22:
        return {"shape": [height, width]}
    try:
        with open_scene(scene) as dataset:
            bands = read_bands(dataset, scene, Window(0, 0, width, height))
    except UnreadablePixels as error:  # what lies beyond the windows above
        return {"failed": [str(error)]}
    return {"shape": [height, width], "blocks": block_hashes(bands)}


def block_hashes(bands: NDArray[Any]) -> list[str]:
    """Of each square of `TILE_PX` of (bands, height, width), row by row."""
    _, height, width = bands.shape
    corners = [(y, x) for y in range(0, height, TILE_PX) for x in range(0, width, TILE_PX)]
    squares = (np.ascontiguousarray(bands[:, y : y + TILE_PX, x : x + TILE_PX]) for y, x in corners)
    return [hashlib.sha256(square.tobytes()).hexdigest()[:16] for square in squares]


def main() -> None:
    mapped_bytes = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped_bytes + MEMORY_BYTES,) * 2)
    for line in sys.stdin:
        path = Path(line.strip())
        signal.alarm(SECONDS)
        found = look(path)
        signal.alarm(0)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        sys.stdout.write(json.dumps({"name": path.stem, "peak_bytes": peak, **found}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
