"""`t2s curate` from outside, and the flow that does the same."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from curations import ground, write_labels
from regions import draw_scene

from flows.cli.app import main

os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    scene = draw_scene(tmp_path / "alpha.tif")
    labels = write_labels(tmp_path / "l.gpkg", [{"geometry": ground(0, 0, 150, 60)}])
    return [
        "--scenes", str(scene), "--labels", str(labels), "--query", "the lake", "--tile-px", "64",
        "--block-m", "100000", "--out", str(tmp_path / "out"),
    ]  # fmt: skip


def command(monkeypatch: pytest.MonkeyPatch, *given: str) -> int:
    monkeypatch.setattr(sys, "argv", ["t2s", "curate", *given])
    with pytest.raises(SystemExit) as ending:
        main()
    return int(ending.value.code or 0)


def test_json_is_all_that_stdout_carries(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(monkeypatch, *arguments, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document == json.loads((tmp_path / "out" / "dataset.json").read_text())
    assert document["format"] == "t2s-curated/1"
    (entry,) = document["counts"]["queries"]
    assert (entry["query_id"], entry["train"]["present"]) == ("the-lake", document["counts"]["samples"])


def test_a_person_reads_counts_by_query_and_what_was_left_out(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(monkeypatch, *arguments) == 0
    said = capsys.readouterr()
    assert "the lake" in said.out
    assert "3 / 0" in said.out
    assert "3 windows lie where the labels" not in said.out
    assert "fingerprint" in said.err
    assert "split val got no sample" in said.err


def test_bad_input_is_a_line_each_and_exit_code_2(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(monkeypatch, *arguments, "--bands", "red,2", "--val", "7", "--query-column", "kind") == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert all(line.startswith("error: --") for line in lines)
    assert not (tmp_path / "out").exists()


@pytest.fixture
def server() -> Iterator[None]:
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.mark.usefixtures("server")
def test_the_flow_gives_the_same_data_set_and_leaves_its_counts_as_an_artifact(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from prefect.artifacts import Artifact

    from flows.curate_tiles import curate_tiles
    from pipeline.curate_spec import CurationSpec

    spec = CurationSpec(
        scenes=(str(tmp_path / "alpha.tif"),), labels=(str(tmp_path / "l.gpkg"),), query="the lake", tile_px=64,
        block_m=100_000.0,
    )  # fmt: skip
    document = curate_tiles(spec, str(tmp_path / "flow"))
    assert command(monkeypatch, *arguments, "--json") == 0
    assert document["fingerprint"] == json.loads(capsys.readouterr().out)["fingerprint"]
    artifact = Artifact.get("curated-tiles")
    assert artifact is not None
    assert json.loads(str(artifact.data))[-1]["train present"] == document["counts"]["samples"]
