import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from t2s_core import metrics
from t2s_core.metrics import PixelCounts, count_pixels, pixel_counts


def counts_of(pairs: list[tuple[NDArray[np.bool_], NDArray[np.bool_]]]) -> PixelCounts:
    return pixel_counts(*np.array([count_pixels(t, p) for t, p in pairs]).reshape(-1, 4).T)


EMPTY, LEFT, ALL = np.zeros((2, 4), bool), np.array([[1, 1, 0, 0]] * 2, bool), np.ones((2, 4), bool)
SAMPLES = counts_of([(LEFT, LEFT), (LEFT, ALL), (LEFT, EMPTY), (EMPTY, EMPTY), (EMPTY, LEFT)])


def test_conventions_on_a_worked_example() -> None:
    np.testing.assert_allclose(SAMPLES.iou, [1, 0.5, 0, 1, 0])
    assert metrics.giou(SAMPLES).value == pytest.approx(0.5)
    assert metrics.ciou(SAMPLES).value == pytest.approx(8 / 20)
    assert metrics.ciou_paper(SAMPLES).value == pytest.approx(8 / 16)
    assert metrics.no_target_accuracy(SAMPLES).value == pytest.approx(0.5)
    assert metrics.precision_at(SAMPLES, 0.5).value == pytest.approx(2 / 5)
    assert metrics.pixel_precision(SAMPLES).value == pytest.approx(8 / 16)
    assert metrics.format_rate([True, False, True, True]).value == 0.75


def test_two_empty_masks_score_one() -> None:
    nothing = counts_of([(EMPTY, EMPTY)] * 3)
    for metric in (metrics.giou, metrics.ciou, metrics.ciou_paper, metrics.no_target_accuracy, metrics.pixel_precision):
        assert metric(nothing) == metrics.Metric(1.0, (1.0, 1.0))


def test_no_samples_have_no_value() -> None:
    assert math.isnan(metrics.giou(counts_of([])).value)
    assert math.isnan(metrics.no_target_accuracy(counts_of([(LEFT, LEFT)])).value)


masks = hnp.arrays(np.bool_, (3, 3))


@given(st.lists(st.tuples(masks, masks), min_size=1, max_size=8))
@settings(max_examples=30, deadline=None)
def test_laws(pairs: list[tuple[NDArray[np.bool_], NDArray[np.bool_]]]) -> None:
    counts = counts_of(pairs)
    for metric in (metrics.giou, metrics.ciou, metrics.ciou_paper, metrics.pixel_precision):
        got = metric(counts)
        assert 0 <= got.ci95[0] <= got.ci95[1] <= 1
        assert 0 <= got.value <= 1
        assert metric(counts) == got
    assert metrics.ciou_paper(counts).value >= metrics.ciou(counts).value
    p = [metrics.precision_at(counts, at).value for at in (0.5, 0.7, 0.9)]
    assert p == sorted(p, reverse=True)
    perfect = counts_of([(truth, truth) for truth, _ in pairs])
    assert metrics.giou(perfect).value == metrics.ciou(perfect).value == 1


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(5)
    covered = 0
    for seed in range(100):
        low, high = metrics.mean(rng.random(100), seed=seed).ci95
        covered += low <= 0.5 <= high
    assert covered >= 88


def test_inconsistent_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="sample 1"):
        pixel_counts([1, 2], [2, 2], [2, 3], [1, 3])
    with pytest.raises(ValueError, match="lengths"):
        pixel_counts([1], [2, 2], [1], [1])
    with pytest.raises(ValueError, match="shapes"):
        count_pixels(EMPTY, EMPTY[:1])
