import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from t2s_core.errors import ContractError
from t2s_core.masks import FINE_PER_CODE, LOGIT_LIMIT, fine_codes, probability, quantise, union, upsample

STEP = 2 * LOGIT_LIMIT / 254
logits_arrays = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 12), st.integers(1, 12)),
    elements=st.floats(-20, 20, width=32) | st.sampled_from([0.0, 8.0, -8.0, np.inf, -np.inf]),
)


@given(logits_arrays)
def test_quantising_loses_at_most_half_a_step(logits: NDArray[np.float32]) -> None:
    back = quantise(logits).to_logits()
    assert back.dtype == np.float32
    assert back.shape == logits.shape
    assert np.abs(back - np.clip(logits, -LOGIT_LIMIT, LOGIT_LIMIT)).max() <= STEP / 2 + 1e-5


@given(logits_arrays)
def test_quantising_again_changes_nothing(logits: NDArray[np.float32]) -> None:
    once = quantise(logits)
    again = quantise(once.to_logits())
    assert again.offset == once.offset
    assert again.shape == once.shape
    np.testing.assert_array_equal(again.codes, once.codes)


@given(logits_arrays)
def test_codes_keep_the_order_and_zero_and_never_reach_255(logits: NDArray[np.float32]) -> None:
    codes = quantise(logits).full_codes()
    assert codes.max() <= 254
    assert (codes[logits == 0] == 127).all()
    assert (codes[logits > STEP] > 127).all()
    assert (codes[logits < -STEP] < 127).all()
    order = np.argsort(logits, axis=None)
    assert (np.diff(codes.reshape(-1)[order].astype(int)) >= 0).all()


@given(logits_arrays)
def test_the_crop_is_tight(logits: NDArray[np.float32]) -> None:
    crop = quantise(logits).codes
    if crop.size == 0:
        assert (logits < -LOGIT_LIMIT + STEP).all()
    else:
        assert crop[0].any()
        assert crop[-1].any()
        assert crop[:, 0].any()
        assert crop[:, -1].any()


def test_zero_is_exact_and_an_empty_crop_works() -> None:
    assert (quantise(np.zeros((3, 4), np.float32)).to_logits() == 0).all()
    nothing = quantise(np.full((3, 4), -30, np.float32))
    assert nothing.codes.shape == (0, 0)
    assert (nothing.to_logits() == -LOGIT_LIMIT).all()


def test_what_cannot_be_quantised_raises() -> None:
    with pytest.raises(ContractError, match="NaN"):
        quantise(np.full((2, 2), np.nan, np.float32))
    with pytest.raises(ContractError, match="shape"):
        quantise(np.zeros((1, 2, 2), np.float32))


@pytest.mark.parametrize(
    ("shape", "out"), [((64, 64), (256, 256)), ((5, 7), (33, 50)), ((16, 16), (100, 16)), ((1, 1), (9, 4))]
)
def test_upsample_is_torch_bilinear_with_half_pixel_centres(shape: tuple[int, int], out: tuple[int, int]) -> None:
    logits = np.random.default_rng(0).normal(size=shape).astype(np.float32) * 5
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(logits)[None, None], out, mode="bilinear", align_corners=False
    )
    np.testing.assert_allclose(upsample(logits, out), expected[0, 0].numpy(), atol=2e-5)


@given(st.data())
def test_a_window_equals_that_window_of_the_whole(data: st.DataObject) -> None:
    h, w = data.draw(st.tuples(st.integers(1, 20), st.integers(1, 20)))
    height, width = data.draw(st.tuples(st.integers(h, 60), st.integers(w, 60)))
    top, left = data.draw(st.tuples(st.integers(0, height), st.integers(0, width)))
    window = (slice(top, data.draw(st.integers(top, height))), slice(left, data.draw(st.integers(left, width))))
    logits = np.random.default_rng(h * w).normal(size=(h, w)).astype(np.float32)
    whole = upsample(logits, (height, width))
    part = upsample(logits, (height, width), window)
    assert part.shape == whole[window].shape
    np.testing.assert_allclose(part, whole[window], atol=1e-4)


def test_equal_shapes_give_the_very_array() -> None:
    logits = np.ones((4, 5), np.float32)
    assert upsample(logits, (4, 5)) is logits
    assert upsample(logits, (4, 5), (slice(1, 3), slice(None))).shape == (2, 5)


@given(hnp.arrays(np.float32, (3, 3), elements=st.floats(-1e4, 1e4, width=32)))
def test_probability(logits: NDArray[np.float32]) -> None:
    with np.errstate(all="raise", under="ignore"):
        p = probability(logits)
    assert p.dtype == np.float32
    assert ((p >= 0) & (p <= 1)).all()
    assert ((p > 0.5) <= (logits > 0)).all()
    np.testing.assert_allclose(p, torch.sigmoid(torch.from_numpy(logits)).numpy(), atol=1e-6)


def test_union_is_the_highest_logit() -> None:
    a, b = np.array([[1, -2]], np.float32), np.array([[-3, 4]], np.float32)
    np.testing.assert_array_equal(union([a, b]), [[1, 4]])
    with pytest.raises(ValueError, match="no shape"):
        union([])


@given(
    shape=st.tuples(st.integers(1, 20), st.integers(1, 20)), out=st.tuples(st.integers(1, 50), st.integers(1, 50)),
    seed=st.integers(0, 1000), data=st.data(),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_fine_codes_are_what_upsampling_gives_and_do_not_depend_on_the_window(
    shape: tuple[int, int], out: tuple[int, int], seed: int, data: st.DataObject
) -> None:
    logits = np.full(shape, -8, np.float32)
    rng = np.random.default_rng(seed)
    (top, bottom), (left, right) = (sorted(rng.integers(0, n + 1, 2)) for n in shape)
    logits[top:bottom, left:right] = rng.normal(0, 5, (bottom - top, right - left))
    quantised = quantise(logits)
    window = []
    for n in out:
        start = data.draw(st.integers(0, n - 1))
        window.append(slice(start, data.draw(st.integers(start + 1, n))))
    expected = upsample(quantised.to_logits(), out, (window[0], window[1]))
    fine = fine_codes(quantised, out, (window[0], window[1]))
    assert fine.dtype == np.int32
    np.testing.assert_allclose(fine / FINE_PER_CODE * STEP - LOGIT_LIMIT, expected, atol=0.51 * STEP / FINE_PER_CODE)
    if all(n_low <= n_out for n_low, n_out in zip(shape, out, strict=True)):
        whole = fine_codes(quantised, out, (slice(0, out[0]), slice(0, out[1])))
        np.testing.assert_array_equal(fine, whole[window[0], window[1]])


def test_fine_codes_at_the_same_resolution_are_the_codes() -> None:
    logits = np.random.default_rng(1).normal(0, 5, (17, 9)).astype(np.float32)
    quantised = quantise(logits)
    fine = fine_codes(quantised, (17, 9), (slice(2, 17), slice(0, 9)))
    np.testing.assert_array_equal(fine, quantised.full_codes()[2:].astype(int) * FINE_PER_CODE)
