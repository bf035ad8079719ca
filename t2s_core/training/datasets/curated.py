"""Curated tiles: the directory that `t2s curate` writes, `dataset.json`, `samples.parquet` and chips as GeoTIFF."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from t2s_core.errors import BadInput
from t2s_core.training.datasets.file_examples import Answer, Entry, Fault, FileExamples, MaskSource
from t2s_core.training.datasets.files import File, file_below, read_index, require
from t2s_core.training.datasets.images import read_plane
from t2s_core.training.examples import BadExample

FORMAT = "t2s-curated/1"
BACKGROUND, TARGET, NOT_VALID = 0, 1, 255
"""Values of a mask."""
_TEXTS = ("sample_id", "chip_id", "split", "query", "image")
_COLUMNS = (*_TEXTS, "category", "absent", "mask")


@dataclass(frozen=True, slots=True)
class ValuedMask:
    """A single-band image of `BACKGROUND`, `TARGET` and `NOT_VALID`."""

    file: File

    @property
    def stamp(self) -> str:
        """The file's."""
        return self.file.stamp

    def read(self, height_px: int, width_px: int) -> Answer:
        """See `MaskSource`."""
        values = read_plane(self.file.path)
        strange = sorted({*np.unique(values).tolist()} - {BACKGROUND, TARGET, NOT_VALID})
        if strange:
            raise BadExample(f"{self.file.name} has the value {strange[0]}; a mask is of 0, 1 and 255")
        valid = values != NOT_VALID
        return values == TARGET, None if valid.all() else valid


@dataclass(frozen=True, slots=True)
class NoTarget:
    """Nothing to be seen, and all of it counts."""

    @property
    def stamp(self) -> str:
        """Always the same."""
        return "no target"

    def read(self, height_px: int, width_px: int) -> Answer:
        """See `MaskSource`."""
        return np.zeros((height_px, width_px), np.bool_), None


def open_curated(root: Path, split: str, limit: int | None = None) -> FileExamples:
    """Open a split. Raises `BadInput` where `root` is no dataset of this format or the split is empty."""
    require("curated", root, "dataset.json", "samples.parquet")
    declared = _declared_fingerprint(root / "dataset.json")
    entries = list(_entries(root, split))
    return FileExamples("curated", split, entries, index=[declared.encode()], limit=limit)


def _declared_fingerprint(path: Path) -> str:
    try:
        found = json.loads(read_index("curated", path))
    except (ValueError, RecursionError) as problem:
        raise BadInput(f"curated: {path} is no JSON ({problem}); run t2s curate again") from problem
    given = found.get("format") if isinstance(found, dict) else None
    if given != FORMAT:
        raise BadInput(f"curated: {path} has format {given!r}; this version reads {FORMAT!r}: run t2s curate again")
    fingerprint = found.get("fingerprint")
    if not isinstance(fingerprint, str) or not re.fullmatch(r"[0-9a-f]{16}", fingerprint):
        raise BadInput(f"curated: {path} has fingerprint {fingerprint!r}, not 16 hex digits; run t2s curate again")
    return fingerprint


def _entries(root: Path, split: str) -> Iterator[Entry | Fault]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = root / "samples.parquet"
    try:
        # Not `read_table`, which takes directories named key=value above the file for columns.
        file = pq.ParquetFile(path)
        missing = sorted(set(_COLUMNS) - set(file.schema_arrow.names))
        if missing:
            raise BadInput(f"curated: {path} lacks the columns {', '.join(missing)}; run t2s curate again")
        rows = file.read(columns=list(_COLUMNS)).to_pylist()
    except (pa.ArrowException, OSError, ValueError) as problem:
        first = str(problem).partition("\n")[0]
        raise BadInput(f"curated: {path} cannot be read as Parquet ({first}); run t2s curate again") from problem
    for number, row in enumerate(rows):
        # A row that does not say its split is a fault of every split.
        if row["split"] == split or not isinstance(row["split"], str):
            yield _entry(root, number, row)


def _entry(root: Path, number: int, row: dict[str, object]) -> Entry | Fault:
    sample_id, chip_id, _, query, image = (row[key] for key in _TEXTS)
    wrong = [key for key in _TEXTS if not isinstance(row[key], str)]
    absent, mask = row["absent"], row["mask"]
    if wrong or not isinstance(absent, bool) or not isinstance(mask, str | None):
        return Fault(f"row {number}", f"has no usable {', '.join(wrong) or 'absent or mask'}")
    if mask is None and not absent:
        return Fault(str(sample_id), "its target is not absent, but it has no mask")
    try:
        chip = file_below(root, str(image))
        source: MaskSource = NoTarget() if mask is None else ValuedMask(file_below(root, mask))
    except BadExample as problem:
        return Fault(str(sample_id), str(problem))
    return Entry(str(sample_id), str(chip_id), chip, str(query), source, str(row["category"] or ""), present=not absent)
