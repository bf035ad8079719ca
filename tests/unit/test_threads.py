"""Work ahead and behind: order, bounds, the thread that does it, and what is left when something goes wrong."""

import threading
from collections.abc import Generator, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.threads import ahead, behind


class Broken(BaseException):
    """As KeyboardInterrupt, it is no `Exception`."""


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    with ahead(counted(1, []), 1) as items:  # the one thread that stays with this one
        list(items)
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


def counted(n: int, made: list[int], where: list[Any] | None = None) -> Generator[int, None, None]:
    """0 to n - 1; notes each, and at its end the threads that ran it."""
    threads = {threading.current_thread()}
    try:
        for i in range(n):
            threads.add(threading.current_thread())
            made.append(i)
            yield i
    finally:
        threads.add(threading.current_thread())
        if where is not None:
            where.extend(threads)


@given(n=st.integers(0, 9), before=st.integers(1, 4))
def test_items_come_in_order_and_all_of_them(n: int, before: int) -> None:
    where: list[Any] = []
    with ahead(counted(n, [], where), before) as items:
        assert list(items) == list(range(n))
    assert len(where) == 1, "one thread ran the generator from its first line to its last"
    assert where[0] is not threading.current_thread()


def test_one_thread_serves_a_thread_for_all_its_life_and_ends_with_it() -> None:
    where: list[Any] = []

    def use() -> None:
        for _ in range(3):
            with ahead(counted(2, [], where), 2) as items:
                list(items)

    for _ in range(2):
        using = threading.Thread(target=use)
        using.start()
        using.join(60)
    assert len(where) == 6
    first, other = where[0], where[3]
    assert where == [first] * 3 + [other] * 3
    assert first is not other
    for thread in (first, other):
        thread.join(60)
        assert not thread.is_alive()


def test_a_generator_that_broke_leaves_the_thread_to_the_next() -> None:
    def broken() -> Generator[int, None, None]:
        yield from ()
        raise Broken

    for _ in range(2):
        with ahead(broken(), 1) as items, pytest.raises(Broken):
            next(items)
    with ahead(counted(3, []), 1) as items:
        assert list(items) == [0, 1, 2]


def test_no_more_than_n_items_are_made_before_they_are_asked_for() -> None:
    made: list[int] = []
    reached, go_on = threading.Event(), threading.Event()

    def items() -> Generator[int, None, None]:
        for i in counted(9, made):
            if i == 3:
                reached.set()
                go_on.wait()
            yield i

    with ahead(items(), 2) as found:
        assert [next(found), next(found)] == [0, 1]
        assert reached.wait(60), "two were asked for, two more are made without being asked for"
        assert made == [0, 1, 2, 3]
        go_on.set()
        assert next(found) == 2


def test_who_stops_early_closes_the_generator_on_its_thread() -> None:
    made: list[int] = []
    where: list[Any] = []
    with ahead(counted(1000, made, where), 2) as items:
        next(items)
    assert len(made) <= 4
    assert len(where) == 1


@pytest.mark.parametrize("error", [ValueError("no"), Broken("no")])
def test_what_the_generator_raises_comes_where_its_item_would(error: BaseException) -> None:
    def items() -> Generator[int, None, None]:
        yield 1
        raise error

    with ahead(items(), 2) as found:
        assert next(found) == 1
        with pytest.raises(type(error)) as caught:
            next(found)
    assert caught.value is error


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()])
def test_what_the_block_raises_ends_the_generator(error: BaseException) -> None:
    where: list[Any] = []

    def use() -> None:
        with ahead(counted(1000, [], where), 2) as items:
            next(items)
            raise error

    with pytest.raises(type(error)):
        use()
    assert where


def test_calls_are_made_in_order_and_finished_at_the_end_of_the_block() -> None:
    done: list[int] = []
    with behind(done.append, 2) as call:
        futures = [call(i) for i in range(20)]
    assert done == list(range(20))
    assert all(future.done() for future in futures)


def test_no_more_than_n_calls_are_unfinished() -> None:
    running, go_on = threading.Semaphore(0), threading.Event()
    returned = threading.Event()

    def slow(_: int) -> None:
        running.release()
        assert go_on.wait(60)

    def hand_over() -> None:
        with behind(slow, 2) as call:
            call(0)
            call(1)
            returned.set()
            call(2)
            returned.clear()

    handing = threading.Thread(target=hand_over)
    handing.start()
    assert returned.wait(60)
    assert running.acquire(timeout=60)
    assert handing.is_alive()
    assert returned.is_set(), "the third call waits"
    go_on.set()
    handing.join(60)
    assert not handing.is_alive()
    assert not returned.is_set()


@pytest.mark.parametrize("n_calls", [2, 100])
def test_an_error_of_a_call_is_raised_by_a_later_one_or_by_the_end(n_calls: int) -> None:
    called: list[int] = []

    def fail_once(i: int) -> None:
        called.append(i)
        if i == 1:
            raise OSError("disk full")

    def use() -> None:
        with behind(fail_once, 1) as call:
            for i in range(n_calls):
                call(i)

    with pytest.raises(OSError, match="disk full"):
        use()
    assert len(called) == 2


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()])
def test_what_was_handed_over_is_finished_though_the_block_raises(error: BaseException) -> None:
    done: list[int] = []

    def use() -> None:
        with behind(done.append, 3) as call:
            call(0)
            call(1)
            raise error

    with pytest.raises(type(error)):
        use()
    assert done == [0, 1]
