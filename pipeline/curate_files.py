"""The files of a data set of curated tiles: names, chips, masks, the table of samples."""

import hashlib
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.io import MemoryFile

from pipeline.storage import Store
from t2s_core.errors import BadInput

FORMAT = "t2s-curated/1"
DATASET, SAMPLES, HARD, MARKER = "dataset.json", "samples.parquet", "hard.parquet", "curating.json"
CHIPS, MASKS = "chips", "masks"
TARGET, BACKGROUND, NOT_VALID = 1, 0, 255
"""Values of a mask. `NOT_VALID`: no data, or nobody knows."""

SCHEMA = pa.schema(
    [
        pa.field("sample_id", pa.string(), nullable=False),
        pa.field("chip_id", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("query", pa.string(), nullable=False),
        pa.field("query_id", pa.string(), nullable=False),
        pa.field("category", pa.string(), nullable=False),
        pa.field("absent", pa.bool_(), nullable=False),
        pa.field("image", pa.string(), nullable=False),
        pa.field("mask", pa.string()),
        pa.field("scene_id", pa.string(), nullable=False),
        pa.field("scene_etag", pa.string(), nullable=False),
        pa.field("label_source", pa.string(), nullable=False),
        pa.field("x0", pa.int64(), nullable=False),
        pa.field("y0", pa.int64(), nullable=False),
        pa.field("x1", pa.int64(), nullable=False),
        pa.field("y1", pa.int64(), nullable=False),
        pa.field("crs", pa.string(), nullable=False),
        pa.field("transform", pa.list_(pa.float64(), 6), nullable=False),
        pa.field("block", pa.string(), nullable=False),
    ]
)
"""One row per sample. x0 to y1: window_scene_px. `transform`: of the chip, in the order a, b, c, d, e, f."""


@dataclass(frozen=True, slots=True)
class Georeference:
    """Where a chip lies."""

    crs: str
    """Authority string or WKT."""
    transform: Affine
    """From chip pixels to `crs`."""


def chip_name(chip_id: str) -> str:
    """The object that holds a chip."""
    return f"{CHIPS}/{chip_id}.tif"


def mask_name(chip_id: str, query_id: str) -> str:
    """The object that holds what of a chip is target."""
    return f"{MASKS}/{chip_id}__{query_id}.tif"


def write_chip(store: Store, chip_id: str, image: NDArray[np.uint8], place: Georeference) -> str:
    """Put a chip, (height, width, 3) RGB; returns its digest."""
    store.write(chip_name(chip_id), _geotiff(image.transpose(2, 0, 1), place, photometric="RGB"))
    return content_digest(image)


def write_mask(store: Store, chip_id: str, query_id: str, mask: NDArray[np.uint8], place: Georeference) -> str:
    """Put a mask, (height, width) of `TARGET`, `BACKGROUND`, `NOT_VALID`; returns its digest."""
    store.write(mask_name(chip_id, query_id), _geotiff(mask[np.newaxis], place, nodata=NOT_VALID))
    return content_digest(mask)


def content_digest(pixels: NDArray[np.uint8]) -> str:
    """Of the pixels, not of the file: libraries compress differently from version to version."""
    return hashlib.sha256(f"{pixels.shape}".encode() + np.ascontiguousarray(pixels).tobytes()).hexdigest()[:32]


def fingerprint(rows: Iterable[Mapping[str, Any]], digests: Mapping[str, str]) -> str:
    """16 hex digits over all samples and the contents of all chips and masks, `digests` by name."""
    ordered = sorted(rows, key=lambda row: str(row["sample_id"]))
    facts = json.dumps([ordered, sorted(digests.items())], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(facts.encode()).hexdigest()[:16]


def write_samples(store: Store, rows: Iterable[Mapping[str, Any]]) -> None:
    """Put the table, sorted by sample_id."""
    table = pa.Table.from_pylist(sorted(rows, key=lambda row: str(row["sample_id"])), schema=SCHEMA)
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    store.write(SAMPLES, sink.getvalue())


def claim(store: Store, inputs: str, *, fresh: bool) -> None:
    """Make the directory ours. `inputs`: hash of all that determines the data set.

    Raises `BadInput` where it holds another data set, or something else; see `claim_problem`.
    """
    problem = None if fresh else claim_problem(store, inputs)
    if problem is not None:
        raise BadInput(problem)
    if fresh or read_dataset(store) is None:
        # what another, or an interrupted, curation left behind would be files that no sample names
        for name in (DATASET, SAMPLES, HARD, CHIPS, MASKS):
            store.remove(name)
    store.write(MARKER, json.dumps({"inputs": inputs}).encode())


def claim_problem(store: Store, inputs: str) -> str | None:
    """Why the directory cannot be written to, on one line; None where it is empty or holds this very data set."""
    found = read_dataset(store) or _read_json(store, MARKER)
    if found is not None:
        same = found.get("inputs") == inputs
        return (
            None if same else f"{store.url}: holds another data set; choose another --out, or replace it with --fresh"
        )
    if store.fs.exists(store.root) and store.names(""):
        return f"{store.url}: is not empty, and holds no data set of curated tiles; choose another --out"
    return None


def read_dataset(store: Store) -> dict[str, Any] | None:
    """dataset.json; None where there is none. Raises `BadInput` where it is another format."""
    found = _read_json(store, DATASET)
    if found is not None and found.get("format") != FORMAT:
        raise BadInput(f"{store.href(DATASET)}: is no data set of curated tiles ({FORMAT}); choose another --out")
    return found


def _read_json(store: Store, name: str) -> dict[str, Any] | None:
    try:
        found = json.loads(store.read(name))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise BadInput(f"{store.href(name)}: is no JSON ({error}); choose another --out") from error
    return dict(found) if isinstance(found, dict) else {}


def _geotiff(bands: NDArray[np.uint8], place: Georeference, **options: Any) -> bytes:  # noqa: ANN401 -- GDAL's
    count, height, width = bands.shape
    profile = {
        "driver": "GTiff", "count": count, "height": height, "width": width, "dtype": "uint8",
        "crs": CRS.from_user_input(place.crs), "transform": place.transform,
        "compress": "deflate", "interleave": "pixel", **options,
    }  # fmt: skip
    with MemoryFile() as memory:
        with memory.open(**profile) as dataset:
            dataset.write(bands)
        return bytes(memory.read())
