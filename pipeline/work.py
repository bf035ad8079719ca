"""How work reaches workers: one small port with an eager implementation and a Dask one.

Functions go by reference, arguments and results are small (windows, URLs, receipts): pixels never travel through here.
"""

import math
import os
import pickle
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from queue import Empty
from typing import Any, Generic, Literal, Protocol, TypeVar, runtime_checkable
from uuid import uuid4

from distributed import CancelledError, Client, Future, as_completed
from distributed.comm.core import CommClosedError
from distributed.scheduler import KilledWorker

from pipeline.roster import Roster
from t2s_core.errors import MachineFault

T = TypeVar("T")
R = TypeVar("R")

_LOOK_EVERY_S = 1.0
"""How old may be what is known of who is connected."""
_LOST = "the Dask scheduler is gone; start it anew, then run the same command again"


class Workers(Protocol):
    """Applies a function to many items. Several threads may use one at the same time."""

    @property
    def threads(self) -> int:
        """How many items are worked on at the same time, as far as is known by now; at least 1."""
        ...

    @property
    def models_apart(self) -> bool:
        """Whether what asks models has workers of its own, as far as is known by now: other work costs it nothing."""
        ...

    def map(self, function: Callable[[T], R], items: Iterable[T], *, models: bool = False) -> Iterator[R]:
        """Results in order of completion. An exception in `function` is raised here; then nothing more is started.

        `models`: whether `function` asks models, which want a GPU where there are some.
        """
        ...


@runtime_checkable
class Stoppable(Protocol):
    """Workers whose results may be long in coming, so that who no longer wants them need not wait for the next one."""

    def stop(self) -> None:
        """Every `map` raises `Stopped` within about a second, from now on. What is at work is left to itself."""
        ...


class InProcess:
    """Runs everything here and now, in order: for tests, notebooks and tiny jobs."""

    threads = 1
    models_apart = False

    def map(self, function: Callable[[T], R], items: Iterable[T], *, models: bool = False) -> Iterator[R]:  # noqa: ARG002
        """See `Workers.map`."""
        return map(function, items)


class DaskWorkers:
    """Runs on a Dask cluster with a bounded number of items in flight, so that a plan of any size stays a generator.

    What asks models goes to workers with the Dask resource `GPU`, one item for each of their GPUs; all else goes to
    workers without, as long as one is connected.
    """

    def __init__(
        self,
        client: Client,
        *,
        in_flight_per_worker: int = 3,
        patience_s: float = 30.0,
        on_gpus: bool | None = None,
        want: Callable[[Literal["gpu", "cpu"], float], None] = lambda *_: None,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        """`client` is connected already; `in_flight_per_worker` keeps workers busy without flooding the scheduler.

        Args:
            client: Of `distributed`.
            in_flight_per_worker: At least 1.
            patience_s: How long it may be without a worker of the kind that is needed.
            on_gpus: Whether models shall run on GPUs; None: from the first worker on that has one.
            want: Told of how many items could be worked on at the same time, for a cluster that grows and shrinks.
            check: Called about every second while results are waited for, and for workers that are new before anything
                is given to them; what it raises ends `map`.

        """
        self._client, self._per_worker, self._patience_s = client, in_flight_per_worker, patience_s
        self._on_gpus, self._want, self._check = on_gpus, want, check
        self._roster, self._called_s = Roster({}, {}), -math.inf
        self._met: set[str] = set()
        self._demand: dict[int, tuple[bool, float]] = {}
        self._lock = threading.Lock()
        self._stopped = threading.Event()

    def stop(self) -> None:
        """See `Stoppable.stop`."""
        self._stopped.set()

    @property
    def threads(self) -> int:
        """See `Workers.threads`."""
        roster = self._call()
        return max(1, roster.slots(gpu=True), roster.slots(gpu=False))

    @property
    def models_apart(self) -> bool:
        """See `Workers.models_apart`."""
        roster = self._call()
        return bool(self._on_gpus and roster.gpus and roster.others)

    def map(self, function: Callable[[T], R], items: Iterable[T], *, models: bool = False) -> Iterator[R]:
        """See `Workers.map`. Raises `MachineFault` where no worker is connected, or scheduler or workers are lost."""
        flight = _Flight(self._client, function, items)
        try:
            while True:
                self._raise_if_stopped()
                roster = self._call()
                flight.gpu = models and bool(self._on_gpus)
                limit = roster.slots(gpu=flight.gpu) * self._per_worker
                self._ask(flight, flight.demand(max(limit, self._per_worker)))
                if flight.is_over:
                    return
                if limit == 0:
                    self._wait_for_workers(flight)
                    continue
                flight.fill(roster, limit)
                try:
                    future = flight.next(timeout_s=_LOOK_EVERY_S)
                except Empty:
                    self._check()
                    flight.give_again(self._call(now=True))
                else:
                    if future is not None:
                        yield future.result()
        except KilledWorker as error:
            raise MachineFault(
                f"{error.allowed_failures + 1} Dask workers died one after the other of one task: too little memory "
                "for the models, or a fault of the machine; see the system's log, then run the same command again"
            ) from error
        except (CancelledError, CommClosedError) as error:
            raise MachineFault(_LOST) from error
        finally:
            self._ask(flight, 0)
            flight.drop()

    def _raise_if_stopped(self) -> None:
        if self._stopped.is_set():
            raise Stopped

    def _call(self, *, now: bool = False) -> Roster:
        """Who is connected, as of a second ago at most; newcomers are checked first."""
        with self._lock:
            if now or time.monotonic() - self._called_s > _LOOK_EVERY_S:
                try:
                    roster = Roster.of(self._client)
                except OSError as error:
                    raise MachineFault(_LOST) from error
                if roster.threads.keys() - self._met:
                    self._check()
                    self._met |= roster.threads.keys()
                if self._on_gpus is None and roster.gpus:
                    self._on_gpus = True  # and so it stays: a model that falls back to CPUs would take days
                self._roster, self._called_s = roster, time.monotonic()
            return self._roster

    def _ask(self, flight: "_Flight[T, R]", n: float) -> None:
        with self._lock:
            self._demand[id(flight)] = flight.gpu, n
            total = sum(n for gpu, n in self._demand.values() if gpu is flight.gpu)
            if n == 0:
                del self._demand[id(flight)]
        self._want("gpu" if flight.gpu else "cpu", total)

    def _wait_for_workers(self, flight: "_Flight[T, R]") -> None:
        """They may be late, or on their way back from a fall."""
        end_s = time.monotonic() + self._patience_s
        while not self._call(now=True).slots(gpu=flight.gpu):
            if time.monotonic() > end_s:
                kind = "Dask worker with a GPU" if flight.gpu else "Dask worker"
                raise MachineFault(
                    f"no {kind} is connected, nor came within {self._patience_s:g} s; start workers, "
                    "or run without --cluster"
                )
            self._check()
            self._raise_if_stopped()
            time.sleep(min(_LOOK_EVERY_S, self._patience_s, 0.2))


class _Flight(Generic[T, R]):
    """Items of one `map` that were given to workers, and the next few."""

    def __init__(self, client: Client, function: Callable[[T], R], items: Iterable[T]) -> None:
        self.gpu = False
        """Whether what is given next wants a GPU."""
        self._client, self._function, self._pending = client, function, iter(items)
        self._name = _name_of(function)
        self._drawn: deque[T] = deque()
        self._given: dict[Future[R], tuple[T, frozenset[str]]] = {}
        """Of an item that may go to some workers only: which."""
        self._running = as_completed([], loop=client.loop, with_results=False)

    @property
    def is_over(self) -> bool:
        """Once `demand` was asked: nothing is at work and nothing is left."""
        return not self._drawn and not self._given

    def demand(self, limit: int) -> float:
        """Items that could be worked on at the same time; infinity where there are more than `limit`."""
        known = len(self._given) + len(self._drawn)
        self._drawn.extend(islice(self._pending, max(0, limit + 1 - known)))
        known = len(self._given) + len(self._drawn)
        return math.inf if known > limit else known

    def fill(self, roster: Roster, limit: int) -> None:
        """Give items to workers until `limit` are there."""
        where = roster.where(gpu=self.gpu)
        while self._drawn and len(self._given) < limit:
            item = self._drawn.popleft()
            # A scheduler unpacks what it is given, and would hold a task's thousand tiles as objects. The key is new
            # each time: equal arguments at another time are new work, for what is on disk has changed.
            packed = pickle.dumps((self._function, item))
            future = self._client.submit(_unpacked, packed, key=f"{self._name}-{uuid4().hex}", **where)
            self._given[future] = item, frozenset(where.get("workers", ()))
            self._running.add(future)

    def next(self, timeout_s: float) -> Future[R] | None:
        """One that is done; None for one that was given again. Raises `Empty` where none was in time."""
        future = self._running.queue.get(timeout=timeout_s)  # the iterator itself knows no time limit for one step
        return future if self._given.pop(future, None) is not None else None

    def give_again(self, roster: Roster) -> None:
        """Take back items whose workers have all gone: Dask would wait for those, and for no others."""
        for future, (item, where) in list(self._given.items()):
            if where and where.isdisjoint(roster.threads):
                del self._given[future]
                self._drawn.appendleft(item)
                future.cancel()

    def drop(self) -> None:
        """Let go of what is at work."""
        self._running.clear()
        self._given.clear()


def _unpacked(packed: bytes) -> Any:  # noqa: ANN401 -- of any function
    function, item = pickle.loads(packed)  # noqa: S301 -- from this very run, as all that Dask sends
    return function(item)


def _name_of(function: Callable[..., Any]) -> str:
    """By which Dask's dashboard groups what it shows."""
    while isinstance(function, partial):
        function = function.args[0] if callable(next(iter(function.args), None)) else function.func
    return getattr(function, "__name__", type(function).__name__)


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

    @property
    def models_apart(self) -> bool:
        """See `Workers.models_apart`."""
        return self._workers.models_apart

    def map(self, function: Callable[[T], R], items: Iterable[T], *, models: bool = False) -> Iterator[R]:
        """See `Workers.map`. Raises `Stopped`."""
        for result, seconds, name in self._workers.map(partial(_timed, function), items, models=models):
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
