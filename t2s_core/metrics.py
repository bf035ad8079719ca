"""How good masks are: gIoU, cIoU and their companions, each with a bootstrap interval.

A sample is one image (or scene) and one query. Conventions, said aloud:

- Two empty masks have IoU 1: drawing nothing is right where there is nothing. An empty truth with anything drawn has 0.
- gIoU is the mean of IoUs over samples; cIoU is the sum of intersections over the sum of unions: large objects rule.
- Strict cIoU counts every pixel. The "paper" cIoU (which Think2Seg-RS and its predecessors report) leaves out what was
  drawn on samples without a target, and is never lower.
- An unparsable reply is scored as an empty prediction; its own number is the format rate.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

N_RESAMPLES = 2_000
_CHUNK = 64
"""Resamples drawn at once: bounds memory at 64 indices for each sample."""

Counts = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Metric:
    """A number and how far to trust it."""

    value: float
    """NaN where no sample bears on it (no-target accuracy without a sample that lacks its target)."""
    ci95: tuple[float, float]
    """(low, high): percentile bootstrap over samples."""


@dataclass(frozen=True, slots=True)
class PixelCounts:
    """What all mask metrics are made of, per sample. From original masks: tiny targets must not vanish by resizing."""

    intersection_px: Counts
    """(n,)"""
    union_px: Counts
    """(n,)"""
    truth_px: Counts
    """(n,)"""
    predicted_px: Counts
    """(n,)"""

    def __len__(self) -> int:
        """How many samples."""
        return len(self.union_px)

    @property
    def iou(self) -> Counts:
        """(n,). Two empty masks have 1."""
        empty = self.union_px == 0
        return np.where(empty, 1.0, self.intersection_px / np.where(empty, 1.0, self.union_px))


def pixel_counts(
    intersection_px: ArrayLike, union_px: ArrayLike, truth_px: ArrayLike, predicted_px: ArrayLike
) -> PixelCounts:
    """Check and gather the counts.

    Raises:
        ValueError: Lengths differ, or intersection + union is not truth + predicted somewhere.

    """
    columns = [np.asarray(c, np.float64).reshape(-1) for c in (intersection_px, union_px, truth_px, predicted_px)]
    lengths = [len(column) for column in columns]
    if len(set(lengths)) != 1:
        raise ValueError(f"one entry per sample is needed in each column; lengths are {lengths}")
    counts = PixelCounts(*columns)
    wrong = np.flatnonzero(counts.intersection_px + counts.union_px != counts.truth_px + counts.predicted_px)
    if wrong.size:
        raise ValueError(f"sample {wrong[0]}: intersection + union differs from truth + predicted")
    return counts


def count_pixels(truth: Flags, predicted: Flags) -> tuple[int, int, int, int]:
    """(intersection, union, truth, predicted) of two masks of one shape, in pixels."""
    if truth.shape != predicted.shape:
        raise ValueError(f"masks of shapes {truth.shape} and {predicted.shape} cannot be compared")
    shared, n_truth, n_predicted = int((truth & predicted).sum()), int(truth.sum()), int(predicted.sum())
    return shared, n_truth + n_predicted - shared, n_truth, n_predicted


def giou(counts: PixelCounts, *, seed: int = 0) -> Metric:
    """Mean IoU over samples."""
    return mean(counts.iou, seed=seed)


def ciou(counts: PixelCounts, *, seed: int = 0) -> Metric:
    """Strict cIoU: false positives on empty truths count."""
    return _pooled(counts.intersection_px, counts.union_px, seed=seed)


def ciou_paper(counts: PixelCounts, *, seed: int = 0) -> Metric:
    """The cIoU that the literature reports: what is drawn on empty truths is not counted."""
    return _pooled(counts.intersection_px, np.where(counts.truth_px > 0, counts.union_px, 0.0), seed=seed)


def no_target_accuracy(counts: PixelCounts, *, seed: int = 0) -> Metric:
    """Of the samples without a target, the share on which nothing was drawn."""
    return mean(counts.predicted_px[counts.truth_px == 0] == 0, seed=seed)


def precision_at(counts: PixelCounts, iou: float, *, seed: int = 0) -> Metric:
    """Share of all samples whose IoU is above the threshold (0.5, 0.7 and 0.9 are the usual ones)."""
    return mean(counts.iou > iou, seed=seed)


def pixel_precision(counts: PixelCounts, *, seed: int = 0) -> Metric:
    """Of all pixels drawn, the share that is right; 1 where nothing was drawn."""
    return _pooled(counts.intersection_px, counts.predicted_px, seed=seed)


def format_rate(valid: ArrayLike, *, seed: int = 0) -> Metric:
    """Share of replies that could be parsed. `valid`: (n,) of truths."""
    return mean(np.asarray(valid, np.bool_), seed=seed)


def mean(values: Counts | Flags, *, seed: int = 0) -> Metric:
    """Mean with its interval. NaN for no samples."""
    column = np.asarray(values, np.float64)
    return _bootstrap(column[:, None], lambda sums, n: sums[..., 0] / n, seed=seed)


def paired_bootstrap(a_iou: ArrayLike, b_iou: ArrayLike, seed: int = 0, n: int = 10_000) -> Metric:
    """Mean of `a - b` over samples that both were scored on, with its interval.

    Samples are drawn in pairs: how hard a sample is falls out of the difference, so that far smaller differences show
    than in two intervals side by side. `a` is better than `b` beyond chance where the whole interval is above 0.

    Args:
        a_iou: (samples,), in the order of `b_iou`.
        b_iou: (samples,).
        seed: Equal seeds give equal intervals.
        n: Resamples.

    Returns:
        NaN for no samples.

    Raises:
        ValueError: Lengths differ, or a value is not finite.

    """
    a, b = (np.asarray(column, np.float64).reshape(-1) for column in (a_iou, b_iou))
    if len(a) != len(b):
        raise ValueError(f"pairs need one value each: {len(a)} and {len(b)} were given")
    difference = a - b
    if not np.isfinite(difference).all():
        raise ValueError(f"pair {np.flatnonzero(~np.isfinite(difference))[0]} is not finite")
    if not difference.size:
        return Metric(float("nan"), (float("nan"), float("nan")))
    rng = np.random.default_rng(seed)
    resampled = []
    for start in range(0, n, _CHUNK):
        drawn = rng.integers(0, difference.size, (min(_CHUNK, n - start), difference.size))
        resampled.append(difference[drawn].mean(axis=1))
    low, high = np.quantile(np.concatenate(resampled), [0.025, 0.975])
    return Metric(float(difference.mean()), (float(low), float(high)))


def _pooled(numerator: Counts, denominator: Counts, *, seed: int) -> Metric:
    """Ratio of sums; 1 where both are 0: nothing was wanted and nothing drawn."""

    def ratio(sums: Counts, _n: int) -> Counts:
        top, bottom = sums[..., 0], sums[..., 1]
        return np.where(bottom == 0, 1.0, top / np.where(bottom == 0, 1.0, bottom))

    return _bootstrap(np.stack([numerator, denominator], axis=-1), ratio, seed=seed)


def _bootstrap(columns: Counts, statistic: Callable[[Counts, int], Counts], *, seed: int) -> Metric:
    """Percentile bootstrap (Efron 1979) of a statistic of column sums.

    Args:
        columns: (n samples, k).
        statistic: Sums (..., k) and n to values (...).
        seed: Equal seeds give equal intervals.

    """
    n = len(columns)
    if n == 0:
        return Metric(float("nan"), (float("nan"), float("nan")))
    value = float(statistic(columns.sum(axis=0), n))
    rng = np.random.default_rng(seed)
    resampled = []
    for start in range(0, N_RESAMPLES, _CHUNK):
        drawn = rng.integers(0, n, (min(_CHUNK, N_RESAMPLES - start), n))
        resampled.append(statistic(columns[drawn].sum(axis=1), n))
    low, high = np.quantile(np.concatenate(resampled), [0.025, 0.975])
    return Metric(value, (float(low), float(high)))
