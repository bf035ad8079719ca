from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from fakes import BoxSegmenter, ScriptedPrompter, fake_profile, reply_text

from t2s_core.engine import AnswerStatus, Engine, EngineSeconds, Question, TileImage
from t2s_core.errors import ContractError, MachineFault
from t2s_core.ports import InstanceLogits
from t2s_core.prompts import InstancePrompt

A = InstancePrompt((64.0, 64.0, 128.0, 192.0), ((96.0, 96.0), (100.0, 120.0)))
B = InstancePrompt((160.0, 0.0, 256.0, 64.0), ((200.0, 20.0), (240.0, 40.0)))
TILES = [TileImage(f"s/0/0/{i}", np.zeros((200, 100 * (i + 1), 3), np.uint8)) for i in range(3)]
QUESTIONS = [Question("q-one", "one"), Question("q-two", "two"), Question("q-odd", "odd")]
SCRIPT = {
    ("s/0/0/0", "one"): reply_text([A, B]),
    ("s/0/0/0", "two"): reply_text([B]),
    ("s/0/0/2", "two"): reply_text([A]),
}


def script(key: str, query: str) -> str:
    return "hm" if query == "odd" else SCRIPT.get((key, query), reply_text([]))


def test_answers_come_tile_by_tile_in_the_order_of_the_questions() -> None:
    answers = Engine(ScriptedPrompter(script), BoxSegmenter()).answer(TILES, QUESTIONS)
    assert [(a.key, a.query_id) for a in answers] == [(t.key, q.query_id) for t in TILES for q in QUESTIONS]
    statuses = ["ok", "ok", "unparsable", "no_target", "no_target", "unparsable", "no_target", "ok", "unparsable"]
    assert [a.status for a in answers] == statuses
    assert [len(a.masks) for a in answers] == [2, 1, 0, 0, 0, 0, 0, 1, 0]
    assert all(a.reason for a in answers if a.status is AnswerStatus.UNPARSABLE)
    assert all(len(a.prompts_tile_px) == len(a.masks) for a in answers)


def test_one_prompter_call_and_one_encoding_of_tiles_that_hold_something() -> None:
    prompter, segmenter = ScriptedPrompter(script), BoxSegmenter()
    Engine(prompter, segmenter).answer(TILES, QUESTIONS)
    assert [len(call) for call in prompter.calls] == [9]
    assert segmenter.encoded == [2]
    assert segmenter.decoded == [[3, 1]]


def test_nothing_found_touches_no_segmenter() -> None:
    segmenter = BoxSegmenter()
    Engine(ScriptedPrompter(lambda _k, _q: "[]"), segmenter).answer(TILES, QUESTIONS)
    assert segmenter.encoded == []
    assert Engine(ScriptedPrompter(script), segmenter).answer([], QUESTIONS) == []
    assert Engine(ScriptedPrompter(script), segmenter).answer(TILES, []) == []


def test_prompts_arrive_in_tile_pixels_and_masks_with_their_prompts() -> None:
    answer = Engine(ScriptedPrompter(script), BoxSegmenter(side_px=64)).answer(TILES[:1], QUESTIONS[:1])[0]
    assert answer.prompts_tile_px[0].box == (25.0, 50.0, 50.0, 150.0)
    first, second = (mask.logits > 0 for mask in answer.masks)
    assert first[16:48, 16:32].all()
    assert first.sum() == 32 * 16
    assert second[:16, 40:].all()
    assert second.sum() == 16 * 24


def test_permille_replies_are_rescaled_from_their_own_frame() -> None:
    prompter = ScriptedPrompter(
        lambda _k, _q: reply_text([InstancePrompt((0, 0, 500, 1000), ((250, 500),))]),
        profile=fake_profile(coordinates="permille"),
    )
    answer = Engine(prompter, BoxSegmenter()).answer(TILES[:1], QUESTIONS[:1])[0]
    assert answer.prompts_tile_px[0].box == (0.0, 0.0, 50.0, 200.0)


def spoil(change: Callable[[InstanceLogits], InstanceLogits]) -> BoxSegmenter:
    class Spoiled(BoxSegmenter):
        def _fill(self, *args: object) -> InstanceLogits:
            return change(super()._fill(*args))  # type: ignore[arg-type]

    return Spoiled()


def test_broken_numbers_are_a_machine_fault_and_never_a_bad_answer() -> None:
    nan = spoil(lambda m: InstanceLogits(m.logits * np.float32("nan"), m.predicted_iou))
    with pytest.raises(MachineFault, match="s/0/0/0"):
        Engine(ScriptedPrompter(script), nan).answer(TILES, QUESTIONS)
    with pytest.raises(MachineFault):
        Engine(ScriptedPrompter(script), spoil(lambda m: replace(m, predicted_iou=float("nan")))).answer(
            TILES, QUESTIONS
        )


def test_broken_promises_are_contract_errors() -> None:
    for change in (
        lambda m: replace(m, logits=m.logits.astype(np.float64)),
        lambda m: replace(m, logits=m.logits[None]),
        lambda m: replace(m, predicted_iou=1.5),
    ):
        with pytest.raises(ContractError):
            Engine(ScriptedPrompter(script), spoil(change)).answer(TILES, QUESTIONS)

    class Forgetful(ScriptedPrompter):
        def reply(self, requests):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
            return super().reply(requests)[:-1]

    with pytest.raises(ContractError, match="8 replies to 9"):
        Engine(Forgetful(script), BoxSegmenter()).answer(TILES, QUESTIONS)

    class Lossy(BoxSegmenter):
        def decode(self, *args):  # type: ignore[no-untyped-def]  # noqa: ANN002, ANN202
            return [masks[:-1] for masks in super().decode(*args)]

    with pytest.raises(ContractError, match="masks to 3 prompts"):
        Engine(ScriptedPrompter(script), Lossy()).answer(TILES, QUESTIONS)


def test_seconds_are_counted_by_part_even_where_a_call_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 0.0

    def passing(seconds: float) -> None:
        nonlocal now_s
        now_s += seconds

    class SlowPrompter(ScriptedPrompter):
        def reply(self, *args):  # type: ignore[no-untyped-def]  # noqa: ANN002, ANN202
            passing(1.0)
            return super().reply(*args)

    class SlowSegmenter(BoxSegmenter):
        def encode(self, *args):  # type: ignore[no-untyped-def]  # noqa: ANN002, ANN202
            passing(0.5)
            return super().encode(*args)

        def decode(self, *args):  # type: ignore[no-untyped-def]  # noqa: ANN002, ANN202
            passing(0.25)
            if len(self.decoded) == 1:
                raise MachineFault("gone")
            return super().decode(*args)

    monkeypatch.setattr("t2s_core.engine.time.perf_counter", lambda: now_s)
    engine = Engine(SlowPrompter(script), SlowSegmenter())
    engine.answer(TILES, QUESTIONS)
    assert engine.spent == EngineSeconds(1.0, 0.5, 0.25)
    first = replace(engine.spent)
    with pytest.raises(MachineFault):
        engine.answer(TILES, QUESTIONS)
    assert engine.spent == EngineSeconds(2.0, 1.0, 0.5)
    assert engine.spent.since(first) == EngineSeconds(1.0, 0.5, 0.25)
