"""Logs and metrics of a run on real worker processes."""

import json
import logging
import os
import re
import socket
import subprocess
import sys
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from processes import cluster, forked, start
from regions import WATER
from trials import N_TILES, Region, manifest

HUSH = "wJalrXUtnFEMIK7MDENGbPxRfiCY"


def records(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def samples(shown: str) -> dict[str, float]:
    """Ours, as Prometheus reads them."""
    return {name: float(value) for name, value in re.findall(r"^(t2s_\S+) (\S+)$", shown, re.MULTILINE)}


def test_records_say_what_they_are_about_on_workers_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("T2S_LOG", "json")
    region = Region.drawn(tmp_path)
    command = start(region.arguments(tmp_path / "out", "--workers", 1), tmp_path / "log")
    assert command.wait() == 0, command.said
    assert [line for line in command.said.splitlines() if not line.startswith("{")] == []
    said = records(command.said)
    run_id = manifest(tmp_path / "out")["run_id"]
    begun = [(r["stage"], r["scene"]) for r in said if r["logger"] == "flows.voice" and r.get("stage") == "stitch"]
    assert sorted(begun) == [("stitch", "alpha"), ("stitch", "beta")]
    assert any(r["message"].startswith("SUCCESS: 2 scenes") for r in said)
    batches = [record for record in said if record["message"] == "batch is committed"]
    assert {(r["run"], r["stage"], r["logger"]) for r in batches} == {(run_id, "segment", "pipeline.worker")}
    assert {r["scene"] for r in batches} == {"alpha", "beta"}
    assert all("worker" in r for r in batches)
    assert sum(r["numbers"]["tiles"] for r in batches) == N_TILES
    committed = (tmp_path / "out" / "tiles").rglob("*.parquet")
    assert {r["batch"] for r in batches} == {str(path.relative_to(tmp_path / "out")) for path in committed}
    stages = [(r["scene"], r["stage"]) for r in said if r["message"] == "stage is done"]
    names = ("segment", "stitch", "vectorise", "publish")
    assert sorted(stages) == sorted((scene, stage) for scene in ("alpha", "beta") for stage in names)


@pytest.mark.usefixtures("logs_of_this_process")
def test_a_failed_tile_query_is_a_record_with_its_tile_and_without_credentials(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from regions import draw_scene, make_models, run, spec_of

    import pipeline.worker
    from pipeline.logs import log_json
    from t2s_core.errors import MachineFault

    def broken(*_: object) -> None:
        raise MachineFault(f"https://user:{HUSH}@gpu7/v1 answers 500 to {os.environ['T2S_OPENAI_API_KEY']}")

    monkeypatch.setenv("T2S_OPENAI_API_KEY", "correcthorsebatterystaple")
    monkeypatch.setattr("t2s_core.engine.Engine.answer", broken)
    pipeline.worker._engine.cache_clear()
    log_json(secrets=["correcthorsebatterystaple"])
    out = tmp_path / "out"
    run(spec_of(make_models(tmp_path), draw_scene(tmp_path / "alpha.tif"), queries=[WATER]), out)
    failed = [r for r in records(capsys.readouterr().err) if r["level"] == "warning" and "failed" in r["message"]]
    assert len(failed) == 9
    assert {r["tile"] for r in failed} >= {"alpha/1/0/0"} or all("alpha" in r["tile"] for r in failed)
    assert {r["query"] for r in failed} == {"the-water"}
    assert all(r["message"] == "tile-query failed: https://***@gpu7/v1 answers 500 to ***" for r in failed)
    assert HUSH not in (out / "run.json").read_text() + (out / "report.html").read_text()


def test_what_a_run_dies_of_is_told_without_credentials(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from regions import work_here

    from flows.cli.app import main

    def broken(*_: object, **__: object) -> None:
        raise OSError(f"https://user:{HUSH}@bucket/x?X-Amz-Signature={HUSH}: 403")

    drawn = Region.drawn(tmp_path)
    region = replace(drawn, scenes=drawn.scenes[:1])  # in one process an engine is for one scene at a time
    work_here(monkeypatch)
    monkeypatch.setattr("pipeline.worker._commit", broken)
    monkeypatch.setattr(sys, "argv", ["t2s", *map(str, region.arguments(tmp_path / "out"))])
    with pytest.raises(SystemExit) as ending:
        main()
    assert ending.value.code == 1
    err = capsys.readouterr().err
    assert HUSH not in err
    assert "failed: OSError: https://***@bucket/x?X-Amz-Signature=***: 403;" in err
    assert manifest(tmp_path / "out")["error"] == "OSError: https://***@bucket/x?X-Amz-Signature=***: 403"


def test_workers_count_what_they_did_on_dask_s_own_endpoint(tmp_path: Path) -> None:
    region = Region.drawn(tmp_path)
    with cluster(0) as made:
        made.add_worker(dashboard=True, dashboard_address="127.0.0.1:0")
        command = start(region.arguments(tmp_path / "out", "--cluster", made.address), tmp_path / "log")
        assert command.wait() == 0, command.said
        from distributed import Client

        with Client(made.address, set_as_default=False) as client:
            [worker] = client.scheduler_info()["workers"].values()
        port = worker["services"]["dashboard"]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as response:
            shown = response.read().decode()
    counts = samples(shown)
    asked = manifest(tmp_path / "out")["counts"]
    for status in ("ok", "no_target", "unparsable"):
        assert counts.get(f't2s_tile_queries_total{{status="{status}"}}', 0) == asked[status]
    assert counts["t2s_batches_committed_total"] == len(list((tmp_path / "out/tiles").rglob("*.parquet")))
    assert counts['t2s_stage_seconds_total{stage="encoding"}'] > 0
    assert "t2s_tokens_total" in counts


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["plan", "nowhere.tif", "--query", "the lake", "--out", "out"], 2, "nowhere.tif: "),
        (["segment", "nowhere.tif", "--query", "the lake", "--out", "out", "--cluster", "dask"], 2, "--cluster dask: "),
        (["plan", "--no-such-option"], 2, "No such option"),
        (["status", "nowhere"], 2, "nowhere"),
    ],
)
def test_what_ends_a_command_is_a_record_too(
    arguments: list[str], code: int, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("T2S_LOG", "json")
    command = start(arguments, tmp_path / "log")
    assert command.wait() == code
    [record] = [json.loads(line) for line in command.said.splitlines()]
    assert record["level"] == "error"
    assert told in record["message"]


def records_beside_prefect(log: str) -> None:
    """Prefect sets up its own logs when it is imported, after ours."""
    from prefect.logging.configuration import setup_logging

    from flows.telemetry import start, take_over

    with Path(log).open("w", encoding="utf-8") as file:
        sys.stderr = file
        start()
        setup_logging(incremental=False)
        take_over()
        logging.getLogger("prefect.flow_engine").error("it fell")
        logging.getLogger("pipeline.work").info("it goes on")


def test_prefect_s_own_logs_are_records_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("T2S_LOG", "json")
    path = os.pathsep.join(filter(None, [str(Path(__file__).parent), *sys.path]))
    done = subprocess.run(
        [sys.executable, "-c", f"import test_telemetry as t; t.records_beside_prefect({str(tmp_path / 'log')!r})"],
        env={**os.environ, "PYTHONPATH": path}, check=False, capture_output=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    said = [json.loads(line)["message"] for line in (tmp_path / "log").read_text().splitlines()]
    assert said == ["it fell", "it goes on"]


def run_and_ask(arguments: list[str], port: int, answer: str) -> None:
    """The command, and what it shows of itself at its end."""
    from flows.cli.app import main

    sys.argv = ["t2s", *arguments]
    os.environ["T2S_METRICS"] = str(port)
    with pytest.raises(SystemExit):
        main()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as response:
        Path(answer).write_bytes(response.read())


def test_the_command_counts_what_local_workers_did(tmp_path: Path) -> None:
    region = Region.drawn(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    arguments = list(map(str, region.arguments(tmp_path / "out", "--workers", 1)))
    process = forked(run_and_ask, arguments, port, str(tmp_path / "answer"))
    process.join(120)
    counts = samples((tmp_path / "answer").read_text())
    asked = manifest(tmp_path / "out")["counts"]
    for status in ("ok", "no_target", "unparsable"):
        assert counts.get(f't2s_run_tile_queries_total{{status="{status}"}}', 0) == asked[status]
    assert counts["t2s_run_batches_committed_total"] == len(list((tmp_path / "out/tiles").rglob("*.parquet")))
    assert counts['t2s_run_stage_seconds_total{stage="encoding"}'] > 0
    assert counts['t2s_run_steps{scene="alpha",stage="publish",state="done"}'] > 0
    assert "t2s_tile_queries_total" not in counts, "those are of workers"


@pytest.mark.parametrize(("name", "value"), [("T2S_LOG", "xml"), ("T2S_METRICS", "no-port"), ("T2S_METRICS", "99999")])
def test_a_setting_that_cannot_be_is_refused_in_a_line(
    name: str, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    command = start(["status", tmp_path], tmp_path / "log")
    assert command.wait() == 2
    assert command.said.startswith(f"error: {name}={value!r}")
    assert len(command.said.splitlines()) == 1
