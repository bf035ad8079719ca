"""The public surface: a finished run, read from Python."""

import re
import subprocess
import sys
from pathlib import Path
from typing import get_type_hints

import dask.array
import numpy as np
import odc.geo.xr  # noqa: F401 -- brings `.odc`
import pytest
from outputs import finished_run
from regions import NOTHING, ROADS, WATER

import pipeline
from pipeline import BadInput, FinishedRun, open_run
from pipeline.manifest import RunStatus, write_manifest


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    return open_run(str(finished_run(tmp_path_factory.mktemp("open"))))


def test_nothing_else_is_public_and_nothing_heavy_is_imported() -> None:
    assert dir(pipeline) == sorted(pipeline.__all__) == ["BadInput", "FinishedRun", "open_run"]
    with pytest.raises(AttributeError, match="no attribute 'close_run'"):
        _ = pipeline.close_run
    heavy = ("rasterio", "dask", "geopandas", "torch", "zarr")
    code = f"import sys, pipeline; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_member_is_documented_and_typed() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs/reference/python.md").read_text(encoding="utf-8")
    members = {name for name in (*dir(FinishedRun), *FinishedRun.__dataclass_fields__) if not name.startswith("_")}
    assert {name for name in members if not re.search(rf"\| .*`{name}(\(.*)?`.* \|", page)} == set()
    methods = [getattr(FinishedRun, name) for name in members if callable(getattr(FinishedRun, name, None))]
    assert all("return" in get_type_hints(method) for method in (*methods, open_run))


def test_features_are_those_of_all_queries(finished: FinishedRun) -> None:
    features = finished.features()
    assert set(features["scene_id"]) == {"alpha", "beta"}
    assert set(features["query"]) == {WATER, ROADS}
    assert features.crs.to_string() == "OGC:CRS84"


def test_a_mosaic_of_all_queries_is_that_of_each(finished: FinishedRun) -> None:
    every = finished.mosaic("alpha")
    assert every["mask"].dims == ("query_id", "y", "x")
    assert isinstance(every["mask"].data, dask.array.Array)
    assert every["query_id"].values.tolist() == [query.query_id for query in finished.queries]
    assert every.odc.crs == finished.scenes[0].geobox.crs
    assert every.odc.geobox == finished.scenes[0].geobox
    for query in finished.queries:
        one = finished.mosaic("alpha", query.query_id)
        for name in ("mask", "probability", "coverage_l1"):
            assert np.array_equal(one[name], every.sel(query_id=query.query_id)[name])
    assert "t2s:query" not in every.attrs
    assert every.attrs["t2s:state"] == "complete"


def test_a_rotated_scene_has_a_mosaic_too(finished: FinishedRun) -> None:
    assert finished.mosaic("beta")["mask"].shape == (3, 120, 150)


def test_tile_results_are_what_the_run_counted(finished: FinishedRun) -> None:
    table = finished.tile_results()
    counts = finished.manifest["counts"]
    assert len(table) == counts["total"]
    assert (table["status"] == "ok").sum() == counts["ok"]
    assert not table.duplicated(["scene_id", "query_id", "level", "row", "col"]).any()
    water = finished.tile_results("alpha", "the-water")
    assert set(water["scene_id"]) == {"alpha"}
    assert set(water["reasoning"]) == {"Blue means water."}
    assert list(water["prompts"].iloc[0][0]["box_tile_px"]) == [6 * 4, 8 * 4, 44 * 4, 50 * 4]  # of 64 px, in 256
    assert set(finished.tile_results(query_id=finished.queries[2].query_id)["status"]) == {"no_target"}
    assert finished.queries[2].text == NOTHING


def test_in_a_notebook_the_report_has_a_frame_of_its_own(finished: FinishedRun) -> None:
    html = finished.show(500)._repr_html_()
    assert html.startswith('<iframe title="t2s report" sandbox="allow-scripts" style="width:100%;height:500px')
    assert html.count("<") == 2
    assert "2 scenes, 3 queries" in repr(finished)


@pytest.mark.parametrize(("scene", "query", "said"), [("gamma", None, "alpha, beta"), ("alpha", "fish", "the-water")])
def test_what_a_run_has_not_is_said(finished: FinishedRun, scene: str, query: str | None, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        finished.mosaic(scene, query)
    with pytest.raises(BadInput, match=said):
        finished.tile_results(scene, query)


def test_only_a_run_that_has_ended_is_opened(finished: FinishedRun, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no run\.json is here"):
        open_run(str(tmp_path))
    from pipeline.storage import Store

    write_manifest(Store.at(str(tmp_path)), {**finished.manifest, "status": RunStatus.RUNNING.value})
    with pytest.raises(BadInput, match="the run is RUNNING"):
        open_run(str(tmp_path))
