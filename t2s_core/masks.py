"""Low-resolution mask logits: stored as small integers, cropped, and brought to full resolution again."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from t2s_core.errors import ContractError

LOGIT_LIMIT = 8.0
"""Logits are clipped to +-8: probabilities of 0.0003 and 0.9997, beyond which certainty changes nothing."""
CODE_MAX = 254
"""Even, so that the logit 0 has a code of its own, 127, and the threshold at even odds survives. 255 stays free."""
FINE_PER_CODE = 64
"""Steps of a code into which interpolated logits are rounded: at even odds, 0.0002 of probability."""


@dataclass(frozen=True, slots=True)
class QuantisedLogits:
    """One object's logits as uint8, cropped to where they are not at the lower limit."""

    codes: NDArray[np.uint8]
    """(h, w), 0 to 254. Code c stands for the logit c / 254 * 16 - 8; 127 is exactly 0. May be empty, (0, 0)."""
    offset: tuple[int, int]
    """(row, column) of the crop's upper left pixel in the full array; (0, 0) for an empty crop."""
    shape: tuple[int, int]
    """(height, width) of the full array. Outside the crop the code is 0: the logit is -8."""

    def full_codes(self) -> NDArray[np.uint8]:
        """(height, width): the codes with the crop's surroundings restored."""
        full = np.zeros(self.shape, np.uint8)
        row, column = self.offset
        height, width = self.codes.shape
        full[row : row + height, column : column + width] = self.codes
        return full

    def to_logits(self) -> NDArray[np.float32]:
        """(height, width): logits within +-8, at most 8 / 254 from what was quantised and clipped."""
        return _to_logits(self.full_codes())


def _to_logits(codes: NDArray[np.uint8]) -> NDArray[np.float32]:
    # Multiplied before it is divided, so that 127 gives exactly 0.
    logits: NDArray[np.float32] = codes.astype(np.float32) * np.float32(2 * LOGIT_LIMIT)
    return logits / np.float32(CODE_MAX) - np.float32(LOGIT_LIMIT)


def quantise(logits: NDArray[np.float32]) -> QuantisedLogits:
    """Clip to +-8, round to 254 steps, crop away what is surely not the object.

    Args:
        logits: (height, width). Infinite values are clipped like others.

    Raises:
        ContractError: The array has another dimension or holds NaN.

    """
    if logits.ndim != 2:  # noqa: PLR2004
        raise ContractError(f"logits of shape {logits.shape} cannot be quantised; they must be (height, width)")
    if np.isnan(logits.max(initial=-np.inf)):
        raise ContractError("logits with NaN cannot be quantised; check the segmenter's output before")
    height, width = logits.shape
    rows, columns = _around(logits > -LOGIT_LIMIT)  # most of a mask is surely not the object, and needs no arithmetic
    clipped = np.clip(logits[rows, columns], -LOGIT_LIMIT, LOGIT_LIMIT).astype(np.float64)
    codes = np.rint((clipped + LOGIT_LIMIT) / (2 * LOGIT_LIMIT) * CODE_MAX).astype(np.uint8)
    inner_rows, inner_columns = _around(codes > 0)
    crop = np.ascontiguousarray(codes[inner_rows, inner_columns])
    offset = (rows.start + inner_rows.start, columns.start + inner_columns.start) if crop.size else (0, 0)
    return QuantisedLogits(crop, offset, (height, width))


def _around(flags: NDArray[np.bool_]) -> tuple[slice, slice]:
    """(rows, columns) of all that is True; of nothing, (0, 0) of it."""
    rows, columns = (np.flatnonzero(flags.any(axis=axis)).tolist() for axis in (1, 0))
    if not rows:
        return slice(0, 0), slice(0, 0)
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def upsample(
    logits: NDArray[np.float32], out_shape: tuple[int, int], window: tuple[slice, slice] | None = None
) -> NDArray[np.float32]:
    """Bilinear resize with half-pixel centres, as SAM resizes its masks (`align_corners=False`).

    Where `out_shape` is smaller than the logits, the pixels in between are averaged instead of skipped.

    Args:
        logits: (h, w), covering the same ground as the result.
        out_shape: (height, width) of the whole result.
        window: (rows, columns) of the result that are wanted, as slices without steps: the result is
            `upsample(logits, out_shape)[window]`, at the cost of the window alone.

    Returns:
        float32 of the window's shape. The very array where the shapes are equal and no window is asked for.

    """
    height, width = out_shape
    if logits.shape == out_shape:
        return logits if window is None else logits[window]
    rows, columns = (slice(0, height), slice(0, width)) if window is None else window
    top, bottom, _ = rows.indices(height)
    left, right, _ = columns.indices(width)
    if bottom <= top or right <= left:
        return np.zeros((max(bottom - top, 0), max(right - left, 0)), np.float32)
    h, w = logits.shape
    # Pillow samples beyond the box where the kernel reaches over its border, so windows join without seams.
    box = (left * w / width, top * h / height, min(right * w / width, w), min(bottom * h / height, h))
    source = Image.fromarray(np.ascontiguousarray(logits, dtype=np.float32))
    resized = source.resize((right - left, bottom - top), Image.Resampling.BILINEAR, box=box)
    return np.asarray(resized, dtype=np.float32)


def fine_codes(
    quantised: QuantisedLogits, out_shape: tuple[int, int], window: tuple[slice, slice]
) -> NDArray[np.int32]:
    """`upsample(quantised.to_logits(), out_shape, window)` as codes, in steps of 1 / FINE_PER_CODE of a code.

    At the cost of the window alone, which must not be empty. Small windows are many, and Pillow takes longer to be
    called than to resize them: so enlarging is done here. A pixel does not depend on the window, not in the last digit.
    """
    if quantised.shape[0] > out_shape[0] or quantised.shape[1] > out_shape[1]:
        codes = (upsample(quantised.to_logits(), out_shape, window) + LOGIT_LIMIT) * (CODE_MAX / (2 * LOGIT_LIMIT))
        reduced: NDArray[np.int32] = np.rint(np.clip(codes, 0, CODE_MAX) * FINE_PER_CODE).astype(np.int32)
        return reduced
    (rows, cols), (height, width) = window, quantised.shape
    (above, down), (before, right) = _taps(height, out_shape[0], rows), _taps(width, out_shape[1], cols)
    top, left = int(above[0]), int(before[0])
    low = _codes_in(quantised, (slice(top, int(above[-1]) + 2), slice(left, int(before[-1]) + 2))).astype(np.float32)
    low *= np.float32(FINE_PER_CODE)
    # Columns first: picking columns is slow and still cheap there, picking whole rows is fast.
    picked = before - left
    wide = (low[:, 1:] - low[:, :-1]).take(picked, axis=1)
    wide *= right
    wide += low.take(picked, axis=1)
    wide += np.float32(0.5)
    picked = above - top
    fine = (wide[1:] - wide[:-1]).take(picked, axis=0)
    fine *= down[:, np.newaxis]
    fine += wide.take(picked, axis=0)
    return fine.astype(np.int32)


def _taps(n_low: int, n_out: int, wanted: slice) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    first, share = _all_taps(n_low, n_out)
    return first[wanted], share[wanted]


@lru_cache(maxsize=64)
def _all_taps(n_low: int, n_out: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """By output pixel along an axis: one of the two low-resolution pixels around its centre, the share of the next."""
    place = np.clip((np.arange(n_out) + 0.5) * n_low / n_out - 0.5, 0, n_low - 1)
    first = np.clip(np.floor(place), 0, max(n_low - 2, 0)).astype(np.int64)
    return first, (place - first).astype(np.float32)


def _codes_in(quantised: QuantisedLogits, window: tuple[slice, slice]) -> NDArray[np.uint8]:
    """The part of `full_codes` in a window, whose slices have whole starts and stops; 0 beyond its end."""
    (row, column), (height, width) = quantised.offset, quantised.codes.shape
    rows, columns = window
    part = np.zeros((rows.stop - rows.start, columns.stop - columns.start), np.uint8)
    top, bottom = max(row, rows.start), min(row + height, rows.stop)
    left, right = max(column, columns.start), min(column + width, columns.stop)
    if top < bottom and left < right:
        inner = quantised.codes[top - row : bottom - row, left - column : right - column]
        part[top - rows.start : bottom - rows.start, left - columns.start : right - columns.start] = inner
    return part


def probability(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """The logistic function, any shape. Written with tanh, which does not overflow."""
    half = np.float32(0.5)
    result: NDArray[np.float32] = half * (np.float32(1) + np.tanh(half * logits.astype(np.float32, copy=False)))
    return result


def union(logits: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """The mask of all objects together: where any of them is, the most certain of them speaks.

    Args:
        logits: At least one array, all (h, w) alike.

    Raises:
        ValueError: There is none: the shape of nothing is unknown.

    """
    if not logits:
        raise ValueError("the union of no masks has no shape")
    highest: NDArray[np.float32] = np.maximum.reduce(list(logits))
    return highest
