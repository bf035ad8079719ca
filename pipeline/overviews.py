"""Mosaics at half the resolution. Pixels that nobody looked at count for nothing."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.stitch import NOBODY_LOOKED


def halve_by_mean(probability: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Mean of each 2 x 2 pixels that somebody looked at, rounded half up; 255 where nobody looked at any of them."""
    quads = _quads(probability)
    looked = quads != NOBODY_LOOKED
    n_looked = looked.sum(axis=0, dtype=np.uint16)
    total = np.where(looked, quads, 0).sum(axis=0, dtype=np.uint16)
    mean = (2 * total + n_looked) // np.maximum(2 * n_looked, 1)
    return np.where(n_looked > 0, mean, NOBODY_LOOKED).astype(np.uint8)


def halve_by_maximum(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Target where any of 2 x 2 pixels is, so that small objects stay in sight; 255 where nobody looked at any."""
    quads = _quads(mask)
    looked = quads != NOBODY_LOOKED
    return np.where(looked.any(axis=0), np.where(looked, quads, 0).max(axis=0), NOBODY_LOOKED).astype(np.uint8)


def _quads(values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(4, ceil(height / 2), ceil(width / 2)); an odd edge is completed by pixels that nobody looked at."""
    height, width = values.shape
    even = np.pad(values, ((0, height % 2), (0, width % 2)), constant_values=NOBODY_LOOKED)
    return np.stack([even[0::2, 0::2], even[0::2, 1::2], even[1::2, 0::2], even[1::2, 1::2]])


def factors_of(attributes: Mapping[str, Any]) -> tuple[int, ...]:
    """2, 4, ...: the overviews that a group's `multiscales` attributes name, finest first."""
    layout = attributes["multiscales"]["layout"]
    return tuple(int(level["asset"]) for level in layout if level["asset"] != ".")
