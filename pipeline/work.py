"""How work reaches workers: one small port with an eager implementation and a Dask one.

Functions go by reference, arguments and results are small (windows, URLs, receipts): pixels never travel through here.
"""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Protocol, TypeVar

from distributed import CancelledError, Client, Future
from distributed.comm.core import CommClosedError
from distributed.scheduler import KilledWorker

from t2s_core.errors import MachineFault

T = TypeVar("T")
R = TypeVar("R")


class Workers(Protocol):
    """Applies a function to many items. Several threads may use one at the same time."""

    @property
    def threads(self) -> int:
        """How many items are worked on at the same time, as far as is known by now; at least 1."""
        ...

    def map(self, function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """Results in order of completion. An exception in `function` is raised here; then nothing more is started."""
        ...


class InProcess:
    """Runs everything here and now, in order: for tests, notebooks and tiny jobs."""

    threads = 1

    def map(self, function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """See `Workers.map`."""
        return map(function, items)


class DaskWorkers:
    """Runs on a Dask cluster with a bounded number of items in flight, so that a plan of any size stays a generator."""

    def __init__(self, client: Client, *, in_flight_per_worker: int = 3, patience_s: float = 30.0) -> None:
        """`client` is connected already; `in_flight_per_worker` keeps workers busy without flooding the scheduler.

        `patience_s`: how long to wait where no worker is connected.
        """
        self._patience_s = patience_s
        self._client = client
        self._per_worker = in_flight_per_worker

    @property
    def threads(self) -> int:
        """See `Workers.threads`."""
        n_threads: int = sum(self._client.nthreads().values())
        return max(1, n_threads)

    def map(self, function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """See `Workers.map`. Raises `MachineFault` where no worker is connected, or scheduler or workers are lost."""
        pending = iter(items)
        done = SimpleQueue[Future[Any]]()
        running: set[Future[Any]] = set()
        try:
            while True:
                while len(running) < self._limit():
                    try:
                        item = next(pending)
                    except StopIteration:
                        break
                    # pure=False: equal arguments at another time are new work, for what is on disk has changed
                    future = self._client.submit(function, item, pure=False)
                    running.add(future)
                    future.add_done_callback(done.put)
                if not running:
                    return
                future = self._next(done)
                running.remove(future)
                yield future.result()
        except KilledWorker as error:
            raise MachineFault(
                f"{error.allowed_failures + 1} Dask workers died one after the other of one task: too little memory "
                "for the models, or a fault of the machine; see the system's log, then run the same command again"
            ) from error
        except (CancelledError, CommClosedError) as error:
            raise MachineFault("the Dask scheduler is gone; start it anew, then run the same command again") from error
        finally:
            for future in running:  # whoever ends early, by an error or for want of interest, leaves nothing at work
                future.release()

    def _next(self, done: "SimpleQueue[Future[Any]]") -> Future[Any]:
        """The next one that is done, however long it takes; but not where nobody is there to do it."""
        lonely_s = 0.0
        while True:
            try:
                return done.get(timeout=self._patience_s / 10)
            except Empty:
                lonely_s = 0.0 if self._client.nthreads() else lonely_s + self._patience_s / 10
            if lonely_s >= self._patience_s:
                raise self._no_worker()

    def _no_worker(self) -> MachineFault:
        return MachineFault(
            f"no Dask worker is connected, nor came within {self._patience_s:g} s; start workers, "
            "or run without --cluster"
        )

    def _limit(self) -> int:
        n_threads: int = sum(self._client.nthreads().values())
        if n_threads == 0:  # they may be late, or on their way back from a fall
            try:
                self._client.wait_for_workers(1, timeout=self._patience_s)
            except TimeoutError as error:
                raise self._no_worker() from error
            n_threads = self.threads
        return n_threads * self._per_worker


class Timed:
    """Workers whose busy time is known, and which can be told to give up."""

    def __init__(self, workers: Workers, stop: threading.Event | None = None) -> None:
        """`stop`: once it is set, `map` raises `Stopped` with the next result."""
        self._workers, self._stop = workers, stop or threading.Event()
        self.busy_s = 0.0
        """Seconds that all workers together were at work."""
        self.names: set[str] = set()
        """Of the workers that were: host and process."""

    @property
    def threads(self) -> int:
        """See `Workers.threads`."""
        return self._workers.threads

    def map(self, function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """See `Workers.map`. Raises `Stopped`."""
        for result, seconds, name in self._workers.map(partial(_timed, function), items):
            if self._stop.is_set():
                raise Stopped
            self.busy_s += seconds
            self.names.add(name)
            yield result


class Stopped(Exception):
    """Another thread of the run ended it."""


def _timed(function: Callable[[T], R], item: T) -> tuple[R, float, str]:
    start_s = time.perf_counter()
    result = function(item)
    return result, time.perf_counter() - start_s, f"{socket.gethostname()}:{os.getpid()}"
