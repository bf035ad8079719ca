from collections.abc import Sequence

import numpy as np
import pytest
from example_sets import picture
from fakes import BoxEmbeddings, BoxSegmenter
from hypothesis import given
from hypothesis import strategies as st

from t2s_core.errors import BadInput, MachineFault
from t2s_core.ports import Embeddings, Image, InstanceLogits
from t2s_core.prompts import Frame, InstancePrompt
from t2s_core.training.prompt_kinds import KINDS, EncodeOnce, PromptKind, PromptKindSegmenter

NEAR = InstancePrompt((0, 0, 10, 10), ((2, 2), (8, 8)))
MIDDLE = InstancePrompt((20, 0, 30, 10), ((22, 2), (28, 8)))
FAR = InstancePrompt((50, 50, 60, 60), ((52, 52), (58, 58)))
REPLY = [NEAR, MIDDLE, FAR]


@pytest.mark.parametrize("text", [*KINDS, "points:1", "box+points:3", "box+points+negatives:1"])
def test_spellings_are_read_and_written_alike(text: str) -> None:
    assert str(PromptKind.parse(text)) == text


@pytest.mark.parametrize(
    "text", ["", "boxes", "box:1", "points:0", "points+box", "points:", "negatives", "points+negatives"]
)
def test_other_spellings_are_bad_input(text: str) -> None:
    with pytest.raises(BadInput, match="use box, points"):
        PromptKind.parse(text)


def test_the_default_shows_what_the_reply_says() -> None:
    assert PromptKind().altered(REPLY) == REPLY
    assert PromptKindSegmenter(BoxSegmenter(), PromptKind()).version == "boxes@1"


def test_boxes_alone_points_alone_and_fewer_points() -> None:
    assert PromptKind.parse("box").altered([NEAR]) == [InstancePrompt(NEAR.box, ())]
    assert PromptKind.parse("points").altered([NEAR]) == [InstancePrompt(NEAR.box, NEAR.points, boxed=False)]
    assert PromptKind.parse("points:1").altered([NEAR]) == [InstancePrompt(NEAR.box, ((2, 2),), boxed=False)]
    assert PromptKind.parse("box+points:1").altered([NEAR]) == [InstancePrompt(NEAR.box, ((2, 2),))]


def test_negatives_are_the_nearest_points_of_the_other_objects() -> None:
    near, middle, far = PromptKind.parse("box+points+negatives").altered(REPLY)
    assert near.negative_points == ((22, 2), (28, 8))
    assert middle.negative_points == ((8, 8), (2, 2))
    assert far.negative_points == ((28, 8), (22, 2))
    assert [p.points for p in (near, middle, far)] == [p.points for p in REPLY]
    assert PromptKind.parse("box+points+negatives:1").altered(REPLY)[0].negative_points == ((22, 2),)
    assert PromptKind.parse("box+points+negatives").altered([NEAR]) == [NEAR]


def test_an_objects_own_point_is_never_its_negative() -> None:
    twin = InstancePrompt((0, 0, 40, 40), ((2, 2), (30, 30)))
    assert PromptKind.parse("box+points+negatives").altered([NEAR, twin])[0].negative_points == ((30, 30),)


@given(st.sampled_from(KINDS), st.one_of(st.none(), st.integers(1, 3)), st.integers(0, 3))
def test_every_kind_leaves_one_prompt_per_object_with_something_to_see(kind: str, n: int | None, count: int) -> None:
    altered = PromptKind(kind, None if kind == "box" else n).altered(REPLY[:count])
    assert [p.box for p in altered] == [p.box for p in REPLY[:count]]
    assert all(p.boxed or p.points for p in altered)
    assert all(len(p.negative_points) <= len(p.points) for p in altered)


def test_rescaling_keeps_what_a_kind_has_set() -> None:
    prompt = InstancePrompt((0, 0, 8, 8), ((2, 4),), ((6, 8),), boxed=False)
    assert prompt.rescaled(Frame(8, 8), Frame(16, 4)) == InstancePrompt(
        (0, 0, 16, 4), ((4, 2),), ((12, 4),), boxed=False
    )


class Seen(BoxSegmenter):
    """Remembers the prompts that reach it."""

    def decode(
        self, embeddings: Embeddings, prompts_tile_px: Sequence[Sequence[InstancePrompt]]
    ) -> list[list[InstanceLogits]]:
        self.prompts = prompts_tile_px
        return super().decode(embeddings, prompts_tile_px)


def test_the_wrapped_segmenter_gets_altered_prompts_and_its_version_says_so() -> None:
    seen = Seen()
    segmenter = PromptKindSegmenter(seen, PromptKind.parse("points:1"))
    masks = segmenter.decode(segmenter.encode([picture(0), picture(1)]), [REPLY, []])
    assert [len(m) for m in masks] == [3, 0]
    assert [(p.points, p.boxed) for p in seen.prompts[0]] == [(p.points[:1], False) for p in REPLY]
    assert segmenter.version == "boxes@1+points:1"


def test_the_very_same_images_are_encoded_once() -> None:
    inner = BoxSegmenter()
    once, images = EncodeOnce(inner), [picture(0), picture(1)]
    first = once.encode(images)
    assert once.encode(list(images)) is first
    assert inner.encoded == [2]
    once.encode([images[0], np.array(images[1])])  # an equal copy is another image: comparing pixels costs more
    once.encode(images[:1])
    assert inner.encoded == [2, 2, 1]
    assert once.version == inner.version


def test_after_a_fault_nothing_old_is_given_out() -> None:
    class Fails(BoxSegmenter):
        def encode(self, images: Sequence[Image]) -> BoxEmbeddings:
            if len(images) == 1:
                raise MachineFault("gone")
            return super().encode(images)

    once, images = EncodeOnce(Fails()), [picture(0), picture(1)]
    first = once.encode(images)
    with pytest.raises(MachineFault):
        once.encode(images[:1])
    assert once.encode(images) is not first
