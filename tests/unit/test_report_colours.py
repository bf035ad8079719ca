"""The report's colours, as people of any colour vision see them."""

import numpy as np
import pytest

from pipeline.reporting.colours import ALL_HUES, FAILED, HATCH, STATUS, inks
from pipeline.reporting.tiles import ALONE

# Machado, Oliveira and Fernandes 2009, severity 1.0, for linear RGB.
SEEN_BY = {
    "all three": np.eye(3),
    "protanopes": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopes": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopes": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
JUST_SEEN = 2.3
"""Difference in CIELAB."""


def lab(colour: str, seen_by: str) -> np.ndarray:
    srgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.asarray(SEEN_BY[seen_by]) @ linear, 0, 1)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = to_xyz @ seen / [0.9505, 1.0, 1.089]
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("seen_by", SEEN_BY)
def test_queries_and_what_failed_differ_for_everybody(seen_by: str) -> None:
    colours = [*ALL_HUES, FAILED]
    apart = [
        np.linalg.norm(lab(one, seen_by) - lab(other, seen_by))
        for i, one in enumerate(colours) for other in colours[:i]
    ]  # fmt: skip
    assert min(apart) > 5 * JUST_SEEN


def test_what_is_not_told_by_its_colour_is_told_otherwise() -> None:
    many = inks([str(i) for i in range(24)])
    assert len(set(many.values())) == 24
    assert FAILED not in {ink.colour for ink in many.values()}
    assert all(HATCH.get(status) for status in (*ALONE, "pending"))
    assert len({HATCH[status] for status in HATCH}) == len(HATCH)
    assert set(HATCH) <= set(STATUS)
