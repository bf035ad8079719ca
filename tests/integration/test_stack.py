"""From a bucket to a bucket by schedule: everything that a deployment needs, as real processes on loopback."""

import json
import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import geopandas as gpd
import pytest
from doc_blocks import blocks
from regions import results
from stack import ROOT, Stack, asked, stack
from tiny_models import save_qwen2_5_vl

from pipeline.demo import draw_scenes
from pipeline.storage import Store

boto3 = pytest.importorskip("boto3", reason="S3 tests need boto3, s3fs and moto[server]")
s3fs = pytest.importorskip("s3fs", reason="S3 tests need boto3, s3fs and moto[server]")
pytest.importorskip("moto.server", reason="S3 tests need boto3, s3fs and moto[server]")

SCENES = ("harbour_town", "swath_edge", "next_zone")
TRAINING = {
    "group_size": 2, "questions_per_step": 1, "steps": 1, "max_new_tokens": 6, "dtype": "float32", "held_out": 0,
}  # fmt: skip


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Stack]:
    with stack(tmp_path) as made:
        s3fs.S3FileSystem.clear_instance_cache()
        boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"]).create_bucket(Bucket="stack")
        yield made
        s3fs.S3FileSystem.clear_instance_cache()


def put(name: str, data: bytes) -> None:
    client = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    client.put_object(Bucket="stack", Key=name, Body=data)


def readme() -> tuple[str, str]:
    """The lines that lead to the stack, and the last of them, which says that there are new scenes."""
    [found] = [
        block.code for block in blocks("README.md", (ROOT / "README.md").read_text(encoding="utf-8"))
        if "prefect server start" in block.code
    ]  # fmt: skip
    lines = found.splitlines()
    assert len(lines) <= 10, "a reader was promised ten lines"
    return "\n".join(lines[:-1]), lines[-1]


def manifest_of(out: str) -> dict[str, Any]:
    s3fs.S3FileSystem.clear_instance_cache()  # listings are cached, and other processes write
    document: dict[str, Any] = json.loads(s3fs.S3FileSystem().cat_file(f"{out}/run.json"))
    return document


def features_in(out: str) -> gpd.GeoDataFrame:
    return gpd.read_parquet(f"{out.removeprefix('s3://')}/features", filesystem=s3fs.S3FileSystem())


def run_locally(config: str, out: str) -> None:
    from flows.run import run_prepared, settings_of
    from flows.run_file import prepared, read_request

    request, problems = read_request(config, {"out": out, "cluster": "local", "workers": 1, "skip_bad_scenes": True})
    assert problems == []
    run_prepared(prepared(request), settings_of(request))


@pytest.mark.timeout(900)
def test_readme_leads_from_a_bucket_to_a_bucket_by_schedule(running: Stack) -> None:
    out, start = f"{running.bucket}/lakes", save_qwen2_5_vl(running.folder / "start")
    drawn = Store.at(str(running.folder / "drawn"))
    draw_scenes(drawn, seed=0, size_px=256)
    first_two, third = SCENES[:2], SCENES[2]
    for name in first_two:
        put(f"scenes/{name}.tif", drawn.read(f"scenes/{name}.tif"))
    lines, news = readme()
    running.follow(lines)

    [first] = running.runs_of("segment-region").values()
    assert first.state.is_completed(), running.said()
    manifest = manifest_of(out)
    assert (manifest["status"], manifest["history"][-1]["computed"]) == ("SUCCESS", 2)
    features = features_in(out)
    assert set(features["query_id"]) == {"where-are-vehicles-parked"}
    assert set(features["scene_id"]) <= set(first_two)
    shown = {one.key: one for one in asked("artifacts", first.id)}
    assert {"region-summary", "region-features", "region-progress", "region-scene-1"} <= set(shown)
    assert "**SUCCESS**" in shown["region-summary"].data
    assert (asked("pool", "t2s-gpu").concurrency_limit, asked("pool", "t2s-cpu").concurrency_limit) == (1, None)

    # While the night is at work, the same document on workers of this machine.
    night = running.run("retrain-nightly", {
        "nights": str(running.folder / "nights"),
        "spec": {"registry": f"{running.bucket}/registry", "start": f"qwen_vl:{start}", "dataset": "world",
                 "test_limit": 4, "settings": TRAINING, "device": "cpu"},
    })  # fmt: skip
    run_yaml = running.folder / "desk" / "run.yaml"
    run_locally(str(run_yaml), f"{running.bucket}/local")
    assert results(f"{running.bucket}/local") == results(out)

    # A scene, a file that is none, a question more, and a worker with a GPU: an event says that there is news.
    running.start("gpu", "distributed.cli.dask_worker", running.scheduler, "--nthreads", 1, "--no-dashboard",
                  "--memory-limit", 0, "--local-directory", running.folder / "gpu", "--resources", "GPU=1")  # fmt: skip
    put(f"scenes/{third}.tif", drawn.read(f"scenes/{third}.tif"))
    put("scenes/torn.tif", b"no raster")
    run_yaml.write_text(run_yaml.read_text().replace('parked?"]', 'parked?", the lake]'))
    running.follow(news)
    (second_id,) = running.wait_for(
        "a run by the event", lambda: set(running.runs_of("segment-region")) - {first.id} or None
    )
    bad = running.run("segment-region", {"run": str(running.folder / "nothing.yaml")})
    second = running.ended(second_id)
    assert second.state.is_completed(), running.said()
    manifest = manifest_of(out)
    assert [entry["computed"] for entry in manifest["history"]] == [2, 2 * 1 + 1 * 2], "what is new, and nothing else"
    assert (manifest["status"], manifest["counts"]["total"]) == ("PARTIAL", 6)
    assert [Path(s["href"]).name for s in manifest["skipped_scenes"]] == ["torn.tif"]
    assert {scene["scene_id"] for scene in manifest["scenes"]} == set(SCENES)

    ended = running.ended(night)
    assert ended.state.is_completed(), running.said()
    (decision,) = [one for one in asked("artifacts", ended.id) if one.key == "nightly-decision"]
    assert decision.data.startswith("**refused: ")
    assert len(s3fs.S3FileSystem().ls(f"{running.bucket}/registry")) > 0

    failed = running.ended(bad)
    assert failed.state.is_failed(), running.said()
    check_notifications(running)
    check_that_none_overlap(first, second, ended, failed)
    everything = json.dumps([first.parameters, second.parameters, ended.parameters]) + "".join(
        str(one.data) for run in (first, second, ended) for one in asked("artifacts", run.id)
    )
    assert "never-to-be-seen" not in everything + json.dumps([manifest, running.told]) + running.said()


def check_notifications(running: Stack) -> None:
    """One for the run that left a file out, one for the run that failed, and none for those that did neither."""
    running.wait_for("notifications", lambda: len(running.told) > 1 or None)
    partial, failed = sorted((one["text"] for one in running.told), key=lambda text: "Failed" in text)
    assert partial == f"t2s: a region run is partial\nt2s status {running.bucket}/lakes"
    assert failed.startswith("t2s: segment-region Failed\n")
    assert "nothing.yaml: cannot be read" in failed


def check_that_none_overlap(*runs: Any) -> None:
    """One flow run at a time is what the pool of one GPU allows, whatever its deployment."""
    in_order = sorted(runs, key=lambda run: run.start_time)
    for earlier, later in pairwise(in_order):
        assert earlier.end_time <= later.start_time, (earlier.name, later.name)
