"""Workers: everything is done once, little is in flight, failures come through."""

import threading
from collections.abc import Iterator

import pytest
from distributed import Client, LocalCluster

from pipeline.work import DaskWorkers, InProcess, Workers
from t2s_core.errors import MachineFault

N_WORKERS = 2


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with (
        LocalCluster(n_workers=N_WORKERS, threads_per_worker=1, processes=False, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        yield client


@pytest.fixture(params=["in_process", "dask"])
def workers(request: pytest.FixtureRequest) -> Workers:
    return InProcess() if request.param == "in_process" else DaskWorkers(request.getfixturevalue("client"))


def square(x: int) -> int:
    return x * x


def refuse_seven(x: int) -> int:
    if x == 7:
        raise MachineFault("seven is broken")
    return x


def test_every_item_is_done_once(workers: Workers) -> None:
    assert sorted(workers.map(square, range(40))) == [x * x for x in range(40)]


def test_equal_items_are_all_done(workers: Workers) -> None:
    assert list(workers.map(square, [3, 3, 3])) == [9, 9, 9]
    assert list(workers.map(square, [3])) == [9]


def test_no_items_no_results(workers: Workers) -> None:
    assert list(workers.map(square, [])) == []


def test_an_exception_comes_through_and_stops_the_rest(workers: Workers) -> None:
    drawn: list[int] = []

    def items() -> Iterator[int]:
        for x in range(1000):
            drawn.append(x)
            yield x

    with pytest.raises(MachineFault, match="seven is broken"):
        list(workers.map(refuse_seven, items()))
    assert 7 in drawn
    assert len(drawn) < 1000


def test_in_process_keeps_the_order() -> None:
    assert list(InProcess().map(square, [3, 1, 2])) == [9, 1, 4]


def test_a_plan_of_any_size_stays_a_generator(client: Client) -> None:
    drawn = 0

    def items() -> Iterator[int]:
        nonlocal drawn
        for x in range(10_000):
            drawn += 1
            yield x

    results = DaskWorkers(client, in_flight_per_worker=2).map(square, items())
    for n_taken in range(1, 20):
        next(results)
        assert drawn <= n_taken + 2 * N_WORKERS  # one more, to know whether there is more
    results.close()  # type: ignore[attr-defined]  # it is a generator
    assert drawn < 100


class Gate:
    """Threads of the in-process cluster meet here."""

    open = threading.Event()


def wait_at_the_gate(x: int) -> int:
    if x == 0:
        assert Gate.open.wait(60)
    return x


def test_a_slow_item_does_not_hold_back_the_others(client: Client) -> None:
    Gate.open.clear()
    results = DaskWorkers(client, in_flight_per_worker=2).map(wait_at_the_gate, range(12))
    try:
        early = [next(results) for _ in range(3)]
        assert 0 not in early
    finally:
        Gate.open.set()
    assert sorted([*early, *results]) == list(range(12))


def test_no_worker_at_all_is_a_machine_fault() -> None:
    with (
        LocalCluster(n_workers=0, processes=False, dashboard_address=":0") as cluster,
        Client(cluster) as client,
        pytest.raises(MachineFault, match="no Dask worker is connected"),
    ):
        list(DaskWorkers(client, patience_s=0.2).map(square, [1]))


def test_a_late_worker_is_waited_for() -> None:
    with (
        LocalCluster(n_workers=0, processes=False, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        threading.Timer(0.5, cluster.scale, [1]).start()
        assert list(DaskWorkers(client).map(square, [3])) == [9]


def test_workers_that_all_leave_with_work_in_hand_are_waited_for_only_so_long() -> None:
    Gate.open.clear()
    with (
        LocalCluster(n_workers=1, processes=False, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        results = DaskWorkers(client, patience_s=1).map(wait_at_the_gate, [1, 2, 0])
        assert sorted([next(results), next(results)]) == [1, 2]
        threading.Timer(0.2, cluster.scale, [0]).start()
        try:
            with pytest.raises(MachineFault, match="no Dask worker is connected"):
                list(results)
        finally:
            Gate.open.set()
