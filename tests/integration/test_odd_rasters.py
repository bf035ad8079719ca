"""Every odd raster: what is drawn on the ground comes back as features where it was drawn, and all outputs agree.

The models are ideal here: a prompter that points at the whole tile and a segmenter that takes what is bright in the
image it is shown, so that whatever goes astray went astray in the dataflow.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from fakes import BrightSegmenter, reply_text
from numpy.typing import NDArray
from PIL import Image
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, Resampling
from rasterio.features import rasterize, shapes
from rasterio.warp import transform, transform_geom
from regions import TILE_PX, features_of, run, spec_of, write_replies
from shapely.affinity import affine_transform
from shapely.geometry.base import BaseGeometry
from tiffs import draw_tiff, noise

from pipeline import preflight, prepare, worker
from pipeline.manifest import RunStatus
from pipeline.mosaics import open_mosaic
from pipeline.spec import Models
from pipeline.storage import Store
from t2s_core.errors import BadInput
from t2s_core.prompts import InstancePrompt

QUERY, QUERY_ID = "what is bright", "what-is-bright"
HEIGHT, WIDTH = 90, 120
DARK, BRIGHT = 20, 235
ALLOWED_PX = 0.5
MERCATOR_M = 2 * np.pi * 6_378_137
"""How long the equator is in EPSG:3857."""


def drawn_truth() -> NDArray[np.bool_]:
    """(HEIGHT, WIDTH): a lake with an island that spans tiles, a pond, a pixel, and a canal along the right edge."""
    truth = np.zeros((HEIGHT, WIDTH), np.bool_)
    truth[10:60, 25:75] = True
    truth[45:60, 55:75] = False
    truth[20:32, 35:50] = False
    truth[70:80, 60:71] = True
    truth[75, 15] = True
    truth[5:85, 110:120] = True
    return truth


TRUTH = drawn_truth()
HOLE = np.zeros((HEIGHT, WIDTH), np.bool_)
HOLE[:25, :20] = True
HOLE[50:, 100:105] = True


def shown(count: int = 3, dtype: str = "uint8", dark: float = DARK, bright: float = BRIGHT) -> NDArray[Any]:
    """(count, HEIGHT, WIDTH): the truth bright on dark."""
    return np.broadcast_to(np.where(TRUTH, bright, dark).astype(dtype), (count, HEIGHT, WIDTH)).copy()


NORTH_UP = Affine(2.0, 0.0, 500_000.0, 0.0, -2.0, 4_000_000.0)


@dataclass(frozen=True)
class Case:
    """A raster, and where its pixels are said to lie."""

    crs: str = "EPSG:32633"
    to_ground: Affine = NORTH_UP
    bands: Callable[[], NDArray[Any]] = shown
    profile: dict[str, Any] = field(default_factory=dict)
    write: Callable[[Path, "Case"], Path] | None = None
    hole: NDArray[np.bool_] | None = None
    """True where the file says that there is no data."""
    exact: bool = True
    """False where the scene's grid is not the file's."""
    options: dict[str, Any] = field(default_factory=dict)

    def draw(self, folder: Path) -> Path:
        if self.write is not None:
            return self.write(folder, self)
        return draw_tiff(folder / "scene.tif", self.bands(), crs=self.crs, transform=self.to_ground, **self.profile)


def degrees(west: float, north: float, pixel: float = 1e-4) -> Affine:
    return Affine(pixel, 0.0, west, 0.0, -pixel, north)


def around(crs: str, lon: float, lat: float, pixel: float = 2.0) -> Affine:
    """A north-up grid with pixel (60, 40), which is in the lake, at a place."""
    (x,), (y,) = transform("OGC:CRS84", crs, [lon], [lat])
    return Affine(pixel, 0.0, x - 60.0 * pixel, 0.0, -pixel, y + 40.0 * pixel)


def with_ground_control_points(folder: Path, case: Case) -> Path:
    corners = [(row, col) for row in (0, HEIGHT / 2, HEIGHT) for col in (0, WIDTH / 2, WIDTH)]
    points = [GroundControlPoint(row, col, *(case.to_ground @ (col, row))) for row, col in corners]
    return draw_tiff(folder / "scene.tif", case.bands(), gcps=(points, CRS.from_user_input(case.crs)), **case.profile)


def with_overviews(folder: Path, case: Case) -> Path:
    path = draw_tiff(folder / "scene.tif", case.bands(), crs=case.crs, transform=case.to_ground, **case.profile)
    with rasterio.open(path, "r+") as dataset:
        dataset.build_overviews([2, 4], Resampling.average)
    return path


def with_a_mask_beside_it(folder: Path, case: Case) -> Path:
    path = draw_tiff(folder / "scene.tif", case.bands(), crs=case.crs, transform=case.to_ground)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(path, "r+") as dataset:
        dataset.write_mask(~HOLE)
    assert path.with_suffix(".tif.msk").exists()
    return path


def as_vrt(folder: Path, case: Case) -> Path:
    """Two files side by side, and a gap between them that no file covers."""
    left, right = 50, 60
    parts = {"left": (0, left), "right": (right, WIDTH)}
    sources = ""
    for name, (start, stop) in parts.items():
        place = case.to_ground @ Affine.translation(start, 0)
        draw_tiff(folder / f"{name}.tif", case.bands()[:, :, start:stop], crs=case.crs, transform=place)
        size = f'xSize="{stop - start}" ySize="{HEIGHT}"'
        sources += (
            f'<ComplexSource><SourceFilename relativeToVRT="1">{name}.tif</SourceFilename><SourceBand>%d</SourceBand>'
            f'<SrcRect xOff="0" yOff="0" {size}/><DstRect xOff="{start}" yOff="0" {size}/></ComplexSource>'
        )
    geo = ",".join(map(str, case.to_ground.to_gdal()))
    bands = "".join(
        f'<VRTRasterBand dataType="Byte" band="{i}"><NoDataValue>0</NoDataValue>{sources % (i, i)}</VRTRasterBand>'
        for i in (1, 2, 3)
    )
    path = folder / "scene.vrt"
    path.write_text(
        f'<VRTDataset rasterXSize="{WIDTH}" rasterYSize="{HEIGHT}"><SRS>{case.crs}</SRS>'
        f"<GeoTransform>{geo}</GeoTransform>{bands}</VRTDataset>"
    )
    return path


def holed(value: float, **options: Any) -> Callable[[], NDArray[Any]]:
    def bands() -> NDArray[Any]:
        pixels = shown(**options)
        pixels[:, HOLE] = value
        return pixels

    return bands


def with_alpha() -> NDArray[np.uint8]:
    return np.concatenate([shown(), np.where(HOLE, 0, 255)[None].astype(np.uint8)])


def thirteen_bands() -> NDArray[np.uint16]:
    """Only bands 4, 3 and 2 show the truth."""
    bands = noise(13, HEIGHT, WIDTH, dtype="uint16", high=10_000)
    bands[1:4] = shown(3, "uint16", 300, 5000)
    return bands


GAP = np.zeros((HEIGHT, WIDTH), np.bool_)
GAP[:, 50:60] = True
RGBA = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha]
UNKNOWN_CRS = "+proj=laea +lat_0=41 +lon_0=12.3 +datum=WGS84 +units=m"
ROTATED_POLE = "+proj=ob_tran +o_proj=longlat +o_lon_p=0 +o_lat_p=39.25 +lon_0=18 +datum=WGS84"
MARS = "IAU_2015:49910"
CASES = {
    "rotated": Case(to_ground=NORTH_UP @ Affine.rotation(30)),
    "sheared": Case(to_ground=Affine(2.0, 0.7, 500_000.0, 0.3, -1.5, 4_000_000.0)),
    "south-up": Case(to_ground=Affine(2.0, 0.0, 500_000.0, 0.0, 2.0, 4_000_000.0)),
    "mirrored": Case(to_ground=Affine(-2.0, 0.0, 500_000.0, 0.0, -2.0, 4_000_000.0)),
    "oblong pixels": Case(to_ground=Affine(3.0, 0.0, 500_000.0, 0.0, -1.0, 4_000_000.0)),
    "pixel is point": Case(profile={"tags": {"AREA_OR_POINT": "Point"}}),
    "ground control points": Case(
        to_ground=NORTH_UP @ Affine.rotation(20), write=with_ground_control_points, exact=False
    ),
    "ground control points and a mask": Case(
        to_ground=NORTH_UP @ Affine.rotation(-35), write=with_ground_control_points, exact=False, hole=HOLE,
        bands=holed(0), profile={"nodata": 0},
    ),
    "ground control points beyond 180": Case(
        "EPSG:4326", degrees(179.995, -17.0) @ Affine.rotation(25), write=with_ground_control_points, exact=False
    ),
    "EPSG:4326": Case("EPSG:4326", degrees(12.0, 41.0)),
    "EPSG:4326 beyond 180": Case("EPSG:4326", degrees(179.995, -17.0)),
    "EPSG:4326 before -180": Case("EPSG:4326", degrees(-180.006, -17.0)),
    "EPSG:4326 from 0 to 360": Case("EPSG:4326", degrees(235.0, 41.0)),
    "rotated EPSG:4326 beyond 180": Case("EPSG:4326", degrees(179.995, 60.0) @ Affine.rotation(25)),
    "NAD83 beyond 180": Case("EPSG:4269", degrees(179.995, 52.0)),
    "Tokyo datum beyond 180": Case("EPSG:4301", degrees(179.995, 52.0)),
    "grads from Paris": Case("EPSG:4807", degrees(5.0, 50.0)),
    "rotated pole": Case(ROTATED_POLE, degrees(1.0, 2.0, 0.01)),
    "whole globe from pole to pole": Case("EPSG:4326", Affine(3.0, 0.0, -181.5, 0.0, -2.0225, 91.01)),
    "UTM 60 beyond 180": Case("EPSG:32760", around("EPSG:32760", 180.0, -17.0)),
    "UTM 1 before -180": Case("EPSG:32601", around("EPSG:32601", -180.0, 65.0)),
    "Web Mercator beyond 180": Case("EPSG:3857", around("EPSG:3857", 179.9999999, 10.0)),
    "UTM border": Case("EPSG:32632", around("EPSG:32632", 12.0, 45.0)),
    "north pole": Case("EPSG:3413", Affine(100.0, 0.0, -6_000.0, 0.0, -100.0, 4_000.0)),
    "south pole": Case("EPSG:3031", Affine(100.0, 0.0, -6_000.0, 0.0, -100.0, 4_000.0)),
    "axes north before east": Case("EPSG:31467", around("EPSG:31467", 9.0, 50.0)),
    "axes west and south": Case("EPSG:2053", around("EPSG:2053", 29.1, -26.0)),
    "feet": Case("EPSG:2263", around("EPSG:2263", -74.0, 40.7)),
    "with heights": Case("EPSG:32633+5773"),
    "no authority": Case(UNKNOWN_CRS, around(UNKNOWN_CRS, 12.4, 41.1)),
    "Mars": Case(MARS, Affine(5.0, 0.0, 100_000.0, 0.0, -5.0, 200_000.0)),
    "Mars in degrees from 0 to 360": Case("IAU_2015:49900", degrees(200.0, 30.0)),
    "Mars as WKT": Case("+proj=sinu +lon_0=20 +R=3396190 +units=m", Affine(5.0, 0.0, 9e4, 0.0, -5.0, 2e6)),
    "south pole of the Moon": Case("IAU_2015:30135", Affine(20.0, 0.0, -1_200.0, 0.0, -20.0, 800.0)),
    "1 band": Case(bands=lambda: shown(1)),
    "2 bands": Case(bands=lambda: np.concatenate([shown(1), noise(1, HEIGHT, WIDTH)])),
    "4 bands": Case(bands=lambda: np.concatenate([shown(), noise(1, HEIGHT, WIDTH)])),
    "13 bands": Case(bands=thirteen_bands, options={"bands": (4, 3, 2)}),
    "int16": Case(bands=holed(-32768, dtype="int16", dark=-500, bright=900), profile={"nodata": -32768}, hole=HOLE),
    "uint16": Case(bands=holed(0, dtype="uint16", dark=700, bright=9_000), profile={"nodata": 0}, hole=HOLE),
    "float32 with NaN": Case(bands=holed(np.nan, dtype="float32", dark=0.01, bright=0.4), hole=HOLE),
    "float64": Case(bands=lambda: shown(3, "float64", -1e-3, 2e-3)),
    "12 bits": Case(bands=lambda: shown(3, "uint16", 100, 4000), profile={"nbits": 12}),
    "4 bits": Case(bands=lambda: shown(1, "uint8", 2, 13), profile={"nbits": 4}),
    "1 bit": Case(bands=lambda: shown(1, "uint8", 0, 1), profile={"nbits": 1}),
    "palette": Case(
        bands=lambda: shown(1, "uint8", 7, 3), profile={"colormap": {7: (9, 9, 9, 255), 3: (250, 250, 250, 255)}}
    ),
    "white is zero": Case(bands=lambda: shown(1, "uint8", 255, 0), profile={"photometric": "MINISWHITE"}),
    "white is zero in 16 bits": Case(
        bands=lambda: shown(1, "uint16", 4000, 100), profile={"photometric": "MINISWHITE"}
    ),
    "mask band": Case(bands=shown, profile={"mask": ~HOLE}, hole=HOLE),
    "mask file": Case(write=with_a_mask_beside_it, hole=HOLE),
    "alpha": Case(bands=with_alpha, profile={"colorinterp": RGBA}, hole=HOLE),
    "overviews": Case(write=with_overviews, profile={"tiled": True, "blockxsize": 16, "blockysize": 16}),
    "BigTIFF": Case(profile={"bigtiff": "YES", "tiled": True, "blockxsize": 32, "blockysize": 32}),
    "one band after the other": Case(profile={"interleave": "band", "compress": "lzw", "predictor": 2}),
    "VRT": Case(write=as_vrt, hole=GAP),
}  # fmt: skip


@pytest.fixture(autouse=True)
def _ideal_segmenter(monkeypatch: pytest.MonkeyPatch) -> Any:
    segmenter = BrightSegmenter()
    monkeypatch.setattr(worker, "load_segmenter", lambda *_, **__: segmenter)
    monkeypatch.setattr(prepare, "segmenter_version", lambda _: segmenter.version)
    monkeypatch.setattr(preflight, "check_segmenter", lambda _: None)
    worker._engine.cache_clear()
    yield
    worker._engine.cache_clear()


def models(folder: Path) -> Models:
    whole = InstancePrompt((0, 0, TILE_PX, TILE_PX), ((20, 20), (30, 30)))
    write_replies(folder / "replies.jsonl", [("*", QUERY, reply_text([whole]))])
    return Models(prompter=f"recorded:{folder / 'replies.jsonl'}", segmenter="ideal")


def polygons_px(mask: NDArray[np.bool_]) -> BaseGeometry:
    found = shapes(mask.astype(np.uint8), mask=mask, connectivity=4)
    return shapely.union_all([shapely.geometry.shape(outline) for outline, _ in found])


def moved(geometry: BaseGeometry, by: Affine) -> BaseGeometry:
    return affine_transform(geometry, [by.a, by.b, by.d, by.e, by.c, by.f])


def on_grid(features: Any, crs: Any, to_px: Affine) -> BaseGeometry:
    """The features in pixels of the grid, brought there by GDAL: another library than the one that placed them."""
    source = CRS.from_wkt(features.crs.to_wkt())
    middle, _ = ~to_px @ (WIDTH / 2, HEIGHT / 2)
    globe = MERCATOR_M if crs == CRS.from_epsg(3857) else 2 * np.pi / crs.units_factor[1] if crs.is_geographic else 0

    def beside_the_middle(points: NDArray[np.float64]) -> NDArray[np.float64]:
        # a scene may lie beyond 180 degrees; features never do
        turns = np.round((middle - points[:, 0]) / globe) if globe else np.zeros(len(points))
        return points + np.column_stack([turns * globe, np.zeros(len(points))])

    parts = []
    for geometry in features.geometry:
        placed = shapely.geometry.shape(transform_geom(source, crs, shapely.geometry.mapping(geometry)))
        parts.append(shapely.make_valid(moved(shapely.transform(placed, beside_the_middle), to_px)))
    # cuts along the antimeridian close again, but for what rounding leaves
    return shapely.union_all(parts).buffer(1e-4).buffer(-1e-4)


def burn(geometry: BaseGeometry, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """True where a pixel's centre is inside."""
    inside: NDArray[np.bool_] = rasterize([geometry], out_shape=shape, dtype="uint8") == 1
    return inside


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_what_is_drawn_comes_back_where_it_was_drawn(case: Case, tmp_path: Path) -> None:
    path = case.draw(tmp_path)
    out = tmp_path / "out"
    outcome = run(spec_of(models(tmp_path), path, queries=[QUERY], **case.options), out)
    assert outcome.status is RunStatus.SUCCESS

    truth = TRUTH if case.hole is None else TRUTH & ~case.hole
    mosaic = open_mosaic(Store.at(str(out)), "scene", QUERY_ID)
    mask = np.asarray(mosaic["mask"])
    grid = Affine.from_gdal(*map(float, mosaic.spatial_ref.attrs["GeoTransform"].split()))
    crs = CRS.from_wkt(mosaic.spatial_ref.attrs["crs_wkt"])
    if case.exact:
        assert grid.almost_equals(case.to_ground, precision=1e-9)
        assert ((mask == 1) == truth).all()
        assert ((mask == 255) == (np.zeros_like(truth) if case.hole is None else case.hole)).all()
    if "x" in mosaic.coords:
        assert (mosaic.x[0], mosaic.y[0]) == pytest.approx(grid @ (0.5, 0.5), abs=1e-9)

    found = on_grid(features_of(out), crs, ~grid)
    drawn = moved(polygons_px(truth), ~grid @ case.to_ground)
    if case.exact:  # else outlines are staircases across those that were drawn, whose corners lie off by more
        assert shapely.hausdorff_distance(found, drawn, densify=0.1) < ALLOWED_PX
    burnt = burn(found, mask.shape)
    assert not (burnt & ~burn(drawn.buffer(ALLOWED_PX), mask.shape)).any()
    assert not (~burnt & burn(drawn.buffer(-ALLOWED_PX), mask.shape)).any()
    assert (burnt == (mask == 1)).all(), "Zarr and GeoParquet agree"


def with_crs_in_a_vrt(folder: Path, crs: str) -> Path:
    """GeoTIFF cannot say what a VRT can."""
    path = folder / "scene.vrt"
    path.write_text(
        f'<VRTDataset rasterXSize="8" rasterYSize="8"><SRS>{crs}</SRS><GeoTransform>0,1,0,9,0,-1</GeoTransform>'
        '<VRTRasterBand dataType="Byte" band="1"/></VRTDataset>'
    )
    return path


def with_points(folder: Path, crs: str, *points: tuple[float, float, float, float]) -> Path:
    """Ground control points as (column, row, x, y)."""
    listed = [GroundControlPoint(row, col, x, y) for col, row, x, y in points]
    return draw_tiff(folder / "scene.tif", shown(), gcps=(listed, CRS.from_user_input(crs)))


REFUSED: dict[str, tuple[Callable[[Path], Path], str]] = {
    "counts to the west": (lambda f: with_crs_in_a_vrt(f, "IAU_2015:49911"), "counts to the west"),
    "longitudes count to the west": (lambda f: with_crs_in_a_vrt(f, "IAU_2015:49901"), "counts to the west"),
    "planetocentric": (lambda f: with_crs_in_a_vrt(f, "IAU_2015:49902"), "planetocentric latitudes"),
    "metres called degrees": (
        lambda f: Case("EPSG:4326", NORTH_UP).draw(f),
        "pixel (0, 0), at 500000, 4e+06, is nowhere",
    ),
    "beyond the disk of the Earth": (
        lambda f: Case("+proj=geos +h=35785831 +datum=WGS84", Affine(1e5, 0, -6e6, 0, -1e5, 6e6)).draw(f),
        "is nowhere in",
    ),
    "two points": (
        lambda f: with_points(f, "EPSG:32633", (0, 0, 5e5, 4e6), (120, 0, 5.1e5, 4e6)),
        "Not enough points available; give at least 3",
    ),
    "points on a line": (
        lambda f: with_points(f, "EPSG:32633", *((c, c, 5e5 + c, 4e6 - c) for c in (0, 30, 60))),
        "give at least 3 that do not lie on one line",
    ),
    "points around the antimeridian": (
        lambda f: with_points(
            f, "EPSG:4326", (0, 0, 179.9, 10), (120, 0, -179.9, 10), (0, 90, 179.9, 9.9), (120, 90, -179.9, 9.9)
        ),
        "-179.9 to 179.9 degrees, around the antimeridian; add 360 to the negative ones.",
    ),
    "complex numbers": (lambda f: draw_tiff(f / "scene.tif", shown(1, "complex64")), "dtype complex64"),
    "a plan of a house": (
        lambda f: Case('LOCAL_CS["house",UNIT["metre",1]]').draw(f),
        "bound to no planet",
    ),
}


@pytest.mark.parametrize(("draw", "why"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_placed_is_refused_before_anything_is_spent(
    draw: Callable[[Path], Path], why: str, tmp_path: Path
) -> None:
    spec = spec_of(models(tmp_path), draw(tmp_path), queries=[QUERY])
    with pytest.raises(BadInput) as refused:
        prepare.prepare(spec, str(tmp_path / "out"))
    (line,) = refused.value.problems
    assert why in line
    assert "\n" not in line
    assert not (tmp_path / "out").exists()


def test_where_pixel_is_point_the_file_names_the_middle_of_a_pixel(tmp_path: Path) -> None:
    """So that the test above has tested something: the tie point in the file lies half a pixel inside."""
    with Image.open(CASES["pixel is point"].draw(tmp_path)) as image:
        tie_point = dict(image.tag_v2)[33922]
    assert tie_point[3:5] == (500_001.0, 3_999_999.0)


def test_a_lake_larger_than_a_tile_is_one_feature_by_its_coarser_level(tmp_path: Path) -> None:
    """The prompter sees the lake only where it sees all of it."""
    lake = np.zeros((200, 240), np.bool_)
    lake[20:180, 30:210] = True
    path = draw_tiff(tmp_path / "scene.tif", np.repeat(np.where(lake, BRIGHT, DARK)[None], 3, axis=0).astype(np.uint8))
    whole = reply_text([InstancePrompt((0, 0, TILE_PX, TILE_PX), ((20, 20), (30, 30)))])
    named = models(tmp_path)
    write_replies(tmp_path / "replies.jsonl", [("*", QUERY, reply_text([])), ("scene/4/0/0", QUERY, whole)])
    by_level = {}
    for levels in ((1,), (1, 4)):
        outcome = run(spec_of(named, path, queries=[QUERY], levels=levels), tmp_path / f"{levels}")
        assert outcome.status is RunStatus.SUCCESS
        by_level[levels] = features_of(tmp_path / f"{levels}")
    assert len(by_level[1,]) == 0
    (feature,) = by_level[1, 4].itertuples()
    found = on_grid(by_level[1, 4], CRS.from_epsg(32633), ~NORTH_UP)
    assert feature.n_tiles == 1
    assert shapely.hausdorff_distance(found, polygons_px(lake), densify=0.1) <= 4, "a pixel of its level"
