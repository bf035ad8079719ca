"""Features as one file: what drivers write is what the dataset holds, whole or not at all."""

import json
from pathlib import Path

import geopandas as gpd
import pyogrio
import pytest
import shapely
from outputs import finished_run
from regions import features_of

from pipeline import export
from pipeline.export import export_features
from pipeline.storage import Store
from t2s_core.errors import BadInput


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished_run(tmp_path_factory.mktemp("run"))


@pytest.mark.parametrize("file_format", ["gpkg", "geojson", "fgb"])
def test_a_file_holds_what_the_dataset_holds(
    out: Path, tmp_path: Path, file_format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "ROWS_PER_BATCH", 5)  # so that there are several of one partition
    written = export_features(str(out), file_format, target=str(tmp_path / f"new/x.{file_format}"))
    truth = features_of(out).set_index("feature_id").sort_index()
    found = gpd.read_file(written.href).set_index("feature_id").sort_index()
    assert written.n_features == len(found) == len(truth) > 20
    assert list(found.index) == list(truth.index)
    assert found.crs.to_epsg() == 4326
    assert set(found.geometry.geom_type) == {"MultiPolygon"}
    assert set(found.columns) == set(truth.columns) - {"bbox"}
    for name in ("query", "query_id", "scene_id", "reasoning", "run_id", "n_tiles", "touches_scene_edge"):
        assert list(found[name]) == list(truth[name]), name
    assert found["area_m2"].to_numpy() == pytest.approx(truth["area_m2"].to_numpy())
    assert found["datetime"].isna().sum() == (truth["scene_id"] == "beta").sum() > 0
    assert {str(v)[:19].replace("T", " ") for v in found["datetime"].dropna()} == {"2024-05-06 07:08:09"}
    distances = shapely.hausdorff_distance(found.geometry.to_numpy(), truth.geometry.to_numpy())
    assert distances.max() < 2e-9
    assert [p.name for p in (tmp_path / "new").iterdir()] == [f"x.{file_format}"]


def test_a_query_alone(out: Path, tmp_path: Path) -> None:
    written = export_features(str(out), "fgb", query_ids=["the-roads"], target=str(tmp_path / "x.fgb"))
    found = gpd.read_file(written.href)
    assert set(found["query_id"]) == {"the-roads"}
    assert len(found) == written.n_features == (features_of(out)["query_id"] == "the-roads").sum()


def test_a_query_that_found_nothing_is_an_empty_layer_with_its_columns(out: Path, tmp_path: Path) -> None:
    written = export_features(str(out), "gpkg", query_ids=["nothing-at-all"], target=str(tmp_path / "x.gpkg"))
    info = pyogrio.read_info(written.href, layer="features")
    assert (written.n_features, info["features"]) == (0, 0)
    assert {"feature_id", "query_id", "score", "reasoning"} <= set(info["fields"])
    assert info["geometry_type"] == "MultiPolygon"


def test_by_default_in_the_working_directory(out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    written = export_features(str(out), "gpkg")
    assert written.href == str(tmp_path / "features.gpkg")


def test_a_file_is_replaced_only_on_request(out: Path, tmp_path: Path) -> None:
    target = tmp_path / "x.geojson"
    target.write_text("mine")
    with pytest.raises(BadInput, match="is there already; give --overwrite"):
        export_features(str(out), "geojson", target=str(target))
    assert target.read_text() == "mine"
    export_features(str(out), "geojson", target=str(target), overwrite=True)
    assert json.loads(target.read_text())["type"] == "FeatureCollection"


def test_what_fails_half_way_leaves_nothing(out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = tmp_path / "x.gpkg"
    kept.write_text("mine")
    monkeypatch.setattr(export, "ROWS_PER_BATCH", 5)
    flat, calls = export._flat, []

    def failing(*arguments: object) -> object:
        calls.append(0)
        if len(calls) > 3:
            raise ConnectionError("the bucket went away")
        return flat(*arguments)

    monkeypatch.setattr(export, "_flat", failing)
    with pytest.raises(ConnectionError, match="bucket went away"):
        export_features(str(out), "gpkg", target=str(kept), overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == ["x.gpkg"]
    assert kept.read_text() == "mine"


def test_to_and_from_other_filesystems(out: Path) -> None:
    store = Store.at("memory://export-test/run")
    for path in (p for p in out.rglob("*") if p.is_file()):
        store.write(str(path.relative_to(out)), path.read_bytes())
    written = export_features(store.url, "geojson", target="memory://export-test/x.geojson")
    document = json.loads(Store.at("memory://export-test").read("x.geojson"))
    assert written.href == "memory://export-test/x.geojson"
    assert len(document["features"]) == written.n_features == len(features_of(out))


BAD = {
    "no run": ({"out_url": "/nonexistent"}, "no run.json is here"),
    "unknown query": ({"query_ids": ["the-moon"]}, "'the-moon' is no query id of this run; it has the-water"),
    "wrong ending": ({"target": "x.shp"}, "does not end with .gpkg"),
    "unknown protocol": ({"target": "nowhere://x/y.gpkg"}, "cannot be written"),
    "unknown format": ({"file_format": "shp"}, "'shp' is none of gpkg, geojson, fgb"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_said(out: Path, case: str) -> None:
    changes, said = BAD[case]
    with pytest.raises(BadInput, match=said):
        export_features(**{"out_url": str(out), "file_format": "gpkg", **changes})  # type: ignore[arg-type]


def test_an_unfinished_run_and_a_folder_are_refused(tmp_path: Path) -> None:
    out = finished_run(tmp_path)
    (tmp_path / "d.gpkg").mkdir()
    with pytest.raises(BadInput, match="is a folder"):
        export_features(str(out), "gpkg", target=str(tmp_path / "d.gpkg"))
    (out / "features/query_id=the-water/scene_id=beta/part-0.parquet").unlink()
    with pytest.raises(BadInput, match=r"is not there \(1 of 6 such\): the run is not finished"):
        export_features(str(out), "gpkg", target=str(tmp_path / "x.gpkg"))
