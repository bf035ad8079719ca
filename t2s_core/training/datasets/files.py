"""Which files a dataset has: found once when it is opened, by name, so that nothing written inside a dataset is a path
that is followed blindly.
"""

import errno
import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from t2s_core.errors import BadInput, MachineFault
from t2s_core.training.examples import BadExample

_BROKEN_MACHINE = frozenset({errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE, errno.ETIMEDOUT})


@dataclass(frozen=True, slots=True)
class File:
    """A file as it was when the dataset was opened."""

    folder: Path
    name: str
    size_bytes: int
    modified_ns: int

    @property
    def path(self) -> Path:
        """Where it is. Made when it is wanted: a hundred thousand `Path`s take seconds."""
        return self.folder / self.name

    @property
    def stem(self) -> str:
        """Its name before the last dot."""
        return self.name.rpartition(".")[0] or self.name

    @property
    def stamp(self) -> str:
        """Differs when the file was replaced. No absolute path: a dataset may be mounted elsewhere."""
        return f"{self.folder.name}/{self.name} {self.size_bytes} {self.modified_ns}"


class Listing:
    """The files of one directory, hidden ones left out."""

    def __init__(self, folder: Path, suffixes: Iterable[str]) -> None:
        """List `folder`; `suffixes` in lower case with their dots, others are not seen."""
        self.folder = folder
        self.files: dict[str, File] = {}
        self.by_stem: dict[str, list[str]] = {}
        wanted = frozenset(suffixes)
        with os.scandir(folder) as found:
            for entry in found:
                stem, dot, suffix = entry.name.rpartition(".")
                # `is_file` is False of a link that leads nowhere, which is a missing file.
                if entry.name.startswith(".") or f"{dot}{suffix}".lower() not in wanted or not entry.is_file():
                    continue
                state = entry.stat()
                self.files[entry.name] = File(folder, entry.name, state.st_size, state.st_mtime_ns)
                self.by_stem.setdefault(stem, []).append(entry.name)

    def find(self, name: str) -> File:
        """The file of this name, or the only one of this name before its suffix. Raises `BadExample`."""
        if name in self.files:
            return self.files[name]
        found = self.by_stem.get(name, [])
        if len(found) == 1:
            return self.files[found[0]]
        if found:
            raise BadExample(f"{self.folder.name}/{name} may be any of {', '.join(sorted(found))}; keep one")
        raise BadExample(f"{self.folder.name}/{name} is missing")

    def find_like(self, other: File) -> File:
        """The file of the same name as another directory's, whatever its suffix. Raises `BadExample`."""
        return self.files[other.name] if other.name in self.files else self.find(other.stem)


def file_below(root: Path, relative: str) -> File:
    """The file at a path that a dataset names. Raises `BadExample` where it leads out of `root` or nowhere."""
    path = PurePosixPath(relative)
    if not relative or path.is_absolute() or ".." in path.parts or "\\" in relative or "\0" in relative:
        raise BadExample(f"path {relative!r} is not one below the dataset's directory")
    full = root / path
    try:
        state = full.stat()
    except OSError as problem:
        check_machine(full, problem)
        raise BadExample(f"{relative}: {problem.strerror}") from problem
    if not full.is_file():
        raise BadExample(f"{relative}: is no file")
    return File(full.parent, full.name, state.st_size, state.st_mtime_ns)


def require(dataset: str, root: Path, *relative: str) -> None:
    """Check a dataset's layout; those that end in `/` are directories. Raises `BadInput` with all that is missing."""
    if not root.is_dir():
        raise BadInput(f"{dataset}: {root} is no directory; --root must be one that holds {', '.join(relative)}")
    missing = [one for one in relative if not ((root / one).is_dir() if one[-1] == "/" else (root / one).is_file())]
    if missing:
        raise BadInput(
            *(f"{dataset}: {root / one} is missing; --root must be a directory that holds {one}" for one in missing)
        )


def check_machine(path: Path, problem: Exception) -> None:
    """Raise `MachineFault` where it was the disk or the mount that failed, not the file that is bad."""
    if isinstance(problem, OSError) and problem.errno in _BROKEN_MACHINE:
        raise MachineFault(f"{path}: {problem.strerror}") from problem


def read_index(dataset: str, path: Path) -> bytes:
    """All of a file that says which examples there are. Raises `BadInput` where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as problem:
        check_machine(path, problem)
        raise BadInput(f"{dataset}: {path} cannot be read: {problem.strerror}; check its permissions") from problem


def digest(parts: Iterable[str | bytes]) -> str:
    """16 hex digits of a hash of the parts, borders included."""
    total = hashlib.sha256()
    for part in parts:
        raw = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        total.update(len(raw).to_bytes(8, "little"))
        total.update(raw)
    return total.hexdigest()[:16]
