"""`t2s evaluate` and its flow, on examples in memory, recorded replies and a tiny SAM with random weights."""

import asyncio
import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow.parquet as pq
import pytest
from example_sets import REPLIES, SAMPLES, ListedExamples
from fakes import fake_profile
from tiny_models import sam_model, save_segmenter

from t2s_core.errors import BadInput

# Read when Prefect is imported: a busy machine needs longer than its 20 s, and tests report to nobody.
os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")

METRICS = ("giou", "ciou", "ciou_paper", "no_target_accuracy", "format_rate")


@dataclass(frozen=True)
class Models:
    prompter: str
    segmenter: str
    other_segmenter: str


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    folder = tmp_path_factory.mktemp("models")
    lines: list[object] = [{"profile": fake_profile(model_px=64, tile_px=64).model_dump()}]
    lines += [{"tile": tile, "query": query, "reply": reply} for (tile, query), reply in REPLIES.items()]
    (folder / "replies.jsonl").write_text("\n".join(map(json.dumps, lines)))
    sams = [save_segmenter(folder / f"sam{seed}", sam_model(seed=seed)) for seed in (6, 7)]
    return Models(f"recorded:{folder / 'replies.jsonl'}", *(f"sam_hf:{sam}" for sam in sams))


@pytest.fixture(autouse=True)
def opening(monkeypatch: pytest.MonkeyPatch) -> None:
    """A data set by the name `listed`, in place of those that lie on disks."""

    def open_examples(dataset: str, *, root: Path | None, split: str, limit: int | None = None) -> ListedExamples:
        if dataset != "listed":
            raise BadInput(f"{dataset!r} is no data set")
        return ListedExamples([*SAMPLES, "listed/9: no image"], name=f"listed/{split}")

    module = ModuleType("t2s_core.training.datasets.opening")
    module.open_examples = open_examples  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)


Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def t2s(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """`t2s evaluate` in this process: exit code, stdout, stderr."""
    from flows.cli.app import main

    def command(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["t2s", "evaluate", *map(str, arguments)])
        with pytest.raises(SystemExit) as ending:
            main()
        captured = capsys.readouterr()
        return int(ending.value.code or 0), captured.out, captured.err

    return command


def options(models: Models) -> list[str]:
    return ["--dataset", "listed", "--prompter", models.prompter, "--segmenter", models.segmenter, "--device", "cpu"]


def test_json_is_all_that_stdout_carries(t2s: Command, models: Models) -> None:
    code, out, err = t2s(*options(models), "--json")
    assert code == 0
    document = json.loads(out)
    assert (document["dataset"], document["n"], document["n_bad"]) == ("listed/test", 6, 1)
    for name in METRICS:
        low, high = document[name]["ci95"]
        assert 0 <= low <= document[name]["value"] <= high <= 1
    assert document["format_rate"]["value"] == pytest.approx(5 / 6)
    assert document["no_target_accuracy"]["value"] == 0.5
    assert "listed/9: no image" in err
    assert "evaluate listed/test: 0 of 7 samples" in err


def test_everything_is_written_to_out(t2s: Command, models: Models, tmp_path: Path) -> None:
    code, out, _ = t2s(*options(models), "--limit", 4, "--split", "val", "--out", tmp_path / "scores", "--json")
    assert code == 0
    document = json.loads(out)
    written = ["gallery.html", "samples.parquet", "scores.json", "worst.jpg"]
    assert sorted(p.name for p in (tmp_path / "scores").iterdir()) == written
    assert json.loads((tmp_path / "scores" / "scores.json").read_text()) == document
    rows = pq.read_table(tmp_path / "scores" / "samples.parquet").to_pylist()
    assert [row["example_id"] for row in rows] == list("0123")
    assert document["giou"]["value"] == pytest.approx(sum(row["iou"] for row in rows) / 4)
    assert "4 worst of 4 samples" in (tmp_path / "scores" / "gallery.html").read_text()


def test_an_ablation_is_one_table_of_all_combinations(t2s: Command, models: Models, tmp_path: Path) -> None:
    axes = [
        "prompt-kind=box,points:1",
        "prompt-kind=box+points",
        f"segmenter={models.segmenter},{models.other_segmenter}",
    ]
    arguments = [*options(models), "--out", tmp_path, *(part for axis in axes for part in ("--ablate", axis))]
    code, out, _ = t2s(*arguments, "--json")
    assert code == 0
    document = json.loads(out)
    assert json.loads((tmp_path / "ablation.json").read_text()) == document
    settings = document["settings"]
    assert [s["prompt_kind"] for s in settings] == ["box", "points:1", "box+points"] * 2
    assert len({s["segmenter"] for s in settings}) == 2
    assert len({s["giou"]["value"] for s in settings}) > 2  # random SAMs, but what they are shown matters
    assert len({s["format_rate"]["value"] for s in settings}) == 1
    rows = pq.read_table(tmp_path / "samples.parquet").to_pylist()
    assert len(rows) == 36
    assert {row["reply"] for row in rows} == set(REPLIES.values())
    assert not (tmp_path / "scores.json").exists()
    one = json.loads(t2s(*options(models), "--prompt-kind", "box+points", "--json")[1])
    assert one["giou"] == next(s["giou"] for s in settings if s["prompt_kind"] == "box+points")


def test_people_get_tables(t2s: Command, models: Models, tmp_path: Path) -> None:
    code, out, _ = t2s(*options(models), "--out", tmp_path)
    assert code == 0
    assert all(word in out for word in (*METRICS, "precision at 0.9", "water", "by category", str(tmp_path)))
    code, out, _ = t2s(*options(models), "--ablate", "prompt-kind=box,points")
    assert code == 0
    assert all(word in out for word in ("box", "points", "gain"))


def test_all_bad_input_is_listed_at_once(t2s: Command, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("mine")
    code, out, err = t2s(
        "--dataset", "atlantis", "--prompter", "oracle", "--segmenter", "scissors", "--prompt-kind", "lines",
        "--out", tmp_path / "taken",
    )  # fmt: skip
    assert (code, out) == (2, "")
    lines = err.splitlines()
    assert all(line.startswith("error: ") for line in lines)
    for word in ("atlantis", "oracle", "scissors", "lines", "taken"):
        assert sum(word in line for line in lines) == 1, word


@pytest.mark.parametrize("axis", ["prompter=a,b", "prompt-kind", "segmenter=", "=box"])
def test_an_axis_that_is_none_is_bad_input(t2s: Command, models: Models, axis: str) -> None:
    code, _, err = t2s(*options(models), "--ablate", axis)
    assert code == 2
    assert repr(axis) in err


def test_an_unrecorded_reply_is_a_failure_and_no_score(t2s: Command, models: Models, tmp_path: Path) -> None:
    (tmp_path / "few.jsonl").write_text(json.dumps({"tile": "harbour", "query": "the lake", "reply": "[]"}))
    code, out, err = t2s(*options(models), "--prompter", f"recorded:{tmp_path / 'few.jsonl'}", "--json")
    assert (code, out) == (1, "")
    assert "failed: " in err


def test_help_has_examples(t2s: Command) -> None:
    code, out, _ = t2s("--help")
    assert code == 0
    assert "t2s evaluate --dataset world" in out


@pytest.fixture(scope="module")
def server() -> Iterator[None]:
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=120):
        yield


def artifacts() -> list[Any]:
    from prefect.client.orchestration import get_client

    async def read() -> list[Any]:
        async with get_client() as client:
            return list(await client.read_artifacts())

    return asyncio.run(read())


@pytest.mark.usefixtures("server")
def test_the_flow_gives_the_same_scores_and_leaves_them_as_an_artifact(models: Models) -> None:
    from flows.evaluate_prompter import evaluate_prompter
    from pipeline.evaluation import EvaluationSpec, run_evaluation

    spec = EvaluationSpec(dataset="listed", prompter=models.prompter, segmenters=(models.segmenter,))
    document = evaluate_prompter(spec, device="cpu")
    expected = run_evaluation(spec, device="cpu")
    assert {name: document[name] for name in METRICS} == {name: expected[name] for name in METRICS}
    (table,) = artifacts()
    assert (table.key, table.type) == ("scores-listed", "table")
    assert "6 samples of listed/test (1 could not be used)" in table.description
    shown = {row["metric"]: row for row in json.loads(table.data)}
    assert shown["giou"]["value"] == f"{expected['giou']['value']:.3f}"
