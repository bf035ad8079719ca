"""SHA-256 of what a run published, as `sha256sum --check` reads it from within the run's directory.

`checksums/scenes/<scene_id>.sha256` lists a scene's mosaics, features and COGs; `checksums/run.sha256` lists these
lists, run.json and what belongs to no scene. The report is not listed, for it is drawn anew whenever somebody asks;
tile results are not, for they are what a run works from and not what it publishes.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pipeline.storage import Store
from pipeline.work import Workers

FOLDER = "checksums"
RUN = f"{FOLDER}/run.sha256"

_HEADER = "# t2s "  # a comment to sha256sum
_OBJECTS_AT_ONCE = 32
_STREAMED = ".tif"  # a COG may be larger than memory
_BLOCK_BYTES = 8 * 2**20


def scene_list(scene_id: str) -> str:
    """The object that lists a scene's checksums."""
    return f"{FOLDER}/scenes/{scene_id}.sha256"


def sums_of(store: Store, names: Sequence[str], workers: Workers) -> dict[str, str]:
    """SHA-256 in hex by name. Bytes stay on the workers, a few objects at a time."""
    starts = range(0, len(names), _OBJECTS_AT_ONCE)
    tasks = (_Task(store, tuple(names[start : start + _OBJECTS_AT_ONCE])) for start in starts)
    sums: dict[str, str] = {}
    for found in workers.map(_sums, tasks):
        sums.update(found)
    return sums


def write_sums(store: Store, name: str, sums: Mapping[str, str], *, version: str = "") -> None:
    """Put a list. `version`: of what it lists, see `version_of_sums`."""
    lines = [f"{_HEADER}{version}", *(f"{sums[listed]}  {listed}" for listed in sorted(sums))]
    store.write(name, ("\n".join(lines) + "\n").encode())


def read_sums(store: Store, name: str) -> dict[str, str]:
    """SHA-256 by name. Raises `FileNotFoundError`, and `ValueError` where the object is no such list."""
    lines = store.read(name).decode().splitlines()
    pairs = (line.split("  ", 1) for line in lines if not line.startswith("#"))
    return {listed: digest for digest, listed in pairs}


def version_of_sums(store: Store, name: str) -> str | None:
    """The version that a list was written with; None where there is no list."""
    try:
        first = store.read(name).split(b"\n", 1)[0].decode()
    except FileNotFoundError:
        return None
    return first.removeprefix(_HEADER)


@dataclass(frozen=True, slots=True)
class _Task:
    store: Store
    names: tuple[str, ...]


def _sums(task: _Task) -> dict[str, str]:
    store = task.store
    whole = {store.path(name): name for name in task.names if not name.endswith(_STREAMED)}
    contents = store.fs.cat(list(whole)) if whole else {}
    sums = {whole[path]: hashlib.sha256(data).hexdigest() for path, data in contents.items()}
    return sums | {name: _sum_of_stream(store, name) for name in task.names if name.endswith(_STREAMED)}


def _sum_of_stream(store: Store, name: str) -> str:
    digest = hashlib.sha256()
    for block in _stream(store, name):
        digest.update(block)
    return digest.hexdigest()


def _stream(store: Store, name: str) -> Iterator[bytes]:
    with store.fs.open(store.path(name), "rb") as file:
        while block := file.read(_BLOCK_BYTES):
            yield block
