"""What can be known of a model from its files, in milliseconds and without loading it."""

import hashlib
import json
import os
import re
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from t2s_core.errors import BadInput

_WHOLE_FILE_BYTES = 64 * 2**20
_SLICES = 256
_SLICE_BYTES = 16 * 2**10
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_SUFFIXES = {".safetensors", ".json", ".jinja", ".txt", ".model"}


def model_directory(where: str, published: Sequence[str] = ()) -> tuple[Path, str]:
    """Find a model by path or by hub id; (directory, a name for it).

    A folder of the Hugging Face cache (`models--ORG--NAME`, or a snapshot in it) is the model it holds: by whichever
    of the three spellings, the name is NAME.

    A hub id is looked up in the local Hugging Face cache and never downloaded: gigabytes should arrive when the user
    says so, not on every worker of a cluster at once, and a version must be known before a run is planned.

    Raises:
        BadInput: There is neither such a directory nor such a model in the cache. Of the `published` hub ids, the one
            that was perhaps meant is named.

    """
    path = Path(where).expanduser()
    if path.is_dir():
        snapshot = _snapshot_in(path) or path
        folder = snapshot.resolve().parent.parent.name
        return snapshot, folder.rpartition("--")[2] if folder.startswith("models--") else snapshot.resolve().name
    if path.exists():
        raise BadInput(f"{where}: is a file; name the model's directory")
    if not _HUB_ID.fullmatch(where):
        raise BadInput(f"{where}: no such directory")
    cached = _cached_snapshot(where)
    if cached is None:
        close = [] if where in published else get_close_matches(where, published, n=1)
        meant = f", or did you mean {close[0]}?" if close else ""
        raise BadInput(
            f"{where}: neither a directory nor a model in the local Hugging Face cache; "
            f"run `hf download {where}` first{meant}"
        )
    return cached, where.rpartition("/")[2]


def _cached_snapshot(hub_id: str) -> Path | None:
    from huggingface_hub.constants import HF_HUB_CACHE

    return _snapshot_in(Path(HF_HUB_CACHE) / f"models--{hub_id.replace('/', '--')}")


def _snapshot_in(folder: Path) -> Path | None:
    """What the branch `main` of a model in the Hugging Face cache points at."""
    try:
        commit = (folder / "refs" / "main").read_text(encoding="utf-8").strip()
    except OSError:
        return None
    snapshot = folder / "snapshots" / commit
    return snapshot if snapshot.is_dir() else None


def read_config(directory: Path, architectures: tuple[str, ...], *, weights: bool = True) -> dict[str, object]:
    """The model's `config.json`.

    Args:
        directory: As `save_pretrained` writes it.
        architectures: Supported ones.
        weights: Whether they must lie beside it.

    Raises:
        BadInput: It is missing, is no JSON object, names another architecture, or the safetensors beside it
            are none or not all.

    """
    path = directory / "config.json"
    try:
        config = json.loads(path.read_bytes())
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}; a model's directory holds what save_pretrained writes") from error
    except ValueError as error:
        raise BadInput(f"{path}: not JSON ({error})") from error
    architecture = config.get("model_type") if isinstance(config, dict) else None
    if architecture not in architectures:
        raise BadInput(f"{path}: model_type is {architecture!r}; supported here: {', '.join(architectures)}")
    if weights and not any(directory.glob("*.safetensors")):
        raise BadInput(f"{directory}: holds no *.safetensors; pickled weights are not loaded")
    if weights and (lacking := _missing_shards(directory)):
        raise BadInput(f"{directory}: lacks {', '.join(lacking[:3])}, named by its index; download the model again")
    assert isinstance(config, dict)
    return config


def _missing_shards(directory: Path) -> list[str]:
    """Weight files that the index names and an interrupted download left out."""
    path = directory / "model.safetensors.index.json"
    if not path.exists():
        return []
    try:
        named = set(json.loads(path.read_bytes())["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"{path}: no index of weights ({error})") from error
    return sorted(name for name in named if not (directory / name).is_file())


def integer(config: dict[str, object], *keys: str, default: int) -> int:
    """A number deep in a config, or what the architecture takes when it is left out."""
    found: object = config
    for key in keys:
        found = found.get(key) if isinstance(found, dict) else None
    return found if type(found) is int else default


def directory_fingerprint(directory: Path, *extra: str) -> str:
    """12 hex digits that change with the weights, configuration, tokenizer and `extra` (the profile in use).

    READMEs and model cards do not count.
    """
    digest = hashlib.sha256("\0".join(extra).encode())
    for path in sorted(directory.iterdir()):
        if path.suffix in _SUFFIXES and path.is_file():
            digest.update(path.name.encode() + b"\0" + _file_digest(path))
    return digest.hexdigest()[:12]


def file_fingerprint(path: Path) -> str:
    """12 hex digits of one file's content."""
    return _file_digest(path).hex()[:12]


def _file_digest(path: Path) -> bytes:
    """SHA-256 of a file up to 64 MiB; of a larger one: its size and 256 slices of 16 KiB, evenly spread, ends included.

    Training moves every tensor it touches, so slices through all of a checkpoint tell two of them apart, and a 15 GB
    model costs 4 MiB of reading instead of half a minute.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        if size <= _WHOLE_FILE_BYTES:
            return hashlib.file_digest(file, "sha256").digest()
        digest = hashlib.sha256(size.to_bytes(8, "little"))
        for i in range(_SLICES):
            file.seek((size - _SLICE_BYTES) * i // (_SLICES - 1), os.SEEK_SET)
            digest.update(file.read(_SLICE_BYTES))
        return digest.digest()
