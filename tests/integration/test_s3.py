"""A run whose directory is a bucket."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
from buckets import boto3, bucket_on_loopback
from regions import ROADS, WATER, draw_scene, features_of, make_models, mask_of, results, run, spec_of, work_here
from typer.testing import CliRunner, Result

from flows.cli.app import app
from pipeline import open_run
from pipeline.export import export_features
from pipeline.manifest import RunStatus
from pipeline.status import run_status
from pipeline.storage import Store
from pipeline.validate import validate_run


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with bucket_on_loopback("region") as url:
        yield url


def test_what_another_process_put_there_since_the_last_listing_is_listed_and_read(bucket: str) -> None:
    store = Store.at(f"{bucket}/listed")
    store.write("tiles/alpha/1/x.parquet", b"x")
    assert store.names("tiles/alpha") == ["tiles/alpha/1/x.parquet"]
    other = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    other.put_object(Bucket="region", Key="listed/tiles/alpha/1/y.parquet", Body=b"y")
    assert store.names("tiles/alpha") == ["tiles/alpha/1/x.parquet", "tiles/alpha/1/y.parquet"]
    assert store.read("tiles/alpha/1/y.parquet") == b"y"


def test_a_run_into_a_bucket_equals_one_onto_a_disk_and_is_not_done_twice(bucket: str, tmp_path: Path) -> None:
    models, scene, out = make_models(tmp_path), draw_scene(tmp_path / "alpha.tif"), f"{bucket}/runs/first"
    outcome = run(spec_of(models, scene), out)
    assert (outcome.status, outcome.computed) == (RunStatus.SUCCESS, 9)
    run(spec_of(models, scene), tmp_path / "disk")
    assert results(out) == results(tmp_path / "disk")
    assert not Store.at(out).exists("lease.json")
    assert run(spec_of(models, scene), out).computed == 0
    added = run(spec_of(models, scene, queries=[WATER, ROADS]), out)
    assert (added.status, added.computed) == (RunStatus.SUCCESS, 9)
    status = run_status(out)
    assert (status["status"], status["tile_queries"]["ok"]) == ("SUCCESS", 18)
    assert set(np.unique(mask_of(out, "alpha", "the-roads"))) <= {0, 1}
    features = features_of(out)
    assert set(features["query_id"]) == {"the-water", "the-roads"}
    assert len(gpd.read_parquet(f"{out}/features")) == len(features) > 0


def test_a_run_in_a_bucket_is_validated_and_exported_there(bucket: str, tmp_path: Path) -> None:
    out = f"{bucket}/runs/whole"
    scene = draw_scene(tmp_path / "beta.tif", seed=3)
    run(spec_of(make_models(tmp_path), scene, queries=[ROADS], cog=True), out)
    document = validate_run(out)
    assert document["ok"], document
    written = export_features(out, "fgb", query_ids=["the-roads"], target=f"{bucket}/exports/roads.fgb")
    assert written.n_features == (features_of(out)["query_id"] == "the-roads").sum() > 0
    Store.at(bucket).download("exports/roads.fgb", tmp_path / "roads.fgb")
    assert len(gpd.read_file(tmp_path / "roads.fgb")) == written.n_features
    chunk = "masks.zarr/beta/the-roads/mask/c/0/0"
    Store.at(out).write(chunk, Store.at(out).read(chunk)[:20])
    failed = {check["name"] for check in validate_run(out)["checks"] if not check["ok"]}
    assert failed == {"checksums", "mask", "valid-data", "features-mask", "cog"}


def test_a_run_in_a_bucket_is_looked_at_there(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """plan --preview, a sample, report, explain and open_run, with scene and results in a bucket."""
    work_here(monkeypatch)
    Store.at(bucket).upload(draw_scene(tmp_path / "gamma.tif", seed=4), "scenes/gamma.tif")
    models, out, why = make_models(tmp_path), f"{bucket}/runs/looked-at", tmp_path / "why.html"
    asked = [f"{bucket}/scenes/", "--query", WATER, "--prompter", models.prompter, "--segmenter", models.segmenter]

    def t2s(*words: str) -> Result:
        done = CliRunner().invoke(app, list(words))
        assert done.exit_code == 0, (done.output, done.exception)
        return done

    t2s("plan", *asked, "--out", out, "--preview", str(tmp_path / "plan.html"))
    assert "9 tiles in 1 scene" in (tmp_path / "plan.html").read_text()
    assert "No picture" not in (tmp_path / "plan.html").read_text()
    t2s("segment", *asked, "--out", out, "--direct", "--sample", "3")
    assert Store.at(out).exists("sample/report.html")
    whole = json.loads(t2s("segment", *asked, "--out", out, "--direct", "--json").stdout)
    assert (whole["counts"]["ok"], whole["history"][-1]["computed"]) == (9, 6), "what the sample computed is kept"
    before = Store.at(out).read("report.html")
    Store.at(out).remove("report.html")
    assert json.loads(t2s("report", out, "--json").stdout) == {"href": f"{out}/report.html"}
    assert len(Store.at(out).read("report.html")) == pytest.approx(len(before), rel=0.01)
    run_there = open_run(out)
    features = run_there.features()
    assert run_there.mosaic("gamma")["mask"].sizes["y"] > 0
    assert len(run_there.tile_results()) == 9
    told = t2s("explain", out, "--feature", features["feature_id"].iloc[0], "--html", str(why), "--json")
    assert {entry["status"] for entry in json.loads(told.stdout)["tile_results"]} <= {"ok", "no_target"}
    assert "data:image/webp" in why.read_text()
