"""`kill -9` of a worker, of the command and of the scheduler, at any moment; the same command ends alike."""

import time
from pathlib import Path
from typing import Any

import pytest
from processes import cluster, kill
from regions import results
from trials import N_TILES, SEEDS, Region, check_finished, manifest, moment, tiles

from pipeline.status import run_status


@pytest.fixture(scope="module")
def region(tmp_path_factory: pytest.TempPathFactory) -> Region:
    return Region.drawn(tmp_path_factory.mktemp("region"))


@pytest.fixture(scope="module")
def undisturbed(region: Region, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], float]:
    """What a run comes to, and the seconds that it takes once all is warm."""
    folder = tmp_path_factory.mktemp("undisturbed")
    for name in ("cold", "warm"):
        with cluster(2) as dask:
            start_s = time.monotonic()
            command = region.start(folder / name, dask, folder / f"{name}.log")
            assert command.wait() == 0, command.said
            whole_s = time.monotonic() - start_s
    return results(folder / "warm"), whole_s


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("victim", ["worker", "command", "scheduler"])
def test_a_run_survives(
    victim: str, seed: int, region: Region, undisturbed: tuple[dict[str, Any], float], tmp_path: Path
) -> None:
    expected, whole_s = undisturbed
    out, after_s = tmp_path / "out", moment(seed, whole_s)
    print(f"seed {seed}: {victim} dies after {after_s:.2f} of {whole_s:.2f} s")
    with cluster(2) as dask:
        command = region.start(out, dask, tmp_path / "first.log")
        time.sleep(after_s)
        kill({"worker": dask.workers[0], "command": command.process, "scheduler": dask.scheduler}[victim])
        code = command.wait()
    kept = tiles(out)  # whatever the cluster still committed, it is gone by now
    agrees(victim, code, out, command.said)
    with cluster(2) as dask:
        again = region.start(out, dask, tmp_path / "again.log")
        assert again.wait() == 0, again.said
    check_finished(out, expected, kept)
    assert manifest(out)["history"][-1]["computed"] == N_TILES - answered(kept)


def agrees(victim: str, code: int, out: Path, said: str) -> None:
    """Exit code, run.json, report and `t2s status` say the same of how the disturbed run ended."""
    assert "Traceback" not in said, said
    assert code in {"worker": (0,), "command": (-9, 0), "scheduler": (0, 1, 2)}[victim], said
    if not (out / "run.json").exists():
        return
    document, status = manifest(out), run_status(str(out))
    assert status["status"] == {0: "SUCCESS", 1: "FAILED", -9: "INTERRUPTED", 2: "INTERRUPTED"}[code], said
    if code == 0:
        assert status["tile_queries"] == document["counts"]
        return
    if code == 1:
        assert not (out / "report.html").exists()
        assert said.splitlines()[-1].startswith("failed: ")
        assert document["status"] == "FAILED"
        assert document["error"] == status["error"] is not None
        assert document["counts"]["total"] == N_TILES


def answered(kept: dict[str, tuple[int, bytes]]) -> int:
    import io

    import pyarrow.parquet as pq

    return sum(pq.read_metadata(io.BytesIO(data)).num_rows for _, data in kept.values())
