"""From a bucket to a bucket by schedule: everything that a deployment needs, as real processes on loopback."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import geopandas as gpd
import pytest
import yaml
from regions import ROADS, WATER, draw_scene, make_models, results
from stack import ROOT, Stack, asked, stack
from tiny_models import save_qwen2_5_vl

boto3 = pytest.importorskip("boto3", reason="S3 tests need boto3, s3fs and moto[server]")
s3fs = pytest.importorskip("s3fs", reason="S3 tests need boto3, s3fs and moto[server]")
pytest.importorskip("moto.server", reason="S3 tests need boto3, s3fs and moto[server]")

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


def put_scene(made: Stack, name: str, seed: int) -> None:
    put(f"scenes/{name}.tif", draw_scene(made.folder / f"{name}.tif", seed=seed).read_bytes())


def put(name: str, data: bytes) -> None:
    client = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    client.put_object(Bucket="stack", Key=name, Body=data)


def put_run(made: Stack, *queries: str) -> str:
    models = make_models(made.folder)
    document = {
        "env": ["T2S_TEST_BUCKET"], "scenes": ["${T2S_TEST_BUCKET}/scenes/"], "out": "${T2S_TEST_BUCKET}/run",
        "queries": list(queries), "prompter": models.prompter, "segmenter": models.segmenter, "batch_tiles": 4,
        "cluster": made.scheduler, "device": "cpu",
    }  # fmt: skip
    put("run.yaml", yaml.safe_dump(document).encode())
    return f"{made.bucket}/run.yaml"


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
def test_from_a_bucket_to_a_bucket_by_schedule(running: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("T2S_TEST_BUCKET", running.bucket)
    out, start = f"{running.bucket}/run", save_qwen2_5_vl(running.folder / "start")
    for seed, name in enumerate(("alpha", "beta")):
        put_scene(running, name, seed)
    config = put_run(running, WATER)
    running.deploy(
        T2S_RUN=config, T2S_NIGHTS=str(running.folder / "nights"), T2S_REGISTRY=f"{running.bucket}/registry",
        T2S_TILES=str(running.folder / "tiles"),
    )  # fmt: skip
    running.start("worker", "prefect", "worker", "start", "--pool", "t2s-gpu", "--type", "process")

    first = running.ended(running.run("segment-region"))
    assert first.state.is_completed(), running.said()
    manifest = manifest_of(out)
    assert (manifest["status"], manifest["history"][-1]["computed"]) == ("SUCCESS", 18)
    features = features_in(out)
    assert (set(features["scene_id"]), set(features["query_id"])) == ({"alpha", "beta"}, {"the-water"})
    shown = {one.key: one for one in asked("artifacts", first.id)}
    assert {"region-summary", "region-features", "region-progress", "region-scene-1"} <= set(shown)
    assert "**SUCCESS**" in shown["region-summary"].data

    # While the night is at work, the same document on workers of this machine.
    night = running.run("retrain-nightly", {
        "nights": str(running.folder / "nights"),
        "spec": {"registry": f"{running.bucket}/registry", "start": f"qwen_vl:{start}", "dataset": "world",
                 "test_limit": 4, "settings": TRAINING, "device": "cpu"},
    })  # fmt: skip
    run_locally(config, f"{running.bucket}/local")
    assert results(f"{running.bucket}/local") == results(out)

    # A new version of nothing, a scene, a file that is none, and a question more: an event says that there is news.
    put_scene(running, "gamma", 2)
    put("scenes/torn.tif", b"no raster")
    put_run(running, WATER, ROADS)
    known = set(running.runs_of("segment-region"))
    tell_of_news()
    (second_id,) = running.wait_for(
        "a run by the event", lambda: set(running.runs_of("segment-region")) - known or None
    )
    second = running.ended(second_id)
    assert second.state.is_completed(), running.said()
    manifest = manifest_of(out)
    assert [entry["computed"] for entry in manifest["history"]] == [18, 2 * 9 + 9 * 2], "what is new, and nothing else"
    assert (manifest["status"], manifest["counts"]["total"]) == ("PARTIAL", 54)
    assert [Path(s["href"]).name for s in manifest["skipped_scenes"]] == ["torn.tif"]
    assert set(features_in(out)["scene_id"]) == {"alpha", "beta", "gamma"}

    ended = running.ended(night)
    assert ended.state.is_completed(), running.said()
    (decision,) = [one for one in asked("artifacts", ended.id) if one.key == "nightly-decision"]
    assert decision.data.startswith("**refused: ")
    assert len(s3fs.S3FileSystem().ls(f"{running.bucket}/registry")) > 0

    everything = json.dumps([first.parameters, second.parameters, ended.parameters]) + "".join(
        str(one.data) for run in (first, second, ended) for one in asked("artifacts", run.id)
    )
    assert "never-to-be-seen" not in everything + json.dumps(manifest) + running.said()


def tell_of_news() -> None:
    """As whoever adds scenes does, from any machine."""
    import subprocess
    import sys

    command = ["prefect", "events", "emit", "t2s.scenes.new", "--resource-id", "t2s.scenes.test"]
    subprocess.run([sys.executable, "-m", *command], cwd=ROOT, check=True, capture_output=True)
