"""Who works on a run's directory. A lease that is no longer renewed tells an interrupted run from a running one."""

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from pipeline.storage import Store
from t2s_core.errors import BadInput

NAME = "lease.json"
RENEW_S = 10.0
STALE_S = 60.0
"""Six missed renewals: long enough for a slow bucket, short enough for whoever waits."""


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
        if self.host == socket.gethostname() and not _process_exists(self.pid):
            return False
        return time.time() - self.renewed_unix_s < STALE_S


def read_lease(store: Store) -> Lease | None:
    """The lease on a run's directory; None where nobody holds one."""
    try:
        return Lease(**json.loads(store.read(NAME)))
    except FileNotFoundError:
        return None


@contextmanager
def held(store: Store, run_id: str) -> Iterator[None]:
    """Hold the lease while the body runs. Raises `BadInput` where a live run holds it."""
    other = read_lease(store)
    if other is not None and other.alive and (other.host, other.pid) != (socket.gethostname(), os.getpid()):
        raise BadInput(
            f"{store.url}: run {other.run_id} is at work here (process {other.pid} on {other.host}); "
            "wait for it, stop it, or choose another --out"
        )
    stop = threading.Event()
    _write(store, run_id)
    renewer = threading.Thread(target=_renew, args=(store, run_id, stop), daemon=True, name="t2s-lease")
    renewer.start()
    try:
        yield
    finally:
        stop.set()
        renewer.join()
        store.remove(NAME)


def _renew(store: Store, run_id: str, stop: threading.Event) -> None:
    while not stop.wait(RENEW_S):
        _write(store, run_id)


def _write(store: Store, run_id: str) -> None:
    lease = Lease(run_id, socket.gethostname(), os.getpid(), time.time())
    store.write(NAME, json.dumps(asdict(lease)).encode())


def _process_exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
