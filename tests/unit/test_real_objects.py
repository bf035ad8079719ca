"""The truth outlined by hand on real scenes, and what the benchmark makes of it."""

import json
from pathlib import Path

import bench_real_objects as bench
import numpy as np
import pytest
import rasterio
import run
from shapely.geometry import Polygon, box

from t2s_core.ports import InstanceLogits

OBJECTS = bench.load_objects()


@pytest.fixture
def imagery() -> Path:
    lack = bench.missing()
    if lack:
        pytest.skip(lack)
    return bench.imagery_folder()


def test_there_are_many_objects_of_many_kinds_and_no_two_share_an_id() -> None:
    assert len(OBJECTS) >= 14
    assert len({one.source for one in OBJECTS}) >= 4
    assert len({one.what for one in OBJECTS}) >= 8
    assert len({one.id for one in OBJECTS}) == len(OBJECTS)


def test_sources_are_file_names_and_are_shown_as_they_are() -> None:
    sources = json.loads((bench.HERE / "real_objects.json").read_text())["sources"]
    assert {one.source for one in OBJECTS} == set(sources)
    assert all(Path(name).name == name for name in sources)
    assert {entry["stretch"] for entry in sources.values()} == {"identity"}, "`picture` knows no other stretch"
    for one in OBJECTS:
        assert one.gsd_m == pytest.approx(sources[one.source]["gsd_m"] * one.window_source_px[2] / bench.SIDE_PX, 1e-3)


@pytest.mark.parametrize("one", OBJECTS, ids=lambda one: one.id)
def test_a_polygon_is_valid_and_inside_its_square_window(one: bench.RealObject) -> None:
    left, top, side = one.window_source_px
    assert min(left, top) >= 0
    assert side > 0
    assert one.polygon_source_px.is_valid
    assert box(left, top, left + side, top + side).covers(one.polygon_source_px)


@pytest.mark.parametrize("one", OBJECTS, ids=lambda one: one.id)
def test_a_truth_has_the_polygons_area_and_its_points_lie_on_it(one: bench.RealObject) -> None:
    truth, prompt = one.truth(), bench.prompt_of(one.truth())
    pixel_px = one.window_source_px[2] / bench.SIDE_PX
    polygon = one.polygon_source_px
    assert truth.sum() >= 60, "smaller ones are no objects in the drawn world either"
    # A pixel counts by its middle: the error is a share of the pixels along the outline.
    assert abs(truth.sum() - polygon.area / pixel_px**2) <= 0.25 * polygon.length / pixel_px
    assert all(truth[int(y), int(x)] for x, y in prompt.points)


def test_truth_and_filled_box_of_a_triangle_are_those_computed_by_hand() -> None:
    corner = Polygon([(1000, 500), (1511, 500), (1000, 1011)])
    one = bench.RealObject("id", "half a square", "file.tif", (1, 2, 3), (1000, 500, 512), 1.0, corner)
    truth = one.truth()
    rows, columns = np.indices(truth.shape)
    assert (truth == (rows + 0.5 + columns + 0.5 < 255.5)).all()
    assert bench.box_iou(truth) == pytest.approx((255 * 256 / 2) / 255**2)


def test_without_imagery_one_line_says_what_is_missing_and_how_to_name_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("T2S_REAL_IMAGERY", str(tmp_path))
    with pytest.raises(SystemExit, match=r"^no .*osbs_029\.tif.* in .*; set T2S_REAL_IMAGERY to the folder .*$"):
        bench.measure()
    assert run.why_not(bench) == bench.missing()
    monkeypatch.setattr(run, "HERE", tmp_path)
    (tmp_path / "bench_real_objects.py").touch()
    run.main([])
    assert capsys.readouterr().out.startswith("real_objects: no ")
    assert not list((tmp_path / "results").iterdir())


def test_windows_lie_inside_the_rasters_and_show_something(imagery: Path) -> None:
    for one in OBJECTS:
        left, top, side = one.window_source_px
        with rasterio.open(imagery / one.source) as dataset:
            assert left + side <= dataset.width
            assert top + side <= dataset.height
            assert dataset.dtypes[0] == "uint8"
        picture = one.picture(imagery)
        assert picture.shape == (256, 256, 3)
        assert picture[one.truth()].any(axis=-1).mean() > 0.97, f"{one.id} is outlined over no data"


def test_the_benchmark_scores_every_object_and_its_filled_box(imagery: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Nothing:
        def encode(self, images: list[np.ndarray]) -> list[np.ndarray]:
            return images

        def decode(self, embeddings: list[np.ndarray], prompts: list[list[object]]) -> list[list[object]]:
            (logits,) = (np.full((64, 64), -1.0, np.float32) for _ in embeddings)
            return [[InstanceLogits(logits, 0.0) for _ in one] for one in prompts]

    monkeypatch.setattr(bench, "load_segmenter", lambda _: Nothing())
    result = bench.measure()
    assert result["value"] == 0.0
    assert result["details"]["not_above_filled_box"] == [one.id for one in OBJECTS]
    scored = {entry["id"]: entry for entry in result["details"]["objects"]}
    bridge = next(one for one in OBJECTS if one.id == "bridge")
    # By hand, from the polygon alone: its area over that of its bounds. A pixel of either side moves it by 1 %.
    left, top, right, bottom = bridge.polygon_source_px.bounds
    by_hand = bridge.polygon_source_px.area / ((right - left) * (bottom - top))
    assert scored["bridge"]["filled_box_iou"] == pytest.approx(by_hand, abs=0.01)
