"""Everything that can be known to fail is found first, and all of it together."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from shapely.geometry import box
from tiffs import draw_tiff, noise

from pipeline import preflight as module
from pipeline.aoi import Aoi, place
from pipeline.preflight import (
    attempt,
    body_problems,
    geometry_problems,
    is_of_scene,
    output_problems,
    preflight,
    threshold_problems,
)
from pipeline.queries import Query, parse_queries
from pipeline.scenes import Problem, Resolved, resolve
from t2s_core.errors import BadInput

WATER = Query(query_id="water", text="water")


@pytest.fixture(autouse=True)
def _known_models(monkeypatch: pytest.MonkeyPatch) -> None:
    def check(name: str) -> None:
        if name != "bundled":
            raise BadInput(f"model {name!r} is unknown; use bundled")

    monkeypatch.setattr(module, "check_prompter", check)
    monkeypatch.setattr(module, "check_segmenter", check)


def run(resolved: Resolved, out: Path, **changes: Any) -> list[Problem]:
    good: dict[str, Any] = {
        "queries": [WATER], "out_url": str(out), "tile_px": 256, "overlap_px": 64, "levels": (1,), "threshold": 0.5,
        "prompter": "bundled", "segmenter": "bundled",
    }  # fmt: skip
    return preflight(resolved, **{**good, **changes})


def test_good_input_has_no_problem_and_nothing_is_written(tmp_path: Path) -> None:
    resolved = resolve([str(draw_tiff(tmp_path / "a.tif", noise(3, 8, 8)))])
    assert run(resolved, tmp_path / "out" / "deep") == []
    assert not (tmp_path / "out").exists()


def test_all_problems_of_all_inputs_come_together(tmp_path: Path) -> None:
    good = draw_tiff(tmp_path / "a.tif", noise(3, 8, 8))
    resolved = resolve([str(good), str(tmp_path / "gone.tif")], bands=(1, 2))
    _, earlier = attempt("--query", lambda: parse_queries(["a", "a", " "]))
    problems = run(
        resolved, good, earlier=earlier, tile_px=256, overlap_px=300, levels=(1, 3), threshold=1.0,
        prompter="oracle", segmenter="scissors",
        of_area=place(Aoi("aoi.gpkg", box(0, 0, 1, 1), "OGC:CRS84"), resolved.scenes).problems,
    )  # fmt: skip
    assert [Path(p.href).name for p in problems] == [
        "gone.tif", "--bands", "--query", "--query", "--overlap-px", "--levels", "--threshold", "aoi.gpkg", "a.tif",
        "--prompter", "--segmenter",
    ]  # fmt: skip
    assert [Path(p.href).name for p in problems if is_of_scene(p, resolved)] == ["gone.tif"]


def test_no_scene_at_all_is_a_problem(tmp_path: Path) -> None:
    (problem,) = run(Resolved([], []), tmp_path)
    assert "no scene" in problem.problem


@given(tile_px=st.integers(-10, 5000), overlap_px=st.integers(-10, 5000))
def test_geometry_passes_exactly_where_tiles_have_a_core(tile_px: int, overlap_px: int) -> None:
    good = 64 <= tile_px <= 4096 and 0 <= overlap_px <= tile_px // 2
    assert (geometry_problems(tile_px, overlap_px, (1,)) == []) is good


def test_geometry_problems_say_value_limit_and_way_out() -> None:
    (overlap,) = geometry_problems(256, 300, (1,))
    assert overlap.problem == "overlap_px=300 is more than half a 256 px tile; use at most 128."
    assert geometry_problems(None, None, (1, 2, 8)) == []
    assert len(geometry_problems(256, 64, (0, 3, 128))) == 3
    assert geometry_problems(512, 128, (1, 16)) == []
    (side,) = geometry_problems(512, 128, (1, 32))
    assert side.problem.startswith("level 32 makes tiles of 512 px span 16384 scene pixels, more than 8192; use finer")
    assert "twice" in geometry_problems(256, 64, (2, 2))[0].problem
    assert "no level" in geometry_problems(256, 64, ())[0].problem


@pytest.mark.parametrize("threshold", [0.0, 1.0, -1.0, float("nan"), 50.0])
def test_thresholds_are_open_probabilities(threshold: float) -> None:
    assert threshold_problems(0.5) == []
    assert "not between 0 and 1" in threshold_problems(threshold)[0].problem


def test_output_must_be_a_writable_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    assert "is a file" in output_problems(str(tmp_path / "file"), [], 1)[0].problem
    assert "is a file" in output_problems(str(tmp_path / "file" / "below"), [], 1)[0].problem
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anywhere, so the mode alone proves nothing
    assert "not writable" in output_problems(str(tmp_path / "new"), [], 1)[0].problem


def test_too_small_a_disk_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scenes = resolve([str(draw_tiff(tmp_path / "a.tif", noise(3, 100, 100)))]).scenes
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**6, 10**6, 9_000))  # type: ignore[attr-defined]
    assert output_problems(str(tmp_path / "out"), scenes, 1) == []
    (problem,) = output_problems(str(tmp_path / "out"), scenes, 2)
    assert problem.problem.startswith("about 1e-05 GB are needed and 9e-06 GB are free")


def test_remote_output_is_looked_at_and_not_written() -> None:
    assert output_problems("memory://runs/out", [], 1) == []
    assert "Protocol not known" in output_problems("nonsense://out", [], 1)[0].problem


def test_scenes_of_two_planets_are_refused(tmp_path: Path) -> None:
    for name, crs in (("moon", "IAU_2015:30100"), ("earth", "EPSG:4326"), ("airy", "EPSG:27700")):
        draw_tiff(tmp_path / f"{name}.tif", noise(3, 8, 8), crs=crs, transform=Affine(1.0, 0.0, 9.0, 0.0, -1.0, 50.0))
    of = {s.scene_id: s for s in resolve([str(tmp_path)]).scenes}
    assert body_problems([of["earth"], of["airy"]]) == []
    (problem,) = body_problems([of["earth"], of["moon"], of["airy"]])
    assert "2 celestial bodies" in problem.problem
    assert "moon.tif" in problem.problem


def test_scenes_on_two_figures_of_one_planet_are_refused(tmp_path: Path) -> None:
    same_sphere = "+proj=sinu +lon_0=20 +R=3396190 +units=m"
    for name, crs in (("sphere", "IAU_2015:49910"), ("own", same_sphere), ("ellipsoid", "IAU_2015:49921")):
        draw_tiff(tmp_path / f"{name}.tif", noise(3, 8, 8), crs=crs, transform=Affine(5.0, 0.0, 0.0, 0.0, -5.0, 1e5))
    of = {s.scene_id: s for s in resolve([str(tmp_path)]).scenes}
    assert body_problems([of["sphere"], of["own"]]) == [], "names do not matter, numbers do"
    (problem,) = body_problems(list(of.values()))
    assert "3396190 x 3396190 m" in problem.problem
    assert "3396190 x 3376200 m" in problem.problem
