import io
import json
from dataclasses import asdict, fields

import pyarrow.parquet as pq
import pytest
from example_sets import SAMPLES, ListedExamples, reply_of
from fakes import BoxSegmenter, ScriptedPrompter, fake_profile

from t2s_core import metrics
from t2s_core.training.evaluate import Evaluation, Row, Setting, evaluate
from t2s_core.training.evaluation_tables import (
    ablation,
    ablation_rows,
    category_rows,
    number,
    samples_parquet,
    score_rows,
    scores,
)

SETTINGS = [Setting(BoxSegmenter()), Setting(BoxSegmenter(certainty=-6, version="inverse@1"))]


def run(start: int = 0, stop: int = 6) -> list[Evaluation]:
    prompter = ScriptedPrompter(reply_of, fake_profile(model_px=64, tile_px=64))
    return evaluate(prompter, SETTINGS, ListedExamples([*SAMPLES[start:stop], "bad: no image"]))


def test_scores_are_the_metrics_of_the_rows() -> None:
    found = run()[0]
    document = scores(found)
    assert (document["n"], document["n_bad"], document["bad"]) == (6, 1, ["bad: no image"])
    assert document["giou"]["value"] == pytest.approx(3.5 / 6)
    assert document["ciou"]["value"] == pytest.approx(1312 / 1988)
    assert document["ciou_paper"]["value"] == pytest.approx(1312 / 1924)
    assert document["no_target_accuracy"]["value"] == 0.5
    assert document["format_rate"]["value"] == pytest.approx(5 / 6)
    assert {at: m["value"] for at, m in document["precision"].items()} == {"0.5": 0.5, "0.7": 0.5, "0.9": 0.5}
    assert document["statuses"] == {"ok": 4, "no_target": 1, "unparsable": 1}
    assert (document["prompter"], document["segmenter"], document["prompt_kind"]) == (
        "scripted@1", "boxes@1", "box+points",
    )  # fmt: skip
    low, high = document["giou"]["ci95"]
    assert 0 <= low < document["giou"]["value"] < high <= 1
    assert document["seconds"] == pytest.approx(sum(r.seconds for r in found.rows))


def test_categories_have_tables_of_their_own() -> None:
    table = {row["category"]: row for row in scores(run()[0])["categories"]}
    assert {name: row["n"] for name, row in table.items()} == {"water": 2, "green": 2, "built": 2}
    assert table["water"]["giou"]["value"] == 0.75
    assert table["water"]["no_target_accuracy"] == {"value": None, "ci95": [None, None]}


def test_documents_are_strict_json() -> None:
    for document in (scores(run(0, 1)[0]), ablation(run(0, 1))):
        assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert scores(run(0, 1)[0])["no_target_accuracy"]["value"] is None


def test_number_turns_nan_into_null() -> None:
    nan = float("nan")
    assert number(metrics.Metric(nan, (nan, nan))) == {"value": None, "ci95": [None, None]}
    assert number(metrics.Metric(0.5, (0.25, 0.75))) == {"value": 0.5, "ci95": [0.25, 0.75]}


def test_samples_come_back_from_parquet() -> None:
    found = run()
    table = pq.read_table(io.BytesIO(samples_parquet(found)))
    assert table.column_names == [*(f.name for f in fields(Row)), "prompt_kind", "segmenter"]
    rows = [asdict(row) for evaluation in found for row in evaluation.rows]
    assert table.drop_columns(["prompt_kind", "segmenter"]).to_pylist() == rows
    assert table["segmenter"].to_pylist() == ["boxes@1"] * 6 + ["inverse@1"] * 6


def test_an_ablation_holds_every_setting_and_its_gain_over_the_first() -> None:
    document = ablation(run())
    first, second = document["settings"]
    assert (document["n"], document["n_bad"], document["prompter"]) == (6, 1, "scripted@1")
    assert (first["segmenter"], second["segmenter"]) == ("boxes@1", "inverse@1")
    assert first["giou_gain"] == {"value": 0, "ci95": [0, 0]}
    expected = second["giou"]["value"] - first["giou"]["value"]
    assert second["giou_gain"]["value"] == pytest.approx(expected)
    assert second["giou_gain"]["ci95"][0] < expected < 0


def test_rows_to_print_are_texts() -> None:
    document = scores(run(0, 1)[0])
    printed = {row["metric"]: row for row in score_rows(document)}
    assert printed["giou"] == {"metric": "giou", "value": "0.500", "low": "0.500", "high": "0.500"}
    assert printed["no_target_accuracy"]["value"] == "none"
    assert "precision at 0.7" in printed
    assert category_rows(document)[0]["category"] == "water"
    assert category_rows({**document, "categories": []}) == []
    assert ablation_rows(ablation(run()))[0]["gain"] == "0.000 (0.000 to 0.000)"
