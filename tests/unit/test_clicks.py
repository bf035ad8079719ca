"""Boxes and points drawn from masks."""

import numpy as np
from fakes import fake_profile
from hypothesis import given
from hypothesis import strategies as st

from t2s_core.replies import Answer, parse_reply, reply_format
from t2s_core.training.clicks import clicks_from_mask, taught_reply
from t2s_core.training.examples import Example

blobs = st.lists(
    st.tuples(*[st.integers(0, 60) for _ in range(2)], *[st.integers(3, 30) for _ in range(2)]), max_size=5
)


def _mask(rectangles: list[tuple[int, int, int, int]]) -> np.ndarray:
    mask = np.zeros((64, 96), np.bool_)
    for x, y, width, height in rectangles:
        mask[y : y + height, x : x + width] = True
    return mask


@given(blobs, st.integers(1, 4))
def test_boxes_hold_their_parts_and_points_lie_on_them(
    rectangles: list[tuple[int, int, int, int]], n_points: int
) -> None:
    mask = _mask(rectangles)
    found = clicks_from_mask(mask, n_points=n_points, max_instances=99)
    covered = np.zeros_like(mask)
    for one in found:
        x0, y0, x1, y1 = map(int, one.box)
        covered[y0:y1, x0:x1] = True
        assert len(one.points) == n_points
        assert all(mask[int(y), int(x)] and x0 <= x < x1 and y0 <= y < y1 for x, y in one.points)
    assert not (mask & ~covered).any()
    assert bool(found) == bool(mask.any())


def test_two_points_on_a_long_part_are_far_apart() -> None:
    [one] = clicks_from_mask(_mask([(5, 5, 60, 10)]), n_points=2, max_instances=9)
    (ax, _), (bx, _) = one.points
    assert abs(ax - bx) > 20


def test_the_largest_parts_are_kept_in_reading_order() -> None:
    mask = _mask([(0, 0, 3, 3), (30, 0, 20, 20), (0, 30, 15, 15)])
    boxes = [one.box for one in clicks_from_mask(mask, n_points=1, max_instances=2)]
    assert boxes == [(30, 0, 50, 20), (0, 30, 15, 45)]


def test_the_taught_reply_is_what_the_reader_wants_to_read() -> None:
    profile = fake_profile()
    mask = np.zeros((128, 128), np.bool_)
    mask[10:40, 20:60] = True
    example = Example("a", "a", np.zeros((128, 128, 3), np.uint8), "the lake", "", mask)
    text = taught_reply(example, profile)
    form = reply_format(text, profile=profile)
    assert form.tags_ok
    assert form.schema_ok
    judged = parse_reply(text, truncated=False, profile=profile)
    assert isinstance(judged, Answer)
    assert [one.box for one in judged.instances_model_px] == [(40, 20, 120, 80)]


def test_the_taught_reply_to_an_absent_target_is_the_empty_list() -> None:
    example = Example("a", "a", np.zeros((8, 8, 3), np.uint8), "the lake", "", np.zeros((8, 8), np.bool_))
    judged = parse_reply(taught_reply(example, fake_profile()), truncated=False, profile=fake_profile())
    assert judged == Answer((), "the lake: none", ())
