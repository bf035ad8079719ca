"""The reward: what each kind of reply is worth, and how little the segmenter is asked for it."""

import numpy as np
import pytest
from fakes import BoxSegmenter, fake_profile, reply_text
from numpy.typing import NDArray

from t2s_core.errors import ContractError, MachineFault
from t2s_core.ports import InstanceLogits, RawReply
from t2s_core.prompts import InstancePrompt
from t2s_core.rewards import MaskReward
from t2s_core.training.examples import Example

SIDE = 256


def example(mask: NDArray[np.bool_], name: str = "a", valid: NDArray[np.bool_] | None = None) -> Example:
    return Example(name, name, np.zeros((*mask.shape, 3), np.uint8), "the lake", "", mask, valid)


def square(x0: int, y0: int, x1: int, y1: int, side: int = SIDE) -> NDArray[np.bool_]:
    mask = np.zeros((side, side), np.bool_)
    mask[y0:y1, x0:x1] = True
    return mask


def box(x0: float, y0: float, x1: float, y1: float) -> InstancePrompt:
    return InstancePrompt((x0, y0, x1, y1), (((x0 + x1) / 2, (y0 + y1) / 2), (x0 + 1, y0 + 1)))


def said(*boxes: InstancePrompt) -> RawReply:
    return RawReply(reply_text(boxes), truncated=False, n_tokens=0)


@pytest.fixture
def reward() -> MaskReward:
    return MaskReward(BoxSegmenter(side_px=256), fake_profile())


def test_a_flawless_reply_gets_all_four_points(reward: MaskReward) -> None:
    [found] = reward.score([example(square(64, 64, 128, 128))], [said(box(64, 64, 128, 128))])
    assert found.total == 4


def test_half_of_the_object_gets_half_of_the_mask_points(reward: MaskReward) -> None:
    [found] = reward.score([example(square(64, 64, 128, 128))], [said(box(64, 64, 96, 128))])
    assert found.iou == pytest.approx(0.5)
    assert found.total == pytest.approx(3)


def test_nothing_said_of_something_there_gets_the_format_alone(reward: MaskReward) -> None:
    [found] = reward.score([example(square(64, 64, 128, 128))], [said()])
    assert (found.iou, found.total) == (0, 2)


def test_where_nothing_is_there_the_empty_list_is_right_and_anything_else_is_not(reward: MaskReward) -> None:
    nothing = example(square(0, 0, 0, 0))
    unparsable = RawReply("<think></think><answer>who knows</answer>", truncated=False, n_tokens=0)
    found = reward.score([nothing] * 3, [said(), said(box(1, 1, 9, 9)), unparsable])
    assert [one.iou for one in found] == [1, 0, 0]


def test_a_target_of_one_pixel_is_a_target(reward: MaskReward) -> None:
    tiny = example(square(1000, 1000, 1001, 1001, side=2048))
    assert reward.iou([tiny], [said()]) == [0]


def test_a_truncated_reply_without_an_instance_is_no_statement_of_absence(reward: MaskReward) -> None:
    cut = RawReply("<think>hm</think><answer>[", truncated=True, n_tokens=0)
    assert reward.iou([example(square(0, 0, 0, 0))], [cut]) == [0]


def test_coordinates_are_read_in_the_profile_s_frame() -> None:
    permille = MaskReward(BoxSegmenter(side_px=1000), fake_profile(coordinates="permille"))
    assert permille.iou([example(square(64, 64, 128, 128))], [said(box(250, 250, 500, 500))])[0] > 0.98


def test_what_is_not_valid_counts_on_neither_side(reward: MaskReward) -> None:
    valid = square(0, 0, 96, 256)
    truth = square(64, 64, 128, 128) & valid
    assert reward.iou([example(truth, valid=valid)], [said(box(64, 64, 128, 128))]) == [1]


def test_an_image_is_encoded_once_and_a_group_decoded_in_one_call() -> None:
    segmenter = BoxSegmenter()
    lake = example(square(64, 64, 128, 128))
    pond = example(square(0, 0, 32, 32), "b")
    replies = [
        said(box(64, 64, 128, 128)),
        said(),
        said(box(0, 0, 32, 32)),
        said(box(1, 1, 9, 9), box(99, 99, 128, 128)),
    ]
    MaskReward(segmenter, fake_profile()).score([lake, lake, pond, lake], replies)
    assert segmenter.encoded == [2]
    assert segmenter.decoded == [[3, 1]]


def test_the_order_of_replies_is_kept(reward: MaskReward) -> None:
    lake, pond = example(square(64, 64, 128, 128)), example(square(0, 0, 32, 32), "b")
    good, other = said(box(64, 64, 128, 128)), said(box(0, 0, 32, 32))
    assert reward.iou([lake, pond, lake, pond], [other, other, good, good]) == [0, 1, 1, 0]


class _Broken(BoxSegmenter):
    def _fill(self, *_: object) -> InstanceLogits:
        return InstanceLogits(np.full((4, 4), np.nan, np.float32), 0.5)


def test_a_broken_segmenter_raises_instead_of_scoring_nothing() -> None:
    with pytest.raises(MachineFault, match="NaN"):
        MaskReward(_Broken(), fake_profile()).score([example(square(64, 64, 128, 128))], [said(box(64, 64, 128, 128))])


def test_as_many_replies_as_examples(reward: MaskReward) -> None:
    with pytest.raises(ContractError, match="1 replies to 2 examples"):
        reward.score([example(square(0, 0, 9, 9))] * 2, [said()])
