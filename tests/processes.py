"""Real processes on loopback that start in a moment: forked from one that has imported everything.

The command, a Dask scheduler and Dask workers; each is killed as hard as the system can.
"""

import asyncio
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

PRELOADED = ("preloaded",)


@cache
def _forking() -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    with pytest.MonkeyPatch.context() as patch:
        # The server is a process of its own, which knows no sys.path of ours: pytest put tests/ into it.
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
        forkserver.ensure_running()
    return context


@dataclass
class Command:
    """A `t2s` command in a process of its own."""

    process: BaseProcess
    log: Path

    @property
    def said(self) -> str:
        """stdout and stderr together."""
        return self.log.read_text(encoding="utf-8")

    def wait(self, timeout_s: float = 120) -> int:
        """Its exit code; -9 where it was killed."""
        self.process.join(timeout_s)
        if self.process.exitcode is None:
            self.process.kill()
            raise TimeoutError(f"still at work after {timeout_s} s; it said:\n{self.said}")
        return self.process.exitcode


def start(arguments: Sequence[object], log: Path) -> Command:
    """Start `t2s` with arguments."""
    process = _forking().Process(target=_command, args=([str(a) for a in arguments], str(log), dict(os.environ)))
    log.touch()
    process.start()
    return Command(process, log)


@dataclass
class Cluster:
    """A scheduler and its workers."""

    address: str
    scheduler: BaseProcess
    workers: list[BaseProcess] = field(default_factory=list)
    configuration: dict[str, Any] = field(default_factory=dict)
    """Of Dask, for scheduler and workers."""

    def add_worker(self, versions: dict[str, str] | None = None, **options: Any) -> None:
        """One more, of one thread. `versions`: what it says of itself; `options`: of Dask's Worker."""
        worker = _forking().Process(target=_worker, args=(self.address, self.configuration, versions or {}, options))
        worker.start()
        self.workers.append(worker)


@contextmanager
def cluster(n_workers: int, protocol: str = "tcp", configuration: dict[str, Any] | None = None) -> Iterator[Cluster]:
    """A cluster on loopback, gone at the end."""
    ours, theirs = _forking().Pipe()
    scheduler = _forking().Process(target=_scheduler, args=(theirs, protocol, configuration or {}))
    scheduler.start()
    theirs.close()
    made = Cluster(ours.recv(), scheduler, configuration=configuration or {})
    try:
        for _ in range(n_workers):
            made.add_worker()
        yield made
    finally:
        for process in (*made.workers, scheduler):
            process.kill()
            process.join()


def forked(function: Callable[..., None], *arguments: object) -> BaseProcess:
    """A function of a module, at work in a process of its own."""
    process: BaseProcess = _forking().Process(target=function, args=arguments)
    process.start()
    return process


def kill(process: BaseProcess) -> None:
    """As `kill -9`, and wait until it is gone."""
    process.kill()
    process.join()


def _say_into(path: str) -> None:
    file = os.open(path, os.O_WRONLY | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)


def _command(arguments: list[str], log: str, environment: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    _say_into(log)
    from flows.cli.app import main

    sys.argv = ["t2s", *arguments]
    main()


def where(item: Any) -> tuple[Any, str, dict[str, str]]:
    """An item, the address of the worker that is at it, and the worker's environment."""
    from distributed import get_worker

    return item, get_worker().address, dict(os.environ)


def where_once_there(file: str) -> tuple[Any, str, dict[str, str]]:
    """The same, once a file exists."""
    while not Path(file).exists():
        time.sleep(0.05)
    return where(file)


def _scheduler(address_to: Connection, protocol: str, configuration: dict[str, Any]) -> None:
    import dask
    from distributed import Scheduler

    dask.config.set(configuration)

    _say_into(os.devnull)

    async def serve() -> None:
        async with Scheduler(protocol=protocol, host="127.0.0.1", port=0, dashboard=False) as scheduler:
            address_to.send(scheduler.address)
            await scheduler.finished()

    asyncio.run(serve())


def _worker(address: str, configuration: dict[str, Any], versions: dict[str, str], options: dict[str, Any]) -> None:
    import dask
    from distributed import Worker
    from distributed import versions as told

    dask.config.set(configuration)
    really = told._version_cached
    told._version_cached = lambda name: versions.get(name, really(name))

    _say_into(os.devnull)

    async def serve() -> None:
        async with Worker(address, **{"nthreads": 1, "dashboard": False, "memory_limit": 0, **options}) as worker:
            await worker.finished()

    asyncio.run(serve())
