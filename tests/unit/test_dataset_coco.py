"""COCO's masks. The packed texts and areas were written by pycocotools 2.0, which is not needed to run this."""

import numpy as np
import pytest
from dataset_folders import run_lengths
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from t2s_core.training.datasets.coco import decode, unpack
from t2s_core.training.examples import BadExample

NOISE = "011150N0MO22ONO02051JOO11O015OJ0050L2ON00130NO10O1O20M20N0002012MN31NO11NO00011OO00000002050J011NO"


def disc() -> np.ndarray:
    ys, xs = np.mgrid[:11, :17]
    return (ys - 5) ** 2 + (xs - 8) ** 2 < 20


@pytest.mark.parametrize(
    ("packed", "wanted"),
    [
        ("`1364N0O2O0001N102LZ1", disc()),
        (NOISE, np.random.default_rng(3).random((11, 17)) < 0.4),
        ("<", np.zeros((3, 4), np.bool_)),
        ("0<", np.ones((3, 4), np.bool_)),
    ],
)
def test_packed_run_lengths_are_those_of_pycocotools(packed: str, wanted: np.ndarray) -> None:
    part = {"size": list(wanted.shape), "counts": packed}
    height, width = wanted.shape
    np.testing.assert_array_equal(decode(part, height, width), wanted)
    np.testing.assert_array_equal(decode([part], height, width), wanted)
    assert unpack(packed) == unpack(packed.encode())


@given(arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=9)))
def test_run_lengths_are_read_back(truth: np.ndarray) -> None:
    np.testing.assert_array_equal(decode(run_lengths(truth), *truth.shape), truth)


@given(st.text(max_size=12) | st.binary(max_size=12))
def test_any_text_is_numbers_or_a_bad_example(packed: str | bytes) -> None:
    try:
        assert all(isinstance(one, int) for one in unpack(packed))
    except BadExample as problem:
        assert "run-length" in str(problem)  # noqa: PT017 -- both ways are right


def test_the_area_of_a_polygon_is_that_of_pycocotools_but_for_its_rim() -> None:
    ours = decode([[100.0, 50.0, 300.0, 80.0, 250.0, 250.0, 60.0, 200.0]], 300, 400)
    assert abs(int(ours.sum()) - 32990) < 33  # a thousandth
    assert decode([[2.0, 2.0, 10.0, 2.0, 10.0, 7.0, 2.0, 7.0]], 11, 17).sum() == 40


def test_a_polygon_is_the_pixels_whose_centres_are_inside() -> None:
    mask = decode([[1.4, 1.6, 3.6, 1.6, 3.6, 3.4, 1.4, 3.4]], 5, 6)
    wanted = np.zeros((5, 6), np.bool_)
    wanted[2, 1:4] = True
    np.testing.assert_array_equal(mask, wanted)


@given(st.lists(st.tuples(st.integers(-8, 20), st.integers(-8, 20)), min_size=3, max_size=8))
def test_a_polygon_and_its_mirror_image_have_mirrored_masks(corners: list[tuple[int, int]]) -> None:
    # Off the grid, so that no edge meets a pixel's centre, where a tie would go to one side.
    ring = [(x + 0.31783724519, y + 0.23606797749) for x, y in corners]
    here = decode([[value for x, y in ring for value in (x, y)]], 12, 12)
    there = decode([[value for x, y in ring for value in (12 - x, y)]], 12, 12)
    turned = decode([[value for x, y in ring for value in (y, x)]], 12, 12)
    np.testing.assert_array_equal(there, here[:, ::-1])
    np.testing.assert_array_equal(turned, here.T)


def test_parts_are_united_and_what_leaves_the_image_is_cut() -> None:
    left = [-5.0, -5.0, 2.0, -5.0, 2.0, 50.0, -5.0, 50.0]
    mask = decode([left, [4.0, 0.0, 90.0, 0.0, 90.0, 1.0, 4.0, 1.0]], 3, 6)
    wanted = np.zeros((3, 6), np.bool_)
    wanted[:, :2] = wanted[0, 4:] = True
    np.testing.assert_array_equal(mask, wanted)


@pytest.mark.parametrize(
    ("segmentation", "told"),
    [
        (None, "neither"),
        ([], "empty"),
        ("text", "neither"),
        ([[1, 2, 3, 4]], "3 corners"),
        ([[1, 2, 3, 4, 5, 6, 7]], "7 numbers"),
        ([[1, 2, 3, 4, 5, float("nan")]], "finite"),
        ([[1, 2, 3, 4, 5, float("inf")]], "finite"),
        ([[1, 2, 3, 4, 5, True]], "finite"),
        ({"size": [4, 3], "counts": [12]}, "size"),
        ({"counts": [12]}, "size"),
        ({"size": [3, 4], "counts": None}, "whole numbers"),
        ({"size": [3, 4], "counts": [6, -1, 7]}, "whole numbers"),
        ({"size": [3, 4], "counts": [11]}, "has 11 px"),
        ({"size": [3, 4], "counts": [13]}, "has 13 px"),
        ({"size": [3, 4], "counts": "\x00"}, "damaged"),
        ({"size": [3, 4], "counts": "oooooooo"}, "damaged"),
        ({"size": [3, 4], "counts": "o"}, "within a number"),
        ({"size": [3, 4], "counts": "caf\u00e9"}, "damaged"),
    ],
)
def test_malformed_segmentations_are_bad_examples(segmentation: object, told: str) -> None:
    with pytest.raises(BadExample, match=told):
        decode(segmentation, 3, 4)
