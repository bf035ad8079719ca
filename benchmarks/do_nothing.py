"""What the benchmarks of the machinery share: large scenes that take no disk, and a pair that finds nothing at once."""

import json
from pathlib import Path
from typing import Any

import rasterio
from affine import Affine

from pipeline.prepare import Prepared, prepare
from pipeline.queries import parse_queries
from pipeline.spec import Models, RunSpec
from t2s_core.registry import prompter_profile

QUERY = "anything"


def sparse_scene(path: Path, width_px: int, height_px: int | None = None) -> Path:
    """A GeoTIFF of three 8-bit bands in blocks of 512 px, of which none is stored: black, and all of it data.

    It is square where no height is given.
    """
    profile: dict[str, Any] = {
        "driver": "GTiff", "width": width_px, "height": height_px or width_px, "count": 3, "dtype": "uint8",
        "crs": "EPSG:32633", "transform": Affine(0.5, 0, 500_000, 0, -0.5, 5_000_000),
        "tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate", "sparse_ok": True, "bigtiff": "yes",
    }  # fmt: skip
    with rasterio.open(path, "w", **profile):
        pass
    return path


def nothing_models(folder: Path) -> Models:
    """A prompter that says at once that nothing is there, and the bundled segmenter, which is then never asked."""
    profile = prompter_profile("bundled")
    reply = {"tile": "*", "query": QUERY, "reply": "<answer>[]</answer>"}
    lines = [{"profile": profile.model_dump(mode="json")}, reply]
    (folder / "nothing.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    return Models(prompter=f"recorded:{folder / 'nothing.jsonl'}", segmenter="bundled")


def prepared(folder: Path, scenes: list[Path], **changes: int) -> Prepared:
    """A run of the pair over scenes, into `folder`/out."""
    spec = RunSpec(
        scenes=tuple(map(str, scenes)), queries=parse_queries([QUERY]), models=nothing_models(folder), **changes
    )
    return prepare(spec, str(folder / "out"))
