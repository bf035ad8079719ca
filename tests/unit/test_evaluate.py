from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from example_sets import NOTHING, SAMPLES, ListedExamples, example, rectangle, reply_of, says, with_valid
from fakes import BoxSegmenter, ScriptedPrompter, fake_profile
from hypothesis import given
from hypothesis import strategies as st

from t2s_core.engine import Engine
from t2s_core.errors import BadInput, ContractError, MachineFault
from t2s_core.training.evaluate import Evaluation, Row, Setting, answer_examples, evaluate, judge
from t2s_core.training.prompt_kinds import PromptKind

PROFILE = fake_profile(model_px=64, tile_px=64)


def prompter(script: Callable[[str, str], str] = reply_of) -> ScriptedPrompter:
    return ScriptedPrompter(script, PROFILE)


def run(listed: Sequence[Any] = SAMPLES, **options: Any) -> Evaluation:
    return evaluate(prompter(), [Setting(BoxSegmenter())], ListedExamples(listed), **options)[0]


def timeless(rows: Sequence[Row]) -> list[Row]:
    return [replace(row, seconds=0.0) for row in rows]


def test_rows_say_what_each_example_came_to() -> None:
    rows = run().rows
    assert [r.example_id for r in rows] == list("012345")
    assert [r.status for r in rows] == ["ok", "no_target", "ok", "ok", "ok", "unparsable"]
    assert [r.n_instances for r in rows] == [1, 0, 1, 2, 1, 0]
    assert [(r.intersection_px, r.union_px, r.truth_px, r.predicted_px) for r in rows] == [
        (512, 1024, 1024, 512), (0, 0, 0, 0), (400, 400, 400, 400), (400, 400, 400, 400), (0, 64, 0, 64),
        (0, 100, 100, 0),
    ]  # fmt: skip
    assert [r.iou for r in rows] == [0.5, 1, 1, 1, 0, 0]
    assert rows[5].reply == "I would rather not."
    assert rows[5].reason
    assert not rows[0].reason
    assert all(r.seconds > 0 for r in rows)
    np.testing.assert_array_equal(run().counts.iou, [r.iou for r in rows])


def test_pixels_that_are_not_valid_count_on_neither_side() -> None:
    left = rectangle(0, 0, 32, 64)
    one = with_valid(example("a", "plain", "the lake", rectangle(10, 10, 60, 30)), left)
    two = with_valid(example("b", "plain", "the forest", rectangle(40, 0, 64, 64)), left)
    rows = run([one, two]).rows
    assert (rows[0].truth_px, rows[0].predicted_px, rows[0].union_px, rows[0].intersection_px) == (440, 400, 440, 400)
    assert (rows[1].truth_px, rows[1].predicted_px) == (0, 64)


def test_an_example_without_a_valid_pixel_is_a_bad_one() -> None:
    found = run([with_valid(SAMPLES[0], NOTHING), "s/7: the file is empty", SAMPLES[2]])
    assert [r.example_id for r in found.rows] == ["2"]
    assert found.bad == ("0: none of its pixels is valid; there is nothing to score", "s/7: the file is empty")


def test_the_limit_counts_what_is_scored_and_reads_no_further() -> None:
    found = run(["bad one", *SAMPLES, "never read"], limit=2)
    assert [r.example_id for r in found.rows] == ["0", "1"]
    assert found.bad == ("bad one",)


def test_nothing_to_score_is_bad_input() -> None:
    with pytest.raises(BadInput, match=r"none of its 2 examples.*\nfirst"):
        run(["first", "second"])


def test_one_call_of_each_model_per_batch_and_one_encoding_per_image() -> None:
    asked, segmenter = prompter(), BoxSegmenter()
    evaluate(asked, [Setting(segmenter)], ListedExamples(SAMPLES), batch_size=64)
    assert [[r.query for r in call] for call in asked.calls] == [[s.query for s in SAMPLES]]
    assert segmenter.encoded == [2]  # nothing is to be drawn on the third
    assert segmenter.decoded == [[2, 3]]


def test_examples_of_one_image_stay_in_one_batch_up_to_four_times_its_size() -> None:
    asked = prompter()
    evaluate(asked, [Setting(BoxSegmenter())], ListedExamples(SAMPLES), batch_size=2)
    assert [len(call) for call in asked.calls] == [3, 2, 1]
    many = [replace(SAMPLES[0], example_id=f"m{i}") for i in range(9)]
    asked = prompter()
    evaluate(asked, [Setting(BoxSegmenter())], ListedExamples(many), batch_size=2)
    assert [len(call) for call in asked.calls] == [8, 1]


@given(st.permutations(range(6)), st.integers(1, 7))
def test_order_and_batches_change_no_row(order: list[int], batch_size: int) -> None:
    expected = {row.example_id: row for row in timeless(run().rows)}
    found = timeless(run([SAMPLES[i] for i in order], batch_size=batch_size).rows)
    assert found == [expected[str(i)] for i in order]


def test_the_same_question_twice_is_two_samples() -> None:
    twice = [SAMPLES[0], replace(SAMPLES[0], example_id="again", mask=rectangle(0, 0, 32, 16))]
    assert [r.iou for r in run(twice).rows] == [0.5, 1.0]


def test_settings_share_replies_and_embeddings() -> None:
    asked, one, other = prompter(), BoxSegmenter(), BoxSegmenter(certainty=-6.0, version="inverse@1")
    settings = [Setting(one), Setting(one, PromptKind.parse("points")), Setting(other)]
    found = evaluate(asked, settings, ListedExamples(SAMPLES), batch_size=64)
    assert len(asked.calls) == 1
    assert (one.encoded, other.encoded) == ([2], [2])
    assert len(one.decoded) == 2
    assert [(e.segmenter, str(e.kind)) for e in found] == [
        ("boxes@1", "box+points"), ("boxes@1", "points"), ("inverse@1", "box+points"),
    ]  # fmt: skip
    assert [r.iou for r in found[0].rows] == [r.iou for r in found[1].rows]
    assert found[2].rows[2].intersection_px == 0


def test_the_worst_cases_are_kept_whole_and_worst_first() -> None:
    worst = run(n_worst=3).worst
    assert [c.row.example_id for c in worst] == ["5", "4", "0"]  # of two with 0 the one with more at stake
    assert worst[2].predicted.sum() == 512
    assert worst[2].answer.reasoning == "I see."
    assert run().worst == ()


def test_progress_is_told_of_every_example() -> None:
    steps: list[int] = []
    run(batch_size=2, advance=steps.append)
    assert sum(steps) == len(SAMPLES)


def test_a_broken_machine_is_no_score() -> None:
    broken = BoxSegmenter(certainty=float("nan"))
    with pytest.raises(MachineFault):
        evaluate(prompter(), [Setting(broken)], ListedExamples(SAMPLES))

    class Forgetful(ScriptedPrompter):
        def reply(self, requests: Any) -> Any:
            return super().reply(requests)[:-1]

    with pytest.raises(ContractError, match="5 replies to 6"):
        evaluate(Forgetful(reply_of, PROFILE), [Setting(BoxSegmenter())], ListedExamples(SAMPLES))


def test_half_characters_can_be_stored() -> None:
    said = prompter(lambda _k, _q: says(thought="\ud800") + "\udfff")
    row = evaluate(said, [Setting(BoxSegmenter())], ListedExamples(SAMPLES[:1]))[0].rows[0]
    assert row.reply.endswith("</answer>?")
    row.reply.encode()


def test_answers_of_examples_are_those_of_the_evaluation() -> None:
    answers = answer_examples(Engine(prompter(), BoxSegmenter()), SAMPLES)
    assert timeless([judge(e, a).row for e, a in zip(SAMPLES, answers, strict=True)]) == timeless(run().rows)
