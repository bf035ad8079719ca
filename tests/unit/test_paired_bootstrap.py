import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from t2s_core.metrics import mean, paired_bootstrap

ious = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=20)


@given(ious)
def test_laws(pairs: list[tuple[float, float]]) -> None:
    a, b = np.array(pairs).T
    there, back = paired_bootstrap(a, b, n=200), paired_bootstrap(b, a, n=200)
    assert there.value == pytest.approx(float(a.mean() - b.mean()), abs=1e-12)
    assert there.ci95[0] <= there.ci95[1]
    assert (-back.ci95[1], -back.ci95[0]) == pytest.approx(there.ci95, abs=1e-9)
    assert paired_bootstrap(a, b, n=200) == there
    same = paired_bootstrap(a, a, n=200)
    assert (same.value, same.ci95) == (0, (0, 0))


def test_a_small_steady_gain_shows_where_separate_intervals_overlap() -> None:
    rng = np.random.default_rng(3)
    b = rng.uniform(0, 0.9, 200)
    a = b + rng.uniform(0.0, 0.04, 200)
    assert mean(a).ci95[0] < mean(b).ci95[1]
    gain = paired_bootstrap(a, b, seed=1)
    assert 0.01 < gain.ci95[0] < gain.value < gain.ci95[1] < 0.03


def test_the_interval_covers_no_difference_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(5)
    covered = 0
    for seed in range(100):
        a, b = rng.random((2, 60))
        low, high = paired_bootstrap(a, b, seed, 500).ci95
        covered += low <= 0 <= high
    assert covered >= 88


def test_no_pairs_have_no_difference() -> None:
    none = paired_bootstrap([], [])
    assert math.isnan(none.value)
    assert math.isnan(none.ci95[0])


def test_what_is_no_pair_is_refused() -> None:
    with pytest.raises(ValueError, match="2 and 1"):
        paired_bootstrap([1, 2], [1])
    with pytest.raises(ValueError, match="pair 1 is not finite"):
        paired_bootstrap([1, float("nan")], [1, 1])
