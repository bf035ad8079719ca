"""Fakes of the two ports, good enough to test everything above them."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from t2s_core.errors import ContractError
from t2s_core.ports import Embeddings, Image, InstanceLogits, PromptRequest, RawReply
from t2s_core.profiles import PrompterProfile, PromptTemplate
from t2s_core.prompts import Frame, InstancePrompt


def fake_profile(**changes: object) -> PrompterProfile:
    """A profile whose replies give pixels of a 256 px square."""
    settings: dict[str, object] = {
        "name": "fake",
        "version": "1",
        "model_px": 256,
        "coordinates": "pixel",
        "tile_px": 256,
        "template": PromptTemplate(system="Look.", user="Where is {query}?"),
    }
    return PrompterProfile.model_validate(settings | changes)


def reply_text(instances: Sequence[InstancePrompt], thought: str = "I see.") -> str:
    """The reply that a flawless model would write; instances in the reply's frame."""
    entries = [{"bbox_2d": list(i.box), "positive_points": [list(p) for p in i.points]} for i in instances]
    return f"<think>{thought}</think><answer>\n```json\n{json.dumps(entries)}\n```\n</answer>"


@dataclass
class ScriptedPrompter:
    """Replies as the script says: a function of key and query that gives the text. Counts its calls."""

    script: Callable[[str, str], str]
    profile: PrompterProfile = field(default_factory=fake_profile)
    version: str = "scripted@1"
    truncated: bool = False
    calls: list[list[PromptRequest]] = field(default_factory=list)

    def reply(self, requests: Sequence[PromptRequest]) -> list[RawReply]:
        self.calls.append(list(requests))
        return [RawReply(self.script(r.key, r.query), self.truncated, 0) for r in requests]


@dataclass(frozen=True)
class BoxEmbeddings:
    frames: Sequence[Frame]

    def __len__(self) -> int:
        return len(self.frames)


@dataclass
class BoxSegmenter:
    """An ideal segmenter of rectangles: the mask is the box, at `side_px` x `side_px` logits of +-`certainty`."""

    side_px: int = 64
    certainty: float = 6.0
    predicted_iou: float = 0.9
    version: str = "boxes@1"
    encoded: list[int] = field(default_factory=list)
    """Images per call of `encode`."""
    decoded: list[list[int]] = field(default_factory=list)
    """Prompts per image, per call of `decode`."""

    def encode(self, images: Sequence[Image]) -> BoxEmbeddings:
        self.encoded.append(len(images))
        return BoxEmbeddings([Frame(image.shape[1], image.shape[0]) for image in images])

    def decode(
        self, embeddings: Embeddings, prompts_tile_px: Sequence[Sequence[InstancePrompt]]
    ) -> list[list[InstanceLogits]]:
        if len(prompts_tile_px) != len(embeddings):
            raise ContractError(f"{len(prompts_tile_px)} lists of prompts for {len(embeddings)} images")
        self.decoded.append([len(prompts) for prompts in prompts_tile_px])
        return [
            [self._fill(prompt, frame) for prompt in prompts]
            for frame, prompts in zip(embeddings.frames, prompts_tile_px, strict=True)
        ]

    def _fill(self, prompt: InstancePrompt, frame: Frame) -> InstanceLogits:
        x0, y0, x1, y1 = prompt.rescaled(frame, Frame(self.side_px, self.side_px)).box
        centres = np.arange(self.side_px) + 0.5
        inside = ((centres >= y0) & (centres < y1))[:, None] & ((centres >= x0) & (centres < x1))[None, :]
        logits = np.where(inside, np.float32(self.certainty), np.float32(-self.certainty))
        return InstanceLogits(logits.astype(np.float32), self.predicted_iou)


@dataclass(frozen=True)
class ImageEmbeddings:
    images: Sequence[Image]

    @property
    def frames(self) -> list[Frame]:
        return [Frame(image.shape[1], image.shape[0]) for image in self.images]

    def __len__(self) -> int:
        return len(self.images)


@dataclass
class BrightSegmenter:
    """An ideal segmenter of bright things: within the box the mask is what is bright, at the image's own resolution."""

    certainty: float = 6.0
    version: str = "bright@1"

    def encode(self, images: Sequence[Image]) -> ImageEmbeddings:
        return ImageEmbeddings(images)

    def decode(
        self, embeddings: Embeddings, prompts_tile_px: Sequence[Sequence[InstancePrompt]]
    ) -> list[list[InstanceLogits]]:
        assert isinstance(embeddings, ImageEmbeddings)
        return [
            [self._bright(image, prompt) for prompt in prompts]
            for image, prompts in zip(embeddings.images, prompts_tile_px, strict=True)
        ]

    def _bright(self, image: Image, prompt: InstancePrompt) -> InstanceLogits:
        rows, cols = (np.arange(n) + 0.5 for n in image.shape[:2])
        x0, y0, x1, y1 = prompt.box
        inside = ((rows >= y0) & (rows < y1))[:, None] & ((cols >= x0) & (cols < x1))[None, :]
        bright = inside & (image.min(axis=-1) > 127)
        return InstanceLogits(np.where(bright, self.certainty, -self.certainty).astype(np.float32), 1.0)
