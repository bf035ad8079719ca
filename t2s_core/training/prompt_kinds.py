"""What of a reply the segmenter is shown: the paper's ablation of boxes, points and negative points.

A kind is spelled `box`, `points`, `box+points` or `box+points+negatives`, and `:N` after those with points keeps the
first N of each object's (`points:1`). Replies hold no negative points: an object's negatives are the points of the
reply's other objects, nearest first and no more than its own, so an object that stands alone has none.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from t2s_core.errors import BadInput
from t2s_core.ports import Embeddings, Image, InstanceLogits, Segmenter
from t2s_core.prompts import InstancePrompt, Point

KINDS = ("box", "points", "box+points", "box+points+negatives")
_SPELLING = re.compile(r"(box|points|box\+points(?:\+negatives)?)(?::([1-9]\d?))?")


@dataclass(frozen=True, slots=True)
class PromptKind:
    """One way to prompt. The default shows the segmenter all that the reply says."""

    name: str = "box+points"
    """One of `KINDS`."""
    n_points: int | None = None
    """How many of an object's points are kept; None for all."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a spelling. Raises `BadInput`."""
        match = _SPELLING.fullmatch(text.strip())
        if match is None or (match[1] == "box" and match[2]):
            raise BadInput(
                f"prompt kind {text!r} is none; use {', '.join(KINDS)}, and :N after those with points (points:1)"
            )
        return cls(match[1], None if match[2] is None else int(match[2]))

    def __str__(self) -> str:
        return self.name if self.n_points is None else f"{self.name}:{self.n_points}"

    @property
    def changes_nothing(self) -> bool:
        """Whether the segmenter sees what the reply says."""
        return self == PromptKind()

    def altered(self, prompts: Sequence[InstancePrompt]) -> list[InstancePrompt]:
        """The prompts of one reply as this kind shows them, in order."""
        return [self._altered(i, prompts) for i in range(len(prompts))]

    def _altered(self, place: int, prompts: Sequence[InstancePrompt]) -> InstancePrompt:
        points = () if self.name == "box" else prompts[place].points[: self.n_points]
        negatives = _nearest_others(place, prompts, len(points)) if self.name.endswith("+negatives") else ()
        return replace(prompts[place], points=points, negative_points=negatives, boxed=self.name != "points")


def _nearest_others(place: int, prompts: Sequence[InstancePrompt], limit: int) -> tuple[Point, ...]:
    """Points of the other objects, by their distance from this one's nearest point."""
    own = prompts[place].points
    others = {p for i, prompt in enumerate(prompts) if i != place for p in prompt.points} - set(own)
    return tuple(sorted(others, key=lambda p: (min(math.dist(p, mine) for mine in own), p))[:limit])


@dataclass(frozen=True, slots=True)
class PromptKindSegmenter:
    """A segmenter that is prompted in one kind, whatever the reply says. Keeps every promise of the one it wraps."""

    segmenter: Segmenter
    kind: PromptKind

    @property
    def version(self) -> str:
        """That of the wrapped one, and the kind unless it changes nothing."""
        return self.segmenter.version if self.kind.changes_nothing else f"{self.segmenter.version}+{self.kind}"

    def encode(self, images: Sequence[Image]) -> Embeddings:
        """As the wrapped one does."""
        return self.segmenter.encode(images)

    def decode(
        self, embeddings: Embeddings, prompts_tile_px: Sequence[Sequence[InstancePrompt]]
    ) -> list[list[InstanceLogits]]:
        """As the wrapped one does with the altered prompts; one mask for each prompt still."""
        return self.segmenter.decode(embeddings, [self.kind.altered(prompts) for prompts in prompts_tile_px])


class EncodeOnce:
    """A segmenter that remembers its last batch: several kinds of prompts cost one encoding."""

    def __init__(self, segmenter: Segmenter) -> None:
        """Args: the segmenter that does the work."""
        self._segmenter = segmenter
        self._images: list[Image] = []
        self._embeddings: Embeddings | None = None

    @property
    def version(self) -> str:
        """That of the wrapped one."""
        return self._segmenter.version

    def encode(self, images: Sequence[Image]) -> Embeddings:
        """The last embeddings where the very same arrays come again, else a pass of the encoder."""
        same = len(images) == len(self._images) and all(a is b for a, b in zip(images, self._images, strict=True))
        if self._embeddings is None or not same:
            self._embeddings = None  # freed first, and after a fault no old embeddings stand for new images
            self._embeddings, self._images = self._segmenter.encode(images), list(images)
        return self._embeddings

    def decode(
        self, embeddings: Embeddings, prompts_tile_px: Sequence[Sequence[InstancePrompt]]
    ) -> list[list[InstanceLogits]]:
        """As the wrapped one does."""
        return self._segmenter.decode(embeddings, prompts_tile_px)
