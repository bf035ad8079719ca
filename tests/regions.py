"""A small region to run whole: drawn scenes, recorded replies, a tiny SAM with random weights."""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow.dataset as ds
import pytest
import rasterio
from affine import Affine
from fakes import fake_profile, reply_text
from numpy.typing import NDArray
from tiffs import draw_tiff
from tiny_models import sam_model, save_segmenter
from workers_here import Here

from pipeline.features import read_features
from pipeline.mosaics import open_mosaic
from pipeline.prepare import prepare, sampled_stretch
from pipeline.progress import Progress, Silent
from pipeline.queries import parse_queries
from pipeline.region import Outcome, run_region
from pipeline.spec import Models, RunSpec
from pipeline.storage import Store
from pipeline.work import InProcess, Workers
from t2s_core.prompts import InstancePrompt

T = TypeVar("T")
R = TypeVar("R")

WATER, ROADS, NOTHING, BABBLE = "the water", "the roads", "nothing at all", "what makes it babble"
TILE_PX = 64
NORTH_UP = Affine(2.0, 0.0, 500_000.25, 0.0, -2.0, 4_000_000.75)

REPLIES: Mapping[str, str] = {
    WATER: reply_text([InstancePrompt((6, 8, 44, 50), ((20, 20), (30, 30)))], "Blue means water."),
    ROADS: reply_text(
        [InstancePrompt((2, 2, 30, 30), ((9, 9), (20, 9))), InstancePrompt((30, 20, 62, 60), ((40, 40), (50, 30)))]
    ),
    NOTHING: reply_text([]),
    BABBLE: "I would rather talk about the weather.",
}


def make_models(folder: Path, replies: Iterable[tuple[str, str, str]] | None = None) -> Models:
    """Models of a run in `folder`; replies are (tile or `*`, query, reply)."""
    if not (folder / "sam").exists():
        # of the first seeds this one draws masks of half a tile, with cores and borders, that differ by tile
        save_segmenter(folder / "sam", sam_model(seed=6))
    write_replies(folder / "replies.jsonl", replies)
    return Models(prompter=f"recorded:{folder / 'replies.jsonl'}", segmenter=f"sam_hf:{folder / 'sam'}")


def write_replies(path: Path, replies: Iterable[tuple[str, str, str]] | None = None) -> None:
    header = {"profile": fake_profile(model_px=TILE_PX, tile_px=TILE_PX).model_dump()}
    given = [("*", query, reply) for query, reply in REPLIES.items()] if replies is None else replies
    lines = [header, *({"tile": tile, "query": query, "reply": reply} for tile, query, reply in given)]
    path.write_text("\n".join(map(json.dumps, lines)))


def draw_scene(path: Path, height: int = 120, width: int = 150, *, seed: int = 0, **profile: Any) -> Path:
    """Smooth blobs, so that tiles differ; never 0."""
    coarse = np.random.default_rng(seed).integers(1, 255, (3, -(-height // 16), -(-width // 16)))
    pixels = np.kron(coarse, np.ones((1, 16, 16)))[:, :height, :width].astype(np.uint8)
    hole: NDArray[np.bool_] | None = profile.pop("hole", None)
    if hole is not None:
        pixels[:, hole] = 0
        profile["nodata"] = 0
    return draw_tiff(path, pixels, **{"transform": NORTH_UP, **profile})


def truncate(path: Path) -> Path:
    """The header and the first blocks stay, the rest of the pixels is gone."""
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size * 6 // 10)
    return path


def draw_corrupt(path: Path) -> Path:
    """A scene of nine tiles, of which some can be read."""
    noise = np.random.default_rng(3).integers(1, 255, (3, 120, 150)).astype(np.uint8)
    with rasterio.open(
        path, "w", driver="GTiff", count=3, height=120, width=150, dtype="uint8", crs="EPSG:32633", transform=NORTH_UP,
        tiled=True, blockxsize=32, blockysize=32, compress="deflate", interleave="pixel",
    ) as file:  # fmt: skip
        file.write(noise)
    return truncate(path)


def spec_of(models: Models, *scenes: Path, queries: Iterable[str] = (WATER,), **changes: Any) -> RunSpec:
    """Tiles of 64 px with 16 px of overlap, four to a batch."""
    return RunSpec(
        scenes=tuple(map(str, scenes)), queries=parse_queries(list(queries)), models=models, batch_tiles=4, **changes
    )


def run(
    spec: RunSpec, out: Path | str, workers: Workers | None = None, progress: Progress | None = None, **options: Any
) -> Outcome:
    return run_region(prepare(spec, str(out)), workers or InProcess(), progress or Silent(), device="cpu", **options)


def work_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of the command start no cluster: their workers are this process."""
    import flows.run

    monkeypatch.setattr(flows.run, "WorkersOnDemand", Here)


class DyingWorkers:
    """Dies in the middle, as a pulled plug would: after `n` results of stages nothing more comes."""

    threads = 1
    models_apart = False

    def __init__(self, n: int, error: BaseException | None = None) -> None:
        self.left, self.error = n, error or ConnectionError("the plug was pulled")

    def map(self, function: Callable[[T], R], items: Iterable[T], *, models: bool = False) -> Iterator[R]:
        for item in items:
            if function is not sampled_stretch:  # what precedes all stages
                if self.left == 0:
                    raise self.error
                self.left -= 1
            yield function(item)


def files(out: Path) -> dict[str, tuple[int, bytes]]:
    """Every object that holds a result: time of its last change and its bytes."""
    found = (p for name in ("tiles", "masks.zarr", "features") for p in sorted((out / name).rglob("*")))
    return {str(p.relative_to(out)): (p.stat().st_mtime_ns, p.read_bytes()) for p in found if p.is_file()}


def results(out: Path | str) -> dict[str, Any]:
    """All that a run came to, bit for bit, but for who computed it when (`run_id`)."""
    store = Store.at(str(out))
    found: dict[str, Any] = {n: _without_run(store.read(n)) for n in store.names("masks.zarr")}
    for name in (n for folder in ("tiles", "features") for n in store.names(folder)):
        table = ds.dataset(store.path(name), format="parquet", filesystem=store.fs).to_table()
        found[name] = table.drop_columns(["run_id"]).to_pylist()
    return found


def _without_run(data: bytes) -> bytes:
    return re.sub(rb'"t2s:run_id": "r[0-9TZ]+"', b'"t2s:run_id": "r"', data)


def mask_of(out: Path | str, scene_id: str, query_id: str, name: str = "mask") -> NDArray[np.uint8]:
    mosaic = open_mosaic(Store.at(str(out)), scene_id, query_id)
    return np.asarray(mosaic[name])


def features_of(out: Path | str) -> Any:
    return read_features(Store.at(str(out)))
