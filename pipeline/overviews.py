"""Mosaics at half the resolution. Pixels that nobody looked at count for nothing."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.stitch import NOBODY_LOOKED


def halve_by_mean(probability: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Mean of each 2 x 2 pixels that somebody looked at, rounded half up; 255 where nobody looked at any of them."""
    if not _partly_unseen(probability):
        # Rows first: they lie one after the other in memory, and half as much is left for the columns.
        rows = np.add(probability[0::2], probability[1::2], dtype=np.uint16)
        total: NDArray[np.uint16] = rows[:, 0::2] + rows[:, 1::2]
        total += 2
        total >>= 2
        return total.astype(np.uint8)
    quads = _quads(_even(probability))
    looked = [quad != NOBODY_LOOKED for quad in quads]
    n_looked = np.sum(looked, axis=0, dtype=np.uint16)
    seen_total = np.sum([quad * seen for quad, seen in zip(quads, looked, strict=True)], axis=0, dtype=np.uint16)
    mean = (2 * seen_total + n_looked) // np.maximum(2 * n_looked, 1)
    return np.where(n_looked > 0, mean, NOBODY_LOOKED).astype(np.uint8)


def halve_by_maximum(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Target where any of 2 x 2 pixels is, so that small objects stay in sight; 255 where nobody looked at any."""
    # One more, and what nobody looked at becomes 0: less than anything that somebody saw.
    more = _even(mask) + np.uint8(1)
    rows = np.maximum(more[0::2], more[1::2])
    largest: NDArray[np.uint8] = np.maximum(rows[:, 0::2], rows[:, 1::2]) - np.uint8(1)
    return largest


def _partly_unseen(values: NDArray[np.uint8]) -> bool:
    height, width = values.shape
    return bool(height % 2 or width % 2 or values.max(initial=0) == NOBODY_LOOKED)


def _even(values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """An odd edge is completed by pixels that nobody looked at."""
    height, width = values.shape
    if height % 2 or width % 2:
        return np.pad(values, ((0, height % 2), (0, width % 2)), constant_values=NOBODY_LOOKED)
    return values


def _quads(values: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    return [values[0::2, 0::2], values[0::2, 1::2], values[1::2, 0::2], values[1::2, 1::2]]


def factors_of(attributes: Mapping[str, Any]) -> tuple[int, ...]:
    """2, 4, ...: the overviews that a group's `multiscales` attributes name, finest first."""
    layout = attributes["multiscales"]["layout"]
    return tuple(int(level["asset"]) for level in layout if level["asset"] != ".")
