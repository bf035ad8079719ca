"""What a registry keeps of a version, and whether files are still what was published."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import BaseModel, ConfigDict, JsonValue, field_validator

from t2s_core.errors import MachineFault


class Record(BaseModel):
    """A JSON object of the registry."""

    model_config = ConfigDict(frozen=True)


class FileRecord(Record):
    """One file of a published model."""

    path: str
    """Relative to the version's `model/`, with slashes."""
    size: int
    """Bytes."""
    sha256: str
    """64 hex digits of its content."""

    @field_validator("path")
    @classmethod
    def _stays_inside(cls, path: str) -> str:
        # A registry may be somebody else's: what is fetched from it must not land outside the cache.
        if PurePosixPath(path).is_absolute() or "\\" in path or not set(path.split("/")).isdisjoint({"", ".", ".."}):
            raise ValueError(f"{path!r} does not stay in the model's directory")
        return path


class VersionRecord(Record):
    """version.json: what a version is and where it comes from."""

    version: str
    created: str
    """ISO 8601, UTC."""
    parent: str
    """The version or the base model that training started from."""
    data_fingerprint: str
    """Stands for the data it was trained on."""
    training: dict[str, JsonValue]
    """How it was trained: method, steps, settings."""
    files: tuple[FileRecord, ...]
    """In the order of their paths."""

    @property
    def digest(self) -> str:
        """12 hex digits that stand for the content of all files, as published."""
        return digest_of((f.path, f.sha256) for f in self.files)[:12]


class Promotion(Record):
    """champion.json, and each object under promotions/."""

    version: str
    promoted_at: str
    """ISO 8601, UTC."""
    reason: str
    previous: str | None
    """The champion until then; None for the first."""


@dataclass(frozen=True, slots=True)
class Version:
    """All that a registry says of one version."""

    record: VersionRecord
    card: str
    """Markdown."""
    scores: dict[str, Any]


def verify(directory: Path, record: VersionRecord, way_out: str, *, called: str | None = None) -> None:
    """Raises `MachineFault` at the first file that is missing, foreign or changed. `called`: what to call the place."""
    place = called or str(directory)
    there, published = set(files_of(directory)), {file.path for file in record.files}
    for names, fault in ((published - there, "is missing"), (there - published, "was not published")):
        if names:
            raise MachineFault(f"{place}/{min(names)} {fault}; {way_out}")
    for file in record.files:
        path = directory / file.path
        if path.stat().st_size != file.size or sha256_of(path) != file.sha256:
            raise MachineFault(f"{place}/{file.path} is damaged: its content is not what was published; {way_out}")


def files_of(directory: Path) -> list[str]:
    """Sorted names of all files, relative and with slashes; no hidden ones."""
    found = (path.relative_to(directory) for path in directory.rglob("*") if path.is_file())
    return sorted(path.as_posix() for path in found if not any(part.startswith(".") for part in path.parts))


def sha256_of(path: Path) -> str:
    """64 hex digits. Each process hashes a file again only if its size or time of change says that it may differ."""
    stat = path.stat()
    return _sha256(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=4096)
def _sha256(path: Path, size: int, mtime_ns: int) -> str:  # noqa: ARG001 -- they tell a changed file from the old one
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of(files: Iterable[tuple[str, str]]) -> str:
    """64 hex digits that stand for files, given as (path, sha256)."""
    return hashlib.sha256("\n".join(f"{name}\0{sha256}" for name, sha256 in sorted(files)).encode()).hexdigest()
