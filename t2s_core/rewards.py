"""What a reply is worth, judged by masks alone: the reward of Think2Seg-RS (arXiv 2512.19302), at most 4.

2 x IoU of the drawn mask + 1 if the JSON keeps the schema + 1 if the tags are right. Departures from the public code:

- An image is encoded once, whatever the number of replies about it, and all of them are decoded in one call.
- A bad answer scores; a broken machine raises (`MachineFault`), for a reward of 0 would train the model on the fault.
- Whether there is a target is decided on the original mask: a tiny one must not vanish by resizing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from t2s_core.engine import check_mask
from t2s_core.errors import ContractError
from t2s_core.masks import union, upsample
from t2s_core.metrics import count_pixels
from t2s_core.ports import InstanceLogits, RawReply, Segmenter
from t2s_core.profiles import PrompterProfile
from t2s_core.prompts import Frame, InstancePrompt
from t2s_core.replies import Answer, parse_reply, reply_format
from t2s_core.training.examples import Example

MASK_WEIGHT, SCHEMA_WEIGHT, TAGS_WEIGHT = 2.0, 1.0, 1.0


@dataclass(frozen=True, slots=True)
class Reward:
    """The parts of one reply's reward, each 0 to 1."""

    iou: float
    """Of the union of its masks with the truth. Where nothing is there: 1 for a valid `[]`, else 0."""
    schema_ok: bool
    tags_ok: bool

    @property
    def total(self) -> float:
        """0 to 4."""
        return MASK_WEIGHT * self.iou + SCHEMA_WEIGHT * self.schema_ok + TAGS_WEIGHT * self.tags_ok


@dataclass(frozen=True, slots=True)
class MaskReward:
    """Scores replies with a frozen segmenter."""

    segmenter: Segmenter
    profile: PrompterProfile
    """Of the prompter that wrote the replies."""

    def score(self, examples: Sequence[Example], replies: Sequence[RawReply]) -> list[Reward]:
        """One reward for each reply; reply i answers example i.

        Raises:
            MachineFault: The segmenter failed, or gave numbers that are none.
            ContractError: It broke its port's promise, or the lengths differ.

        """
        formats = [reply_format(reply.text, profile=self.profile) for reply in replies]
        return [
            Reward(iou, form.schema_ok, form.tags_ok)
            for iou, form in zip(self.iou(examples, replies), formats, strict=True)
        ]

    def iou(self, examples: Sequence[Example], replies: Sequence[RawReply]) -> list[float]:
        """The mask part alone, 0 to 1 each. Raises as `score` does."""
        if len(examples) != len(replies):
            raise ContractError(f"{len(replies)} replies to {len(examples)} examples")
        prompts = [self._prompts(example, reply) for example, reply in zip(examples, replies, strict=True)]
        masks = self._masks(examples, prompts)
        return [_iou(*entry) for entry in zip(examples, prompts, masks, strict=True)]

    def _prompts(self, example: Example, reply: RawReply) -> list[InstancePrompt] | None:
        """Instances in the example's pixels; None where the reply says nothing usable."""
        judged = parse_reply(reply.text, truncated=reply.truncated, profile=self.profile)
        if not isinstance(judged, Answer):
            return None
        height, width = example.mask.shape
        source, target = Frame(self.profile.reply_px, self.profile.reply_px), Frame(width, height)
        return [prompt.rescaled(source, target) for prompt in judged.instances_model_px]

    def _masks(
        self, examples: Sequence[Example], prompts: Sequence[list[InstancePrompt] | None]
    ) -> list[list[InstanceLogits]]:
        """The masks of each reply; those whose score needs none (nothing there, or nothing said) cost nothing."""
        masks: list[list[InstanceLogits]] = [[] for _ in examples]
        by_image: dict[str, list[int]] = {}
        for i, example in enumerate(examples):
            if example.has_target and prompts[i]:
                by_image.setdefault(example.image_id, []).append(i)
        if not by_image:
            return masks
        groups = list(by_image.values())
        embeddings = self.segmenter.encode([examples[group[0]].image for group in groups])
        decoded = self.segmenter.decode(embeddings, [[p for i in group for p in prompts[i] or ()] for group in groups])
        for group, found in zip(groups, decoded, strict=True):
            remaining = iter(found)
            for i in group:
                masks[i] = [next(remaining) for _ in prompts[i] or ()]
                for mask in masks[i]:
                    check_mask(mask, key=examples[i].example_id, version=self.segmenter.version)
        return masks


def _iou(example: Example, prompts: list[InstancePrompt] | None, masks: Sequence[InstanceLogits]) -> float:
    if not example.has_target:
        return float(prompts == [])
    if not masks:
        return 0.0
    drawn = upsample(union([mask.logits for mask in masks]), example.mask.shape) > 0
    if example.valid is not None:
        drawn = drawn & example.valid
    shared, joined, _, _ = count_pixels(example.mask, drawn)
    return shared / joined
