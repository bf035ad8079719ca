"""Small charts as SVG: they need no script, and print."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.reporting.found import AREA_BINS, Statistics
from pipeline.reporting.html import area, text

_WIDTH, _HEIGHT, _FOOT = 260, 56, 16


def score_histogram(statistics: Statistics, colour: str) -> str:
    """How often which score."""
    said = f"scores of {statistics.n:,} features, median {statistics.median_score:.2f}"
    return _histogram(statistics.scores, ("0", "score", "1"), said, colour)


def area_histogram(statistics: Statistics, colour: str) -> str:
    """How often which area, on a logarithmic axis as long as it must be."""
    some = np.flatnonzero(statistics.areas)
    first, last = int(some[0]) // 4 * 4, -(-(int(some[-1]) + 1) // 4) * 4
    low, high = area(AREA_BINS[first]), area(AREA_BINS[last])
    mean = area(statistics.area_m2 / statistics.n)
    said = f"areas of {statistics.n:,} features from {low} to {high}, mean {mean}"
    return _histogram(statistics.areas[first:last], (low, "area, log", high), said, colour)


def _histogram(counts: NDArray[np.int64], axis: Sequence[str], said: str, colour: str) -> str:
    step, most = _WIDTH / len(counts), int(counts.max())
    bars = "".join(
        f'<rect x="{i * step + 0.5:.1f}" width="{step - 1:.1f}" y="{_HEIGHT * (1 - n / most):.1f}" '
        f'height="{_HEIGHT * n / most:.1f}"><title>{n:,}</title></rect>'
        for i, n in enumerate(counts.tolist())
        if n
    )
    y = _HEIGHT + _FOOT - 3
    labels = "".join(
        f'<text x="{x}" y="{y}" text-anchor="{anchor}">{text(label)}</text>'
        for x, anchor, label in zip((0, _WIDTH / 2, _WIDTH), ("start", "middle", "end"), axis, strict=True)
    )
    return (
        f'<svg class="chart" role="img" aria-label="{text(said)}" viewBox="0 0 {_WIDTH} {_HEIGHT + _FOOT}">'
        f'<g fill="{colour}" stroke="#333" stroke-width=".4">{bars}</g>'
        f'<path d="M0 {_HEIGHT}H{_WIDTH}" stroke="#777"/>{labels}</svg>'
    )
