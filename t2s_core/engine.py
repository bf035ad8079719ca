"""The method in one call: tiles and questions to instance prompts and masks."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

import numpy as np

from t2s_core.errors import ContractError, MachineFault
from t2s_core.ports import Image, InstanceLogits, Prompter, PromptRequest, RawReply, Segmenter
from t2s_core.prompts import Frame, InstancePrompt
from t2s_core.replies import Answer, Unparsable, parse_reply


@dataclass(frozen=True, slots=True)
class TileImage:
    """A tile's pixels."""

    key: str
    """`scene/level/row/col`; unique within one call of the engine."""
    image: Image
    """(height, width, 3) uint8, RGB."""

    @property
    def frame_tile_px(self) -> Frame:
        """The frame of everything that is said about this tile."""
        height, width = self.image.shape[:2]
        return Frame(width, height)


@dataclass(frozen=True, slots=True)
class Question:
    """A query as the engine needs it."""

    query_id: str
    text: str


class AnswerStatus(StrEnum):
    """What a tile-query came to, where the machine did its part."""

    OK = "ok"
    """At least one object."""
    NO_TARGET = "no_target"
    """The model says that what is asked for is not there."""
    UNPARSABLE = "unparsable"
    """The model gave no usable answer. Not "nothing there"."""


@dataclass(frozen=True, slots=True)
class TileAnswer:
    """One tile, one question."""

    key: str
    query_id: str
    status: AnswerStatus
    reason: str
    """Why it is unparsable, or which parts of the reply were not used. Empty where there is nothing to say."""
    reply: RawReply
    reasoning: str
    prompts_tile_px: tuple[InstancePrompt, ...]
    masks: tuple[InstanceLogits, ...]
    """One for each prompt, in order."""


@dataclass(frozen=True, slots=True)
class _Read:
    """A reply that has been judged, before any mask is drawn."""

    status: AnswerStatus
    reason: str
    reasoning: str
    prompts_tile_px: tuple[InstancePrompt, ...] = ()


@dataclass(slots=True)
class EngineSeconds:
    """Wall-clock seconds that an engine has spent since it was made, calls that raised included.

    Each part ends with its results on the host or its device at rest (see `ports`), so that work which a GPU does
    later is counted where it was asked for.
    """

    prompting_s: float = 0.0
    encoding_s: float = 0.0
    """The segmenter's image encoder."""
    decoding_s: float = 0.0
    """The segmenter's mask decoder."""

    def since(self, earlier: "EngineSeconds") -> "EngineSeconds":
        """What was spent since an earlier copy (`dataclasses.replace(engine.spent)`)."""
        return EngineSeconds(
            self.prompting_s - earlier.prompting_s,
            self.encoding_s - earlier.encoding_s,
            self.decoding_s - earlier.decoding_s,
        )

    @contextmanager
    def on(self, part: Literal["prompting_s", "encoding_s", "decoding_s"]) -> Iterator[None]:
        """Count what happens within."""
        start_s = time.perf_counter()
        try:
            yield
        finally:
            setattr(self, part, getattr(self, part) + time.perf_counter() - start_s)


@dataclass(frozen=True, slots=True)
class Engine:
    """A prompter and a segmenter. One instance per worker process, never pickled, one thread at a time."""

    prompter: Prompter
    segmenter: Segmenter
    spent: EngineSeconds = field(default_factory=EngineSeconds, compare=False)
    """Only grows; what one call took is the difference of two copies."""

    def answer(self, tiles: Sequence[TileImage], questions: Sequence[Question]) -> list[TileAnswer]:
        """Ask every question of every tile; tile by tile, within a tile in the order of the questions.

        All questions go to the prompter in one call. Only tiles with an object are encoded, each once for all its
        questions, and decoded in one call.

        Raises:
            MachineFault: A model gave no answer or numbers that are none; the batch may be retried.
            ContractError: An implementation broke its port's promise.

        """
        requests = [PromptRequest(tile.key, tile.image, question.text) for tile in tiles for question in questions]
        with self.spent.on("prompting_s"):
            replies = self.prompter.reply(requests)
        if len(replies) != len(requests):
            raise ContractError(f"{self.prompter.version} gave {len(replies)} replies to {len(requests)} requests")
        n = len(questions)
        grid = [[self._read(tile, reply) for reply in replies[i * n : (i + 1) * n]] for i, tile in enumerate(tiles)]
        masks = self._masks(tiles, [[p for read in row for p in read.prompts_tile_px] for row in grid])
        answers = []
        for i, (tile, row) in enumerate(zip(tiles, grid, strict=True)):
            remaining = iter(masks[i])
            for j, (question, read) in enumerate(zip(questions, row, strict=True)):
                answers.append(
                    TileAnswer(
                        key=tile.key,
                        query_id=question.query_id,
                        status=read.status,
                        reason=read.reason,
                        reply=replies[i * n + j],
                        reasoning=read.reasoning,
                        prompts_tile_px=read.prompts_tile_px,
                        masks=tuple(next(remaining) for _ in read.prompts_tile_px),
                    )
                )
        return answers

    def _read(self, tile: TileImage, reply: RawReply) -> _Read:
        profile = self.prompter.profile
        judged = parse_reply(reply.text, truncated=reply.truncated, profile=profile)
        match judged:
            case Unparsable():
                return _Read(AnswerStatus.UNPARSABLE, judged.reason, judged.reasoning)
            case Answer():
                frame_reply_px = Frame(profile.reply_px, profile.reply_px)
                return _Read(
                    status=AnswerStatus.OK if judged.instances_model_px else AnswerStatus.NO_TARGET,
                    reason="; ".join(judged.dropped),
                    reasoning=judged.reasoning,
                    prompts_tile_px=tuple(
                        p.rescaled(frame_reply_px, tile.frame_tile_px) for p in judged.instances_model_px
                    ),
                )

    def _masks(
        self, tiles: Sequence[TileImage], prompts_tile_px: Sequence[Sequence[InstancePrompt]]
    ) -> list[list[InstanceLogits]]:
        """One list per tile; only tiles with prompts reach the segmenter."""
        wanted = [i for i, prompts in enumerate(prompts_tile_px) if prompts]
        masks: list[list[InstanceLogits]] = [[] for _ in tiles]
        if not wanted:
            return masks
        with self.spent.on("encoding_s"):
            embeddings = self.segmenter.encode([tiles[i].image for i in wanted])
        frames = [tiles[i].frame_tile_px for i in wanted]
        if len(embeddings) != len(wanted) or list(embeddings.frames) != frames:
            raise ContractError(
                f"{self.segmenter.version} encoded frames {list(embeddings.frames)} of images with frames {frames}"
            )
        with self.spent.on("decoding_s"):
            decoded = self.segmenter.decode(embeddings, [prompts_tile_px[i] for i in wanted])
        if len(decoded) != len(wanted):
            raise ContractError(f"{self.segmenter.version} decoded {len(decoded)} images of {len(wanted)}")
        for i, found in zip(wanted, decoded, strict=True):
            key, n = tiles[i].key, len(prompts_tile_px[i])
            if len(found) != n:
                raise ContractError(f"{self.segmenter.version} gave {len(found)} masks to {n} prompts of {key}")
            for mask in found:
                check_mask(mask, key=key, version=self.segmenter.version)
            masks[i] = list(found)
        return masks


def check_mask(mask: InstanceLogits, *, key: str, version: str) -> None:
    """Hold a segmenter to what its port promises.

    Raises:
        ContractError: Another type or shape than float32 (h, w), or a predicted IoU outside 0..1.
        MachineFault: NaN or infinite numbers.

    """
    if mask.logits.ndim != 2 or mask.logits.dtype != np.float32:  # noqa: PLR2004
        raise ContractError(
            f"{version} gave logits {mask.logits.dtype}{mask.logits.shape} for {key}; the port promises float32 (h, w)"
        )
    # A frozen network has no reason to leave the finite numbers: memory, a driver or a precision did.
    if not np.isfinite(mask.logits).all() or not np.isfinite(mask.predicted_iou):
        raise MachineFault(f"NaN or infinite logits from {version} for {key}")
    if not 0 <= mask.predicted_iou <= 1:
        raise ContractError(f"{version} gave predicted_iou={mask.predicted_iou} for {key}; 0 to 1")
