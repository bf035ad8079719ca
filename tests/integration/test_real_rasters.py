"""Six real scenes and a broken one in one run."""

from pathlib import Path

import pytest
import shapely
from affine import Affine
from fakes import reply_text
from regions import features_of, make_models, mask_of, run, spec_of

from pipeline.manifest import RunStatus
from pipeline.mosaics import open_mosaic
from pipeline.rasters import open_raster
from pipeline.status import run_status
from pipeline.storage import Store
from t2s_core.prompts import InstancePrompt

GOOD = ("all_nodata", "colorado_mask", "landsat_rgb_utm18", "manila_bridge_10cm", "osbs_029", "rgba_uint16")
QUERY = "the river"


@pytest.mark.parametrize("tile_px", [512])
def test_the_good_scenes_are_whole_and_the_broken_one_is_told(shared_data: Path, tmp_path: Path, tile_px: int) -> None:
    reply = reply_text([InstancePrompt((6, 8, 44, 50), ((20, 20), (30, 30)))])
    models = make_models(tmp_path, [("*", QUERY, reply)])
    hrefs = [shared_data / f"{name}.tif" for name in (*GOOD, "corrupt")]
    outcome = run(spec_of(models, *hrefs, queries=[QUERY], tile_px=tile_px), tmp_path / "out")
    counts, failures = outcome.manifest["counts"], outcome.manifest["failures"]
    assert outcome.status is RunStatus.PARTIAL
    assert {f["scene_id"] for f in failures} == {"corrupt"}
    assert len(failures) == counts["failed"] > 0
    assert all(f["reason"] for f in failures)
    assert (counts["pending"], counts["unparsable"]) == (0, 0)
    assert counts["ok"] + counts["failed"] + counts["skipped_nodata"] == counts["total"]
    assert run_status(str(tmp_path / "out"))["failures"] == failures
    assert (mask_of(tmp_path / "out", "all_nodata", "the-river") == 255).all()
    features = features_of(tmp_path / "out")
    for scene_id in GOOD:
        with open_raster(str(shared_data / f"{scene_id}.tif")) as dataset:
            transform, (height, width), crs = dataset.transform, dataset.shape, dataset.crs
        found = open_mosaic(Store.at(str(tmp_path / "out")), scene_id, "the-river")
        assert found["mask"].shape == (height, width)
        found_transform = Affine.from_gdal(*map(float, found.spatial_ref.attrs["GeoTransform"].split()))
        for corner in ((0, 0), (width, height)):
            assert ~transform @ (found_transform @ corner) == pytest.approx(corner, abs=1e-6)
        mine = features[features["scene_id"] == scene_id]
        assert (len(mine) == 0) is (scene_id == "all_nodata")
        if len(mine):
            corners = [transform @ corner for corner in ((0, 0), (width, 0), (width, height), (0, height))]
            footprint = shapely.Polygon(corners).buffer(abs(transform.a) * 1e-2)
            assert mine.to_crs(crs.to_wkt()).within(footprint).all()
