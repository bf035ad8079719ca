"""The tables of the bundled pair, on replies made from the truth."""

import pytest
from fakes import BoxSegmenter, ScriptedPrompter, reply_text

from t2s_core.bundled.build.evaluate import Table, answer, score
from t2s_core.engine import Engine
from t2s_core.prompts import InstancePrompt
from t2s_core.world.samples import Sample, samples

KEYS = [
    "n", "giou", "ciou", "giou_where_present", "no_target_accuracy", "answers_where_present", "format_rate",
    "named_right", "counted_right", "by_category", "by_target_where_present",
]  # fmt: skip


@pytest.fixture(scope="module")
def chosen() -> list[Sample]:
    found = {sample.query.text: sample for sample in samples("val", 20, 0.5)}
    return list(found.values())


def truth(sample: Sample) -> str:
    prompts = [
        InstancePrompt(tuple(map(float, one.box_tile_px)), tuple((float(x), float(y)) for x, y in one.points_tile_px))  # type: ignore[arg-type]
        for one in sample.instances
    ]
    return reply_text(prompts, f"{sample.query.name}: here")


def table(chosen: list[Sample], replies: dict[str, str]) -> Table:
    engine = Engine(ScriptedPrompter(lambda _key, query: replies[query]), BoxSegmenter(side_px=256))
    return score(chosen, answer(engine, chosen))


def test_true_prompts_score_as_well_as_boxes_can(chosen: list[Sample]) -> None:
    found = table(chosen, {s.query.text: truth(s) for s in chosen})
    assert list(found) == KEYS
    present = sum(bool(s.instances) for s in chosen)
    assert 0 < present < len(chosen) == found["n"]
    assert found["no_target_accuracy"] == found["format_rate"] == {"value": 1.0, "ci95": [1.0, 1.0]}
    assert found["named_right"] == found["answers_where_present"] == 1
    assert found["giou_where_present"] > 0.3  # type: ignore[operator]
    assert sum(n for _, n in found["by_target_where_present"].values()) == present  # type: ignore[attr-defined]
    assert sum(n for _, n in found["by_category"].values()) == len(chosen)  # type: ignore[attr-defined]


def test_babble_and_silence_show_in_their_own_numbers(chosen: list[Sample]) -> None:
    babble = table(chosen, {s.query.text: "hm" for s in chosen})
    assert babble["format_rate"]["value"] == 0  # type: ignore[index]
    assert babble["giou_where_present"] == 0
    silence = table(chosen, {s.query.text: reply_text([]) for s in chosen})
    assert silence["format_rate"]["value"] == 1  # type: ignore[index]
    assert silence["answers_where_present"] == silence["named_right"] == 0
    assert silence["giou"]["value"] == pytest.approx(sum(not s.instances for s in chosen) / len(chosen), abs=1e-3)  # type: ignore[index]
