"""However a run ends, exit code, run.json, report, `t2s status` and Prefect say the same of it."""

import errno
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from regions import BABBLE, REPLIES, WATER, draw_corrupt, draw_scene, make_models, work_here, write_replies

from pipeline.storage import Store

os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")


class Ending(NamedTuple):
    """What is expected of a fault."""

    exit_code: int
    status: str
    prefect: tuple[str, ...]
    """Type, and name where it is not that of the type."""
    report: str
    """Whether there is one."""
    counts: dict[str, int]
    """Of nine tile-queries of each scene; what is left out is 0."""


FAULTS = {
    "none": Ending(0, "SUCCESS", ("COMPLETED",), "report", {"ok": 9}),
    "a tile is not answered": Ending(3, "PARTIAL", ("COMPLETED", "Partial"), "report", {"ok": 8, "failed": 1}),
    "no tile is answered": Ending(1, "FAILED", ("FAILED",), "report", {"failed": 9}),
    "replies are prose": Ending(3, "PARTIAL", ("COMPLETED", "Partial"), "report", {"unparsable": 9}),
    "pixels cannot be read": Ending(3, "PARTIAL", ("COMPLETED", "Partial"), "report", {"ok": 12, "failed": 6}),
    "a scene is no raster": Ending(2, "none", (), "no report", {}),
    "a scene is no raster and may be skipped": Ending(3, "PARTIAL", ("COMPLETED", "Partial"), "report", {"ok": 9}),
    "failures are too many": Ending(1, "FAILED", ("FAILED",), "no report", {"failed": 8, "pending": 1}),
    "the disk fills up": Ending(1, "FAILED", ("FAILED",), "no report", {"pending": 9}),
    "somebody presses Ctrl-C": Ending(130, "INTERRUPTED", ("CANCELLED", "CRASHED"), "no report", {"pending": 9}),
}


@pytest.fixture(scope="module")
def server() -> Iterator[None]:
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=120):
        yield


def arguments(folder: Path, fault: str) -> list[object]:
    """Of a run that meets the fault."""
    models, scenes = make_models(folder), [draw_scene(folder / "alpha.tif")]
    query: str = BABBLE if fault == "replies are prose" else WATER
    more: list[object] = ["--max-failed", "3"] if fault == "failures are too many" else []
    if fault in {"no tile is answered", "failures are too many"}:
        write_replies(folder / "replies.jsonl", [])
    if fault == "a tile is not answered":
        tiles = [f"alpha/1/{row}/{col}" for row in range(3) for col in range(3)]
        write_replies(folder / "replies.jsonl", [(tile, WATER, REPLIES[WATER]) for tile in tiles[1:]])
    if fault == "pixels cannot be read":
        scenes.append(draw_corrupt(folder / "beta.tif"))
    if fault.startswith("a scene is no raster"):
        scenes.append(folder / "beta.tif")
        scenes[-1].write_bytes(b"II*\\0")
        more += ["--skip-bad-scenes"] if fault.endswith("skipped") else []
    return [*scenes, "--query", query, "--prompter", models.prompter, "--segmenter", models.segmenter, *more]


def spoil(monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    """What is wrong with the machine, and not with what it is given."""
    import pipeline.worker

    errors = {
        "the disk fills up": OSError(errno.ENOSPC, "No space left on device"),
        "somebody presses Ctrl-C": KeyboardInterrupt(),
    }
    if fault in errors:

        def write(*_: object) -> None:
            raise errors[fault]

        monkeypatch.setattr(pipeline.worker, "write_batch", write)


@pytest.mark.usefixtures("server", "logs_of_this_process")
@pytest.mark.parametrize("orchestrator", ["direct", "prefect"])
@pytest.mark.parametrize("fault", FAULTS)
def test_all_say_the_same(
    fault: str, orchestrator: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, out = FAULTS[fault], tmp_path / "out"
    given = arguments(tmp_path, fault)
    work_here(monkeypatch)
    let_prefect_see_stderr()
    before = flow_runs()
    with monkeypatch.context() as patch:
        spoil(patch, fault)
        code, _, said = command(patch, capsys, "segment", *given, "--out", out, "--orchestrator", orchestrator)
    assert code == expected.exit_code, said
    assert "Traceback" not in said
    after = [run for run in flow_runs() if run.id not in {run.id for run in before}]
    if expected.status == "none":
        assert not out.exists()
        assert after == []
        return
    code, document, _ = command(monkeypatch, capsys, "status", out, "--json")
    status, manifest = json.loads(document), json.loads(Store.at(str(out)).read("run.json"))
    assert code == 0
    assert status["status"] == expected.status
    assert {k: n for k, n in status["tile_queries"].items() if n and k != "total"} == expected.counts
    if expected.status != "INTERRUPTED":  # nobody was left to write it
        assert manifest["status"] == expected.status
        assert manifest["counts"] == status["tile_queries"]
    assert (out / "report.html").exists() == (expected.report == "report")
    if expected.report == "report":
        assert f">{expected.status}<" in (out / "report.html").read_text()
    else:
        assert expected.status == "INTERRUPTED" or manifest["error"] == status["error"]
    if orchestrator == "prefect":
        (flow_run,) = after
        assert flow_run.state.type.value == expected.prefect[0] or flow_run.state.type.value in expected.prefect
        if expected.prefect[1:] == ("Partial",):
            assert flow_run.state.name == "Partial"


def let_prefect_see_stderr() -> None:
    """Its console holds on to the stderr of when it was imported, which was that of another test."""
    from prefect.logging.configuration import setup_logging

    setup_logging(incremental=False)


def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object
) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of `t2s` in this process."""
    from flows.cli.app import main

    monkeypatch.setattr(sys, "argv", ["t2s", *map(str, arguments)])
    with pytest.raises(SystemExit) as ending:
        main()
    said = capsys.readouterr()
    return int(ending.value.code or 0), said.out, said.err


def flow_runs() -> list[Any]:
    """All that the server knows."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        return list(client.read_flow_runs())
