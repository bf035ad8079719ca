"""A store in memory, `faulty://`, that takes writes as badly as a test asks for."""

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import fsspec
from fsspec.implementations.memory import MemoryFileSystem

Fault = Callable[[str, int], None]
"""Called with the path and the bytes of each write before anything changes; raises what the store shall raise."""


class FaultyFileSystem(MemoryFileSystem):
    """What is written whole, with `pipe_file`, `put_file` or `open`, may fail; nothing is ever half written."""

    protocol: ClassVar[Any] = "faulty"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    fault: ClassVar[Fault | None] = None

    @classmethod
    def _strip_protocol(cls, path: str) -> Any:
        return super()._strip_protocol(path.replace("faulty://", "memory://", 1))

    def unstrip_protocol(self, name: str) -> str:
        return f"faulty://{name.lstrip('/')}"

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: Any) -> Any:
        self._meet(path, len(value))
        return super().pipe_file(path, value, mode=mode, **kwargs)

    def put_file(self, lpath: str, rpath: str, *args: Any, **kwargs: Any) -> Any:
        self._meet(rpath, 0)
        return super().put_file(lpath, rpath, *args, **kwargs)

    def _open(self, path: str, mode: str = "rb", *args: Any, **kwargs: Any) -> Any:
        if mode != "rb":
            self._meet(path, 0)
        return super()._open(path, mode, *args, **kwargs)

    def _meet(self, path: str, n_bytes: int) -> None:
        if FaultyFileSystem.fault is not None:
            FaultyFileSystem.fault(self._strip_protocol(path), n_bytes)


fsspec.register_implementation("faulty", FaultyFileSystem, clobber=True)


@contextmanager
def faulty(fault: Fault) -> Iterator[None]:
    """Writes meet the fault within the block."""
    FaultyFileSystem.fault = staticmethod(fault)
    try:
        yield
    finally:
        FaultyFileSystem.fault = None


def each_fails_once() -> tuple[Fault, set[str]]:
    """The first write of every object fails; and which did."""
    failed: set[str] = set()

    def fault(path: str, n_bytes: int) -> None:
        if path not in failed:
            failed.add(path)
            raise OSError(errno.EIO, "the first write fails", path)

    return fault, failed


def full_after(n_writes: int) -> Fault:
    """There is room for so many writes and no more."""
    left = n_writes

    def fault(path: str, n_bytes: int) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(errno.ENOSPC, "No space left on device", path)

    return fault
