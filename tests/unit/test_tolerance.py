"""How many failures a run bears."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.tolerance import Tolerance, TooManyFailed, checked_max_failed, limit_of
from t2s_core.errors import BadInput


@pytest.mark.parametrize(
    ("text", "limit"), [("0", 0), ("7", 7), ("0%", 0), ("5%", 10), ("2.5%", 5), ("0.7%", 1), ("100%", 200)]
)
def test_a_count_is_a_count_and_a_share_is_of_all(text: str, limit: int) -> None:
    assert checked_max_failed(text) == text
    assert limit_of(text, 200) == limit


@pytest.mark.parametrize("text", ["-1", "5 %", "0.05", "many", "", "%", "5%%", "1e3"])
def test_anything_else_is_bad_input(text: str) -> None:
    with pytest.raises(BadInput, match=r"is neither a count nor a share; use e\.g\. 200 or 5%"):
        checked_max_failed(text)


def test_by_default_everything_is_borne() -> None:
    assert checked_max_failed(None) is None
    Tolerance(None, 10).count(10)


@given(limit=st.integers(0, 50), failed=st.lists(st.integers(0, 9), max_size=30))
def test_it_ends_with_the_first_failure_too_many_and_stays_ended(limit: int, failed: list[int]) -> None:
    tolerance, total = Tolerance(str(limit), 1000), 0
    for n in failed:
        total += n
        if total <= limit:
            tolerance.count(n)
            continue
        with pytest.raises(TooManyFailed, match=f"{total} of 1000 tile-queries failed, --max-failed {limit} bears"):
            tolerance.count(n)


def test_no_failure_is_lost_between_threads() -> None:
    tolerance = Tolerance("4000", 10_000)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: tolerance.count(1), range(4000)))
    with pytest.raises(TooManyFailed, match="4001 of 10000"):
        tolerance.count(1)
