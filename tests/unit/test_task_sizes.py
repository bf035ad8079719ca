"""Tasks of some seconds, and none too large for what is left."""

from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.task_sizes import TaskSizes
from pipeline.worker import BatchReceipt


def receipt(wall_s: float, load_s: float = 0.0) -> BatchReceipt:
    return BatchReceipt("b", 8, Counter(), 0, load_s, *[0.0] * 6, wall_s)


def one() -> int:
    return 1


def test_the_first_task_is_one_batch() -> None:
    assert TaskSizes(1000, one).next() == 1


@pytest.mark.parametrize(("batch_s", "n"), [(0.01, 500), (0.5, 10), (5.0, 1), (60.0, 1)])
def test_a_task_takes_about_five_seconds(batch_s: float, n: int) -> None:
    sizes = TaskSizes(1_000_000, one)
    sizes.took([receipt(batch_s), receipt(batch_s)])
    assert sizes.next() == pytest.approx(n, abs=1)


def test_a_task_holds_a_bounded_number_of_tile_queries_however_fast_they_are() -> None:
    sizes = TaskSizes(1_000_000, one, tile_queries=8 * 12)
    sizes.took([receipt(0.001)])
    assert sizes.next() == 10
    assert TaskSizes(5, one, tile_queries=5000).next() == 1


def test_loading_models_says_nothing_of_the_batches_to_come() -> None:
    sizes = TaskSizes(1_000_000, one)
    sizes.took([receipt(30.5, load_s=30.0)])
    assert sizes.next() == 10


@pytest.mark.parametrize("threads", [1, 4, 16])
def test_every_worker_gets_several_of_what_is_left(threads: int) -> None:
    sizes = TaskSizes(100, lambda: threads)
    sizes.took([receipt(0.001)])
    given_out = 0
    while given_out < 100:
        n = sizes.next()
        assert n == max(1, (100 - given_out) // (2 * threads))
        given_out += n


@given(st.integers(0, 10_000), st.lists(st.floats(0, 1e6), min_size=1, max_size=20), st.integers(1, 64))
def test_a_task_is_never_empty_and_never_more_than_is_left(n_batches: int, seconds: list[float], threads: int) -> None:
    count: Callable[[], int] = lambda: threads
    sizes = TaskSizes(n_batches, count)
    left = n_batches
    for batch_s in seconds:
        sizes.took([receipt(batch_s)])
        n = sizes.next()
        assert 1 <= n <= max(1, left)
        left = max(0, left - n)
