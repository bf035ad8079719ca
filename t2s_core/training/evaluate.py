"""How good a prompter and a segmenter are on a set of examples: one greedy pass, through the engine that runs use.

The prompter replies once to every example; the same replies are then judged and drawn under each setting (a segmenter
and a kind of prompts), so that settings differ in nothing else and an ablation costs one pass of the prompter.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from t2s_core.engine import Engine, Question, TileAnswer, TileImage
from t2s_core.errors import BadInput, ContractError
from t2s_core.masks import union, upsample
from t2s_core.metrics import PixelCounts, count_pixels, pixel_counts
from t2s_core.ports import Prompter, PromptRequest, RawReply, Segmenter
from t2s_core.profiles import PrompterProfile
from t2s_core.training.examples import Example, ExampleSet, usable
from t2s_core.training.prompt_kinds import EncodeOnce, PromptKind, PromptKindSegmenter

BATCH_SIZE = 16
_MAX_BATCHES_OF_ONE_IMAGE = 4
_NOT_ASKED = RawReply("[]", truncated=False, n_tokens=0)


@dataclass(frozen=True, slots=True)
class Row:
    """One example, scored. Its fields are the columns of the table of samples. Counts are of valid pixels."""

    example_id: str
    image_id: str
    category: str
    query: str
    status: str
    """`ok`, `no_target` or `unparsable`, as `engine.AnswerStatus` says."""
    reason: str
    """Why it is unparsable, or which parts of the reply were not used."""
    reply: str
    n_instances: int
    intersection_px: int
    union_px: int
    truth_px: int
    predicted_px: int
    iou: float
    """Two empty masks have 1. An unparsable reply predicts nothing."""
    seconds: float
    """An equal share of what its batch took: the prompter's reply, and the segmenter's masks under this setting. What
    an earlier setting has encoded costs later ones nothing."""


@dataclass(frozen=True, slots=True)
class Case:
    """One example with all that there is to see of it."""

    example: Example
    answer: TileAnswer
    predicted: NDArray[np.bool_]
    """(height, width): the union of the masks at the example's resolution; nothing where it is not valid."""
    row: Row


@dataclass(frozen=True, slots=True)
class Setting:
    """What may differ from one evaluation of the same replies to another."""

    segmenter: Segmenter
    kind: PromptKind = PromptKind()  # noqa: RUF009 -- frozen


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What one setting came to."""

    dataset: str
    """`ExampleSet.name`."""
    fingerprint: str
    """`ExampleSet.fingerprint`."""
    prompter: str
    """Version."""
    segmenter: str
    """Version, without the kind of prompts."""
    kind: PromptKind
    rows: tuple[Row, ...]
    """In the order of the set."""
    bad: tuple[str, ...]
    """A line for each example that could not be used."""
    worst: tuple[Case, ...]
    """The lowest IoUs, lowest first; of equal ones those where most pixels are at stake."""

    @property
    def counts(self) -> PixelCounts:
        """What all mask metrics are made of, in the order of the rows."""
        return counts_of(self.rows)


def evaluate(
    prompter: Prompter,
    settings: Sequence[Setting],
    examples: ExampleSet,
    *,
    limit: int | None = None,
    batch_size: int = BATCH_SIZE,
    n_worst: int = 0,
    advance: Callable[[int], None] = lambda _n: None,
) -> list[Evaluation]:
    """Score usable examples under each setting.

    Args:
        prompter: Asked once about each example, whatever the number of settings.
        settings: At least one. Those of one segmenter share its embeddings.
        examples: Read once, in order, at most a few batches in memory.
        limit: Examples that are scored at most.
        batch_size: Examples in a call of the models; those of one image stay together, up to four times as many.
        n_worst: Cases kept whole for a gallery.
        advance: Told after each batch how many examples it had.

    Returns:
        One evaluation for each setting, in order; all have the same examples.

    Raises:
        BadInput: No example can be used.
        MachineFault: A model gave no answer. What was scored before is lost: a part of a test set is no test set.
        ContractError: A model broke its port's promise.

    """
    bad: list[str] = []
    shared = {id(setting.segmenter): EncodeOnce(setting.segmenter) for setting in settings}
    tables: list[_Table] = [_Table(n_worst) for _ in settings]
    for batch in _batches(islice(_scorable(examples, bad), limit), batch_size):
        started_s = time.perf_counter()
        replies = _replies(prompter, batch)
        prompter_s = time.perf_counter() - started_s
        for setting, table in zip(settings, tables, strict=True):
            started_s = time.perf_counter()
            segmenter = PromptKindSegmenter(shared[id(setting.segmenter)], setting.kind)
            answers = _answer(Engine(_Written(prompter.profile, prompter.version, replies), segmenter), batch)
            seconds = (prompter_s + time.perf_counter() - started_s) / len(batch)
            for example, answer in zip(batch, answers, strict=True):
                table.add(judge(example, answer, seconds=seconds))
        advance(len(batch))
    if not tables[0].rows:
        raise BadInput(f"{examples.name}: none of its {len(examples)} examples can be used", *bad[:10])
    return [
        Evaluation(
            dataset=examples.name,
            fingerprint=examples.fingerprint,
            prompter=prompter.version,
            segmenter=setting.segmenter.version,
            kind=setting.kind,
            rows=tuple(table.rows),
            bad=tuple(bad),
            worst=tuple(table.worst),
        )
        for setting, table in zip(settings, tables, strict=True)
    ]


def answer_examples(engine: Engine, examples: Sequence[Example]) -> list[TileAnswer]:
    """One answer for each example, in order: one call of the prompter, and one encoding of each image.

    Raises `MachineFault` and `ContractError` as the engine does.
    """
    replies = _replies(engine.prompter, examples)
    profile, version = engine.prompter.profile, engine.prompter.version
    return _answer(Engine(_Written(profile, version, replies), engine.segmenter), examples)


def judge(example: Example, answer: TileAnswer, *, seconds: float = 0.0) -> Case:
    """Hold an answer against the truth. Pixels that are not valid count on neither side."""
    predicted = np.zeros(example.mask.shape, np.bool_)
    if answer.masks:
        predicted = upsample(union([mask.logits for mask in answer.masks]), example.mask.shape) > 0
    truth = example.mask
    if example.valid is not None:
        truth, predicted = truth & example.valid, predicted & example.valid
    shared, either, n_truth, n_predicted = count_pixels(truth, predicted)
    row = Row(
        example_id=_storable(example.example_id),
        image_id=_storable(example.image_id),
        category=_storable(example.category),
        query=_storable(example.query),
        status=answer.status.value,
        reason=_storable(answer.reason),
        reply=_storable(answer.reply.text),
        n_instances=len(answer.masks),
        intersection_px=shared,
        union_px=either,
        truth_px=n_truth,
        predicted_px=n_predicted,
        iou=shared / either if either else 1.0,
        seconds=seconds,
    )
    return Case(example, answer, predicted, row)


def counts_of(rows: Sequence[Row]) -> PixelCounts:
    """The pixel counts of some rows, in their order."""
    return pixel_counts(
        [row.intersection_px for row in rows],
        [row.union_px for row in rows],
        [row.truth_px for row in rows],
        [row.predicted_px for row in rows],
    )


class _Table:
    """Rows of one setting, and its worst cases so far: all of the others' pixels are let go."""

    def __init__(self, n_worst: int) -> None:
        self.rows: list[Row] = []
        self.worst: list[Case] = []
        self._n_worst = n_worst

    def add(self, case: Case) -> None:
        self.rows.append(case.row)
        self.worst.append(case)
        self.worst.sort(key=lambda c: (c.row.iou, -c.row.union_px))
        del self.worst[self._n_worst :]


@dataclass(frozen=True, slots=True)
class _Written:
    """A prompter that has already replied.

    The engine asks every question of every tile, and examples ask each image their own. Pairs that no example asks for
    get an empty list: they reach neither model, and `_answer` drops them.
    """

    profile: PrompterProfile
    version: str
    replies: Mapping[tuple[str, str], RawReply]
    """By tile key and example_id, which stands for the question."""

    def reply(self, requests: Sequence[PromptRequest]) -> list[RawReply]:
        return [self.replies.get((request.key, request.query), _NOT_ASKED) for request in requests]


def _replies(prompter: Prompter, batch: Sequence[Example]) -> dict[tuple[str, str], RawReply]:
    """By image_id and example_id."""
    requests = [PromptRequest(example.image_id, example.image, example.query) for example in batch]
    replies = prompter.reply(requests)
    if len(replies) != len(requests):
        raise ContractError(f"{prompter.version} gave {len(replies)} replies to {len(requests)} requests")
    return {(e.image_id, e.example_id): reply for e, reply in zip(batch, replies, strict=True)}


def _answer(engine: Engine, batch: Sequence[Example]) -> list[TileAnswer]:
    """One answer for each example, by an engine whose prompter is `_Written`."""
    images = {example.image_id: example.image for example in batch}
    tiles = [TileImage(image_id, image) for image_id, image in images.items()]
    answers = engine.answer(tiles, [Question(example.example_id, example.example_id) for example in batch])
    by_pair = {(answer.key, answer.query_id): answer for answer in answers}
    return [by_pair[example.image_id, example.example_id] for example in batch]


def _scorable(examples: ExampleSet, bad: list[str]) -> Iterator[Example]:
    for example in usable(examples, bad.append):
        if example.valid is not None and not example.valid.any():
            bad.append(f"{example.example_id}: none of its pixels is valid; there is nothing to score")
        else:
            yield example


def _batches(examples: Iterator[Example], size: int) -> Iterator[list[Example]]:
    """In order; a batch that is full goes on while its last image does, so that few images are encoded twice."""
    batch: list[Example] = []
    for example in examples:
        full = len(batch) >= size and example.image_id != batch[-1].image_id
        if full or len(batch) >= size * _MAX_BATCHES_OF_ONE_IMAGE:
            yield batch
            batch = []
        batch.append(example)
    if batch:
        yield batch


def _storable(text: str) -> str:
    """Half characters (lone surrogates), which JSON may hold and UTF-8 may not, become question marks."""
    return text.encode("utf-8", "replace").decode()
