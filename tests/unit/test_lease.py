"""Leases: a live run keeps others out, a dead one does not."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from pipeline import lease
from pipeline.lease import STALE_S, Lease, held, read_lease
from pipeline.storage import Store
from t2s_core.errors import BadInput, MachineFault


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.at(str(tmp_path / "out"))


@pytest.fixture(scope="module")
def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def leave(store: Store, *, host: str | None = None, pid: int | None = None, age_s: float = 0.0) -> Lease:
    left = Lease("r-other", host or socket.gethostname(), pid or os.getppid(), time.time() - age_s)
    store.write(lease.NAME, json.dumps(asdict(left)).encode())
    return left


def test_it_is_there_while_the_body_runs_and_gone_after(store: Store) -> None:
    assert read_lease(store) is None
    with held(store, "r1"):
        mine = read_lease(store)
        assert mine is not None
        assert (mine.run_id, mine.pid, mine.host, mine.alive) == ("r1", os.getpid(), socket.gethostname(), True)
    assert read_lease(store) is None


def test_it_is_gone_after_a_failure_too(store: Store) -> None:
    with pytest.raises(ZeroDivisionError), held(store, "r1"):
        raise ZeroDivisionError
    assert read_lease(store) is None


@pytest.mark.parametrize("host", [None, "elsewhere"])
def test_a_live_run_keeps_others_out_and_says_who_it_is(store: Store, host: str | None) -> None:
    other = leave(store, host=host)
    with (
        pytest.raises(BadInput, match=f"run r-other is at work here \\(process {other.pid} on {other.host}\\)"),
        held(store, "r1"),
    ):
        pytest.fail("two runs in one directory")
    assert read_lease(store) == other


def abandoned(store: Store, dead_pid: int) -> Lease:
    return leave(store, pid=dead_pid)


def stale(store: Store, _: int) -> Lease:
    return leave(store, host="elsewhere", age_s=STALE_S + 1)


@pytest.mark.parametrize("left_behind", [abandoned, stale])
def test_a_lease_of_a_dead_or_silent_run_is_taken_over(
    store: Store, dead_pid: int, left_behind: Callable[[Store, int], Lease]
) -> None:
    assert not left_behind(store, dead_pid).alive
    with held(store, "r1"):
        mine = read_lease(store)
        assert mine is not None
        assert mine.run_id == "r1"


def test_a_process_of_that_number_on_another_host_says_nothing(store: Store, dead_pid: int) -> None:
    assert leave(store, host="elsewhere", pid=dead_pid).alive


def test_a_process_of_another_user_is_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    def not_yours(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr("pipeline.lease.os.kill", not_yours)
    assert Lease("r1", socket.gethostname(), 1, time.time()).alive


def test_it_is_renewed_while_the_body_runs(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    renewed = threading.Event()
    write = lease._write

    def write_and_tell(store: Store, run_id: str) -> None:
        write(store, run_id)
        if threading.current_thread().name == "t2s-lease":
            renewed.set()

    monkeypatch.setattr(lease, "RENEW_S", 0.001)
    monkeypatch.setattr(lease, "_write", write_and_tell)
    with held(store, "r1"):
        assert renewed.wait(60)
    assert read_lease(store) is None


def test_two_runs_in_one_process_keep_each_other_out(store: Store) -> None:
    with (
        held(store, "r1"),
        pytest.raises(BadInput, match="run r1 is at work here"),
        held(store, "r2"),
    ):
        pytest.fail("two runs in one directory")
    assert read_lease(store) is None


def test_a_lease_of_a_dead_namesake_of_this_process_is_taken_over(store: Store) -> None:
    leave(store, pid=os.getpid())  # as after the restart of a container
    with held(store, "r1"):
        pass


def test_a_run_that_was_silent_for_too_long_says_that_another_took_over(store: Store) -> None:
    with pytest.raises(MachineFault, match="another one took over"), held(store, "r1"):
        other = leave(store)
    assert read_lease(store) == other


def test_a_damaged_lease_is_bad_input_and_says_where_it_is(store: Store) -> None:
    store.write(lease.NAME, b'{"run_id": "r')
    with (
        pytest.raises(BadInput, match=r"lease\.json is damaged; delete it if no run is at work there"),
        held(store, "r1"),
    ):
        pytest.fail("nobody knows whether a run is at work")


def test_a_put_that_arrived_though_its_answer_was_lost_is_ours(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    create = Store.create

    def lossy(self: Store, name: str, data: bytes) -> bool:
        create(self, name, data)
        return create(self, name, data)  # a client repeats what had no answer

    monkeypatch.setattr(Store, "create", lossy)
    with held(store, "r1"):
        assert read_lease(store) is not None
    assert read_lease(store) is None
