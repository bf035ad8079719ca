"""Areas of interest: read strictly, laid over scenes anywhere on the globe."""

import json
from pathlib import Path

import geopandas
import numpy as np
import pytest
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Transformer
from shapely.geometry import Point, Polygon, box

from pipeline.aoi import Aoi, aoi_in_scene_px, place, read_aoi, touches
from pipeline.scenes import NodataRule, Scene, geobox_of
from pipeline.tiling import Window
from t2s_core.errors import BadInput

CRS84 = "OGC:CRS84"


def scene(crs: str, size_px: tuple[int, int], west_north: tuple[float, float], pixel: float, name: str = "s") -> Scene:
    """(width, height), upper left corner and pixel size in units of the CRS."""
    transform = Affine(pixel, 0, west_north[0], 0, -pixel, west_north[1])
    geobox = geobox_of((size_px[1], size_px[0]), transform, crs)
    return Scene(name, f"/{name}.tif", "e", geobox, (1, 2, 3), "uint8", NodataRule("none"), None, warped=False)


UTM33 = scene("EPSG:32633", (1000, 800), (500_000, 4_000_000), 10)
WHOLE_EARTH = Aoi("earth", box(-180, -90, 180, 90), CRS84)


def refused(path: Path) -> str:
    with pytest.raises(BadInput) as caught:
        read_aoi(str(path))
    assert all("\n" not in problem for problem in caught.value.problems)
    return str(caught.value)


def test_every_format_gives_the_same_area(tmp_path: Path) -> None:
    shape = box(15, 36, 15.05, 36.1)
    table = geopandas.GeoDataFrame(geometry=[shape], crs="EPSG:4326")
    table.to_file(tmp_path / "a.geojson")
    table.to_file(tmp_path / "a.gpkg")
    table.to_file(tmp_path / "a.shp")
    table.to_parquet(tmp_path / "a.parquet")
    (tmp_path / "a.wkt").write_text(f"SRID=4326;{shape.wkt}")
    for suffix in ("geojson", "gpkg", "shp", "parquet", "wkt"):
        aoi = read_aoi(str(tmp_path / f"a.{suffix}"))
        assert aoi.geometry.equals(shape), suffix
        assert aoi.crs == "EPSG:4326"


def test_geojson_is_longitude_and_latitude_by_definition(tmp_path: Path) -> None:
    path = tmp_path / "a.geojson"
    path.write_text(json.dumps(shapely.geometry.mapping(box(15, 36, 16, 37))))
    assert read_aoi(str(path)).crs in {CRS84, "EPSG:4326"}
    path.write_text(json.dumps(shapely.geometry.mapping(box(500_000, 4_000_000, 500_100, 4_000_100))))
    assert "no degrees" in refused(path)


def test_an_area_without_crs_is_refused(tmp_path: Path) -> None:
    table = geopandas.GeoDataFrame(geometry=[box(0, 0, 1, 1)])
    table.to_file(tmp_path / "a.shp")
    (tmp_path / "a.wkt").write_text("POLYGON ((0 0, 1 0, 1 1, 0 0))")
    for name in ("a.shp", "a.wkt"):
        assert "no coordinate reference system" in refused(tmp_path / name)


def test_every_bad_feature_is_named(tmp_path: Path) -> None:
    bow_tie = Polygon([(0, 0), (1, 1), (1, 0), (0, 1)])
    table = geopandas.GeoDataFrame(geometry=[box(0, 0, 1, 1), bow_tie, Point(0, 0)], crs="EPSG:4326")
    table.to_file(tmp_path / "a.geojson")
    found = refused(tmp_path / "a.geojson")
    assert "feature 2 is invalid" in found
    assert "feature 3 is a Point" in found
    (tmp_path / "empty.geojson").write_text('{"type": "FeatureCollection", "features": []}')
    assert "holds no geometry" in refused(tmp_path / "empty.geojson")


def test_files_that_are_none(tmp_path: Path) -> None:
    assert "cannot be read" in refused(tmp_path / "gone.geojson")
    (tmp_path / "a.wkt").write_text("nonsense")
    assert "a.wkt" in refused(tmp_path / "a.wkt")


def test_polygons_are_united(tmp_path: Path) -> None:
    table = geopandas.GeoDataFrame(geometry=[box(0, 0, 2, 1), box(1, 0, 3, 1)], crs="EPSG:32633")
    table.to_file(tmp_path / "a.gpkg")
    assert read_aoi(str(tmp_path / "a.gpkg")).geometry.equals(box(0, 0, 3, 1))


@given(st.tuples(*[st.floats(0, 1000)] * 4))
@settings(max_examples=30, deadline=None)
def test_pixels_come_back_as_the_pixels_they_were(corners: tuple[float, float, float, float]) -> None:
    """Scene pixels to longitude and latitude, densely, and back."""
    x0, x1 = sorted(corners[:2])
    y0, y1 = sorted(c * 0.8 for c in corners[2:])
    if x1 - x0 < 1 or y1 - y0 < 1:
        return
    to_lonlat = Transformer.from_crs("EPSG:32633", CRS84, always_xy=True)
    dense = shapely.segmentize(box(x0, y0, x1, y1), 5.0)
    lonlat = shapely.transform(
        dense,
        lambda p: np.column_stack(to_lonlat.transform(500_000 + 10 * p[:, 0], 4_000_000 - 10 * p[:, 1])),
    )
    area = aoi_in_scene_px(Aoi("a", lonlat, CRS84), UTM33)
    assert area.symmetric_difference(box(x0, y0, x1, y1)).area < 0.01


def test_long_edges_are_bent_as_the_projection_bends_them() -> None:
    wide = scene("EPSG:32633", (4000, 100), (300_000, 6_700_000), 100)
    area = aoi_in_scene_px(Aoi("a", box(10, 60.35, 20, 70), CRS84), wide)
    to_lonlat = Transformer.from_crs("EPSG:32633", CRS84, always_xy=True)
    for col in (500, 2000, 3500):
        below = area.intersection(shapely.LineString([(col, 0), (col, 100)])).bounds[3]
        _, latitude = to_lonlat.transform(300_000 + 100 * col, 6_700_000 - 100 * below)
        assert latitude == pytest.approx(60.35, abs=1e-5)


@pytest.mark.parametrize(
    "anywhere",
    [
        UTM33,
        scene("EPSG:32760", (3000, 1000), (700_000, 8_100_000), 100),  # across the antimeridian
        scene("EPSG:3031", (1000, 1000), (-2_500_000, 2_500_000), 5000),  # around the south pole
        scene("EPSG:3413", (1000, 1000), (-2_500_000, 2_500_000), 5000),  # around the north pole
        scene("EPSG:4326", (360, 180), (-180, 90), 1),
        scene("EPSG:4326", (360, 180), (0, 90), 1),
        scene("EPSG:4326", (200, 100), (170, 5), 0.1),
    ],
)
def test_the_whole_earth_covers_every_scene(anywhere: Scene) -> None:
    height, width = anywhere.shape
    assert aoi_in_scene_px(WHOLE_EARTH, anywhere).area == pytest.approx(height * width, rel=1e-6)


def test_an_area_on_the_other_side_of_the_antimeridian() -> None:
    across = scene("EPSG:32760", (3000, 1000), (700_000, 8_100_000), 100)
    area = aoi_in_scene_px(Aoi("a", box(-180, -90, -179.5, 90), CRS84), across)
    to_lonlat = Transformer.from_crs("EPSG:32760", CRS84, always_xy=True)
    x, y = area.centroid.coords[0]
    longitude, _ = to_lonlat.transform(700_000 + 100 * x, 8_100_000 - 100 * y)
    assert -180 <= longitude <= -179.5
    from_zero = scene("EPSG:4326", (360, 180), (0, 90), 1)
    assert aoi_in_scene_px(Aoi("a", box(-10, 0, 10, 10), CRS84), from_zero).area == pytest.approx(200)


def test_missed_scenes_are_skipped_and_missing_all_is_a_problem() -> None:
    there = scene("EPSG:32633", (10, 10), (900_000, 5_000_000), 10, "there")
    aoi = Aoi("aoi.geojson", box(15, 36, 15.05, 36.1), CRS84)
    placed = place(aoi, [UTM33, there])
    assert list(placed.areas_scene_px) == ["s"]
    assert (placed.missed, placed.problems) == (["there"], [])
    (problem,) = place(aoi, [there]).problems
    assert problem.href == "aoi.geojson"
    assert "misses all 1 scenes" in problem.problem


def test_another_planet_is_a_problem() -> None:
    moon = scene("IAU_2015:30100", (360, 180), (-180, 90), 1)
    (problem,) = place(WHOLE_EARTH, [moon]).problems
    assert "cannot be brought" in problem.problem


def test_a_common_edge_is_no_touch() -> None:
    area = box(0, 0, 10, 10)
    assert touches(area, Window(9, 9, 20, 20))
    assert not touches(area, Window(10, 0, 20, 10))
    assert not touches(area, Window(10, 10, 20, 20))
    assert touches(area, Window(2, 2, 3, 3))
