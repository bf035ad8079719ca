"""A finished run to look at: two scenes in two UTM zones, three queries, COGs.

`alpha` has overviews and says when it was taken; `beta` is rotated, has a hole, and is smaller than a tile.
"""

from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from regions import NOTHING, ROADS, WATER, draw_scene, make_models, run, spec_of

from pipeline.spec import RunSpec

ROTATED = Affine(2.0, 0.0, 300_000.0, 0.0, -2.0, 5_000_000.0) @ Affine.rotation(20)


def hole() -> np.ndarray[Any, np.dtype[np.bool_]]:
    """(height, width) of a scene, True where it has no data."""
    found = np.zeros((120, 150), np.bool_)
    found[:40, 100:] = True
    return found


def outputs_spec(folder: Path, **changes: Any) -> RunSpec:
    """What the run is asked, of ten tiles of 256 px; scenes and models are made in `folder`."""
    alpha, beta = folder / "alpha.tif", folder / "beta.tif"
    if not alpha.exists():  # drawn anew they would be other versions
        draw_scene(alpha, 530, 560, tags={"TIFFTAG_DATETIME": "2024:05:06 07:08:09"})
        draw_scene(beta, seed=3, hole=hole(), crs="EPSG:32634", transform=ROTATED)
    asked = {"queries": [WATER, ROADS, NOTHING], "tile_px": 256, "cog": True}
    return spec_of(make_models(folder), alpha, beta, **asked | changes)


def finished_run(folder: Path, **changes: Any) -> Path:
    """The run's directory, below `folder`."""
    run(outputs_spec(folder, **changes), folder / "out")
    return folder / "out"
