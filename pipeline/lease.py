"""Who works on a run's directory. A lease that is no longer renewed tells an interrupted run from a running one.

Of several runs that start at the same time one gets the lease, where `Store.create` holds what it promises.
"""

import hashlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field

from pipeline.storage import Store, store_errors
from t2s_core.errors import BadInput, MachineFault

NAME = "lease.json"
RENEW_S = 10.0
STALE_S = 60.0
"""Six missed renewals: long enough for a slow bucket, short enough for whoever waits."""

_here: set[str] = set()
"""Runs that this process holds a lease for: a lease with its number that is none of these is of a dead namesake, as
after the restart of a container."""


@dataclass(frozen=True, slots=True)
class Lease:
    """Written beside run.json while a run is at work."""

    run_id: str
    host: str
    pid: int
    renewed_unix_s: float

    @property
    def alive(self) -> bool:
        """False once its process is gone (on this host) or it has not been renewed for `STALE_S`."""
        if self.host == socket.gethostname():
            if self.pid == os.getpid():
                return self.run_id in _here
            if not _process_exists(self.pid):
                return False
        return time.time() - self.renewed_unix_s < STALE_S


def read_lease(store: Store) -> Lease | None:
    """The lease on a run's directory; None where nobody holds one. Raises `BadInput` where it is unreadable."""
    try:
        return _parsed(store, NAME, store.read(NAME))
    except FileNotFoundError:
        return None


@contextmanager
def held(store: Store, run_id: str) -> Iterator[None]:
    """Hold the lease while the body runs. Raises `BadInput` where a live run holds it.

    Raises `MachineFault` at the end where another run took the lease over, because this one was silent for too long.
    """
    _here.add(run_id)
    try:
        _take(store, NAME, run_id)
        renewal = _Renewal(store, run_id)
        renewal.start()
        try:
            yield
        finally:
            renewal.stop()
            if renewal.still_ours():
                store.remove(NAME)
        if renewal.lost:
            raise MachineFault(
                f"{store.url}: this run was silent for more than {STALE_S:.0f} s and another one took over; what both "
                "committed is kept; wait for the other one, then run the same command again"
            )
    finally:
        _here.discard(run_id)


def _take(store: Store, name: str, run_id: str) -> None:
    """Put a lease at `name` where there is none, or in the place of a stale one. Raises `BadInput`.

    Whoever replaces a stale lease first takes another one, named after the very bytes that it found: only one can, and
    who comes later than the replacement finds other bytes. Should it die in between, that one grows stale in its turn.
    """
    while True:
        if store.create(name, _bytes(run_id)):
            return
        try:
            found = store.read(name)
        except FileNotFoundError:
            continue
        other = _parsed(store, name, found)
        if other.run_id == run_id:  # a put that arrived though its answer got lost, and was repeated
            return
        if other.alive:
            raise BadInput(
                f"{store.url}: run {other.run_id} is at work here (process {other.pid} on {other.host}); "
                "wait for it, stop it, or choose another --out"
            )
        claim = f"{NAME}.{hashlib.sha256(found).hexdigest()[:20]}"
        _take(store, claim, run_id)
        try:
            if _unchanged(store, name, found):
                store.write(name, _bytes(run_id))
                return
        finally:
            store.remove(claim)


def _unchanged(store: Store, name: str, found: bytes) -> bool:
    try:
        return store.read(name) == found
    except FileNotFoundError:
        return False


@dataclass
class _Renewal:
    """Renews a lease in a thread of its own, as long as nobody else has taken it."""

    store: Store
    run_id: str
    lost: bool = False
    _end: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._renew, daemon=True, name="t2s-lease")
        self._thread.start()

    def stop(self) -> None:
        assert self._thread is not None
        self._end.set()
        self._thread.join()

    def still_ours(self) -> bool:
        try:
            lease = read_lease(self.store)
        except BadInput:  # damaged from outside: who takes a lease over leaves a whole one
            return True
        self.lost = lease is not None and lease.run_id != self.run_id
        return not self.lost

    def _renew(self) -> None:
        while not self._end.wait(RENEW_S):
            try:
                if not self.still_ours():
                    return
                _write(self.store, self.run_id)
            except store_errors():
                # The next one may succeed; and where none does, whatever the run itself writes says why.
                continue


def _write(store: Store, run_id: str) -> None:
    store.write(NAME, _bytes(run_id))


def _bytes(run_id: str) -> bytes:
    return json.dumps(asdict(Lease(run_id, socket.gethostname(), os.getpid(), time.time()))).encode()


def _parsed(store: Store, name: str, data: bytes) -> Lease:
    try:
        return Lease(**json.loads(data))
    except (ValueError, TypeError) as error:
        raise BadInput(f"{store.href(name)} is damaged; delete it if no run is at work there") from error


def _process_exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
