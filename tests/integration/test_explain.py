"""`t2s explain` and `t2s report`: a finished run is asked why."""

import json
from pathlib import Path

import pytest
from fakes import reply_text
from regions import ROADS, WATER, draw_scene, features_of, make_models, run, spec_of
from typer.testing import CliRunner, Result

from flows.cli.app import app
from pipeline.explain import Place, explain
from pipeline.manifest import read_run, write_manifest
from pipeline.storage import Store
from t2s_core.errors import BadInput
from t2s_core.prompts import InstancePrompt

BOX = InstancePrompt((6, 8, 44, 50), ((20, 20), (30, 30)))


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two levels, two queries, of which one is answered in its first tile alone."""
    folder = tmp_path_factory.mktemp("explain")
    evil = "<script>alert(1)</script>\x1b[31m"
    replies = [("*", WATER, reply_text([BOX], f"Blue. {evil}")), ("scene/1/0/0", ROADS, reply_text([]))]
    spec = spec_of(
        make_models(folder, replies), draw_scene(folder / "scene.tif"), queries=(WATER, ROADS), levels=(1, 2)
    )
    run(spec, folder / "out")
    return folder / "out"


def data_of(report: Path) -> str:
    """What the page's script knows; Bokeh names its models anew each time."""
    return report.read_text().partition('id="t2s-data">')[2].partition("</script>")[0]


def asked(*words: str) -> Result:
    return CliRunner().invoke(app, ["explain", *words])


def point(out: Path) -> str:
    """In the overlap of four tiles of level 1: scene pixel (52, 52), two metres a pixel."""
    manifest = read_run(Store.at(str(out)))
    from pyproj import Transformer

    a, _, c, _, e, f = manifest["scenes"][0]["transform"]
    lon, lat = Transformer.from_crs(manifest["scenes"][0]["crs"], "OGC:CRS84", always_xy=True).transform(
        c + 52.5 * a, f + 52.5 * e
    )
    return f"{lon:.8f},{lat:.8f}"


def test_every_tile_over_a_point_says_what_it_saw(out: Path) -> None:
    result = asked(str(out), "--at", point(out), "--json")
    assert result.exit_code == 0
    entries = json.loads(result.stdout)["tile_results"]
    tiles = {"scene/1/0/0", "scene/1/0/1", "scene/1/1/0", "scene/1/1/1", "scene/2/0/0", "scene/2/0/1"}
    of_water = {entry["tile"]: entry for entry in entries if entry["query"] == WATER}
    assert set(of_water) == tiles
    first = of_water["scene/1/0/0"]
    assert first["at_tile_px"] == pytest.approx([52.5, 52.5], abs=0.06)
    assert of_water["scene/1/1/1"]["at_tile_px"] == pytest.approx([4.5, 4.5], abs=0.06)
    assert of_water["scene/2/0/0"]["at_tile_px"] == pytest.approx([26.25, 26.25], abs=0.06)
    assert first["status"] == "ok"
    assert first["instances"][0]["box_tile_px"] == [6, 8, 44, 50]
    assert 0 < first["instances"][0]["probability_here"] < 1
    of_roads = {entry["tile"]: entry["status"] for entry in entries if entry["query"] == ROADS}
    assert of_roads.pop("scene/1/0/0") == "no_target"
    assert set(of_roads.values()) == {"failed"}


def test_a_feature_is_explained_where_it_is(out: Path) -> None:
    features = features_of(out)
    chosen = features.iloc[len(features) // 2]
    entries = json.loads(asked(str(out), "--feature", chosen["feature_id"], "--json").stdout)["tile_results"]
    assert {entry["query_id"] for entry in entries} == {chosen["query_id"]}
    assert max(i["probability_here"] for entry in entries for i in entry["instances"]) >= 0.5


def test_text_for_people_has_no_control_characters(out: Path) -> None:
    result = asked(str(out), "--at", point(out), "--query", "the-water")
    assert "reasoning  Blue." in result.stdout
    assert "predicted IoU" in result.stdout
    assert "\x1b" not in result.stdout
    assert ROADS not in result.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--at", "52"], "not a longitude and a latitude"),
        (["--at", "36,15"], "(longitude, latitude)"),
        ([], "--at LON,LAT or --feature ID"),
        (["--feature", "nothing"], "no such feature"),
        (["--at", "15,36", "--query", "fish"], "it has the-water, the-roads"),
    ],
)
def test_what_cannot_be_explained_is_said_in_a_line(out: Path, words: list[str], said: str) -> None:
    result = asked(str(out), *words)
    assert isinstance(result.exception, BadInput)
    assert said in str(result.exception)


def test_what_was_not_computed_yet_is_pending(out: Path) -> None:
    store = Store.at(str(out))
    manifest = read_run(store)
    spec = manifest["spec"]
    more = {**spec["queries"][0], "query_id": "boats", "text": "any boats?"}
    asked_later = {**manifest, "spec": {**spec, "queries": [more]}}
    lon, lat = map(float, point(out).split(","))
    assert {e.to_json()["status"] for e in explain(store, asked_later, Place(lon, lat))} == {"pending"}


def test_the_report_is_written_anew(out: Path) -> None:
    written = out / "report.html"
    before = data_of(written)
    written.unlink()
    result = CliRunner().invoke(app, ["report", str(out), "--json"])
    assert json.loads(result.stdout) == {"href": str(written)}
    assert data_of(written) == before


def test_a_run_that_has_not_ended_has_no_report(out: Path, tmp_path: Path) -> None:
    manifest = read_run(Store.at(str(out)))
    write_manifest(Store.at(str(tmp_path)), {**manifest, "status": "RUNNING"})
    result = CliRunner().invoke(app, ["report", str(tmp_path)])
    assert "the run is RUNNING" in str(result.exception)
    assert not (tmp_path / "report.html").exists()
