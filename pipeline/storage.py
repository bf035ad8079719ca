"""Files at any fsspec URL. Every write is atomic: a reader sees the old object, the new one, or none."""

import os
import shutil
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from pipeline.credentials import public
from t2s_core.errors import BadInput

_S3_CONFIG: dict[str, Any] = {
    "connect_timeout": 10,
    "read_timeout": 60,  # of silence, not of the whole
    "retries": {"mode": "standard", "max_attempts": 6},  # after 5xx, throttling, resets; up to 20 s between them
}
"""botocore's own defaults give up after 4 tries of its legacy mode, which knows fewer faults."""
_CLIENT_ERRORS = (
    ("botocore.exceptions", "BotoCoreError"),
    ("botocore.exceptions", "ClientError"),
    ("aiohttp", "ClientError"),
    ("gcsfs.retry", "HttpError"),
    ("google.auth.exceptions", "GoogleAuthError"),
    ("azure.core.exceptions", "AzureError"),
    ("paramiko.ssh_exception", "SSHException"),
)
"""Module and name of what clients raise that is no OSError."""


def storage_options(url: str) -> dict[str, Any]:
    """What a filesystem is opened with: patience, where its client has a setting for it.

    What the user says in fsspec's own configuration (`FSSPEC_S3_CONFIG_KWARGS`, `~/.config/fsspec`) goes before it.
    """
    if not url.startswith(("s3://", "s3a://")):
        return {}
    own = fsspec.config.conf.get("s3", {}).get("config_kwargs", {})
    return {"config_kwargs": {**_S3_CONFIG, **own}}


def store_errors() -> tuple[type[Exception], ...]:
    """What a store raises where it or the way to it is at fault, and not we are.

    Clients raise kinds of their own beside OSError. A client that nobody has imported has raised nothing.
    """
    of_clients = [getattr(sys.modules.get(module), name, None) for module, name in _CLIENT_ERRORS]
    return (OSError, *(kind for kind in of_clients if kind is not None))


@dataclass(frozen=True)
class Store:
    """A directory, local or remote. Cheap to make and to pickle: it holds a URL, and opens it where it is used."""

    url: str
    """Any fsspec URL or a path; made absolute by `Store.at`."""

    @classmethod
    def at(cls, url: str) -> "Store":
        """A store at a URL or a path relative to the working directory.

        Raises `BadInput` where the URL holds credentials: all that is written says where it is.
        """
        if public(url) != url:
            raise BadInput(
                f"{public(url)}: its address holds a password or a signature, and is written into results; leave it "
                "out, and give credentials in the environment, as the store's client reads them"
            )
        return cls(url.rstrip("/") if "://" in url else str(Path(url).absolute()))

    @cached_property
    def fs(self) -> Any:  # noqa: ANN401 -- fsspec ships no types
        """The fsspec filesystem."""
        return fsspec.core.url_to_fs(self.url, **storage_options(self.url))[0]

    @cached_property
    def root(self) -> str:
        """The URL as the filesystem spells it."""
        return str(fsspec.core.url_to_fs(self.url, **storage_options(self.url))[1])

    @property
    def is_local(self) -> bool:
        """True on a local disk."""
        return isinstance(self.fs, LocalFileSystem)

    def __reduce__(self) -> tuple[type["Store"], tuple[str]]:
        # Filesystems hold sockets and locks: another process opens its own.
        return type(self), (self.url,)

    def child(self, name: str) -> "Store":
        """The store of a folder below this one."""
        return Store(f"{self.url}/{name}")

    def path(self, name: str) -> str:
        """A name below the root, as the filesystem spells it."""
        return f"{self.root}/{name}"

    def href(self, name: str) -> str:
        """A name below the root as an absolute URL or path."""
        return f"{self.url}/{name}"

    def write(self, name: str, data: bytes) -> None:
        """Put a whole object. A crash leaves the old one or the new one, never a part."""
        if not self.is_local:
            self.fs.pipe_file(self.path(name), data)  # one PUT is atomic on object stores
            return
        with _beside(Path(self.path(name))) as temporary:
            _write_synced(temporary, data)
            temporary.replace(self.path(name))

    def write_all(self, objects: Mapping[str, bytes]) -> None:
        """Put many objects, each whole or not at all, in a bucket at the same time. A power cut may undo it."""
        if not self.is_local:
            self.fs.pipe({self.path(name): data for name, data in objects.items()})
            return
        for name, data in objects.items():
            with _beside(Path(self.path(name))) as temporary:
                temporary.write_bytes(data)
                temporary.replace(self.path(name))

    def create(self, name: str, data: bytes) -> bool:
        """Put an object where there is none; False, and nothing changed, where there is one.

        Of several who create the same name at the same time one gets True, on a disk with hard links and on object
        stores with conditional writes, whose fsspec filesystem takes `mode="create"` (S3, Google Cloud Storage).
        """
        try:
            if not self.is_local:
                self.fs.pipe_file(self.path(name), data, mode="create")
                return True
            with _beside(Path(self.path(name))) as temporary:
                _write_synced(temporary, data)
                os.link(temporary, self.path(name))  # unlike a rename, it fails where the name is taken
        except FileExistsError:
            return False
        except OSError:
            # Some servers word a lost race as a conflict or an invalid request.
            self.fs.invalidate_cache()
            if self.exists(name):
                return False
            raise
        return True

    def upload(self, source: Path, name: str) -> None:
        """Put a local file of any size, as atomically as `write`."""
        if not self.is_local:
            self.fs.put_file(str(source), self.path(name))
            return
        with _beside(Path(self.path(name))) as temporary:
            shutil.copyfile(source, temporary)
            _sync(temporary)
            temporary.replace(self.path(name))

    def download(self, name: str, target: Path) -> None:
        """A whole object to a local file; the folder is made. Not atomic. Raises `FileNotFoundError`."""
        target.parent.mkdir(parents=True, exist_ok=True)
        self.fs.get_file(self.path(name), str(target))

    def read(self, name: str) -> bytes:
        """A whole object. Raises `FileNotFoundError`."""
        return bytes(self.fs.cat_file(self.path(name)))

    def exists(self, name: str) -> bool:
        """Whether the object is there."""
        return bool(self.fs.exists(self.path(name)))

    def names(self, folder: str, suffix: str = "") -> list[str]:
        """Sorted names, relative to the root, of all objects below `folder` ending with `suffix`; no hidden ones."""
        # fsspec remembers listings, and would deny what other processes have put there since.
        self.fs.invalidate_cache()
        start = len(self.root) + 1
        found = (str(path)[start:] for path in self.fs.find(self.path(folder)))
        return sorted(n for n in found if n.endswith(suffix) and not n.rsplit("/", 1)[-1].startswith("."))

    def put_aside(self, name: str, folder: str) -> None:
        """Move an object into a folder below the root, where its name is kept."""
        self.write(f"{folder}/{name}", self.read(name))
        self.remove(name)

    def remove(self, name: str) -> None:
        """Delete one object or a folder with all that is in it; nothing happens where there is none."""
        self.fs.invalidate_cache()  # see `names`
        if self.fs.exists(self.path(name)):
            self.fs.rm(self.path(name), recursive=True)


@contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """A hidden name in the target's folder, gone at the end whatever happens."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.parent / f".{target.name}.{uuid.uuid4().hex}.tmp"
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _write_synced(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    _sync(path)


def _sync(path: Path) -> None:
    """Bytes first, name second: a power cut between them must not leave a whole name on half an object."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
