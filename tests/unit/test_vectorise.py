"""Cutting a mask into blocks and joining the pieces must give what polygonising the whole gives."""

import random

import numpy as np
import pytest
import rasterio.features
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj import CRS, Geod, Transformer
from shapely.geometry import Polygon, box

from pipeline.blocks import blocks
from pipeline.geodesy import CRS84, areas_m2, geographic_crs, to_geographic
from pipeline.joining import ByBorder
from pipeline.results import MaskRecord, TileResult, TileStatus
from pipeline.stitch import stitch_window, threshold_mask
from pipeline.tiling import TileGrid, TileKey, Window
from pipeline.trace import region_raster, regions_of
from pipeline.vectorise import BlockPieces, Piece, pieces_of_block
from t2s_core.errors import BadInput
from t2s_core.masks import quantise


def pieces_by_block(mask: NDArray[np.uint8], probability: NDArray[np.uint8], block_px: int) -> list[BlockPieces]:
    cut = []
    for window in blocks((mask.shape[0], mask.shape[1]), 1, block_px):
        inside = window.slices_in(Window(0, 0, mask.shape[1], mask.shape[0]))
        cut.append(pieces_of_block(window, probability[inside], mask[inside], [], 0.5))
    return cut


def claim(grid: TileGrid, row: int, col: int, logits: NDArray[np.float32], predicted_iou: float) -> TileResult:
    tile = TileKey("s", grid.level, row, col)
    masks = (MaskRecord(quantise(logits), predicted_iou),)
    return TileResult(
        key=str(tile),
        tile=tile,
        window_scene_px=grid.window(row, col),
        query_id="q",
        query="where?",
        status=TileStatus.OK,
        reason="",
        reply="",
        reasoning=str(tile),
        n_tokens=1,
        prompts=(),
        masks=masks,
        valid=None,
        prompter="p@1",
        segmenter="s@1",
        run_id="r",
    )


def canonical(polygons: list[Polygon]) -> list[str]:
    return sorted(shapely.to_wkt(p, rounding_precision=-1) for p in shapely.normalize(polygons))


@st.composite
def masks(draw: st.DrawFn) -> NDArray[np.uint8]:
    height, width = draw(st.integers(1, 24)), draw(st.integers(1, 24))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    blob = draw(st.integers(1, 3))  # big blobs have holes and long borders; single pixels touch at corners
    coarse = rng.random((height // blob + 1, width // blob + 1)) < draw(st.sampled_from([0.3, 0.5, 0.7, 0.95]))
    mask = np.kron(coarse, np.ones((blob, blob)))[:height, :width].astype(np.uint8)
    mask[rng.random(mask.shape) < 0.05] = 255
    return mask


def merge(blocks_: list[BlockPieces]) -> list[Piece]:
    joiner = ByBorder([block.window_scene_px for block in blocks_])
    return [piece for block in blocks_ for piece in joiner.add(block)]


def polygons_of_gdal(labels: NDArray[np.integer]) -> list[Polygon]:
    found = rasterio.features.shapes(labels.astype(np.int32), mask=labels > 0, connectivity=4)
    return [Polygon(rings[0], rings[1:]) for rings in (geometry["coordinates"] for geometry, _ in found)]


@given(mask=masks(), n_labels=st.integers(1, 3))
@settings(max_examples=80, deadline=None)
def test_regions_are_those_of_gdal(mask: NDArray[np.uint8], n_labels: int) -> None:
    labels = np.where(mask == 1, np.random.default_rng(1).integers(1, n_labels + 1, mask.shape), 0)
    regions = regions_of(labels)
    assert shapely.is_valid(regions.polygons).all()
    assert canonical(list(regions.polygons)) == canonical(polygons_of_gdal(labels))
    np.testing.assert_array_equal(shapely.area(regions.polygons), regions.n_px)
    raster = region_raster(regions.runs, mask.shape)
    np.testing.assert_array_equal(np.append(0, regions.label)[raster], labels)


@given(mask=masks(), block_px=st.integers(1, 24), shuffle=st.randoms(use_true_random=False))
@settings(max_examples=80, deadline=None)
def test_blocks_leave_no_trace(mask: NDArray[np.uint8], block_px: int, shuffle: random.Random) -> None:
    probability = np.random.default_rng(0).integers(0, 255, mask.shape).astype(np.uint8)
    whole = polygons_of_gdal(mask == 1)
    shown = pieces_by_block(mask, probability, block_px)
    shuffle.shuffle(shown)
    merged = merge(shown)
    assert canonical([p.polygon_scene_px for p in merged]) == canonical(whole)
    assert all(p.polygon_scene_px.is_valid for p in merged)
    assert sum(p.polygon_scene_px.area for p in merged) == sum(p.n_px for p in merged) == (mask == 1).sum()
    assert sum(p.probability_codes for p in merged) == probability[mask == 1].sum()
    assert all(p.n_px == p.polygon_scene_px.area for p in merged)


def test_scores_are_means_inside() -> None:
    mask = np.zeros((6, 6), np.uint8)
    mask[1:3, 1:5] = 1
    probability = np.full((6, 6), 254, np.uint8)
    probability[1:3, 3:5] = 127
    for block_px in (2, 6):
        (piece,) = merge(pieces_by_block(mask, probability, block_px))
        assert piece.score == 0.75
        assert piece.polygon_scene_px.equals(box(1, 1, 5, 3))
        assert len(piece.polygon_scene_px.exterior.coords) == 5


@given(seed=st.integers(0, 10_000), threshold=st.sampled_from([0.2, 0.5, 0.8]), block_px=st.sampled_from([16, 32, 64]))
@settings(max_examples=25, deadline=None)
def test_every_piece_is_claimed_by_some_tile(seed: int, threshold: float, block_px: int) -> None:
    rng = np.random.default_rng(seed)
    grids = {1: TileGrid(64, 48, 32, 12), 2: TileGrid(64, 48, 24, 4, 2)}
    results = [
        claim(g, r, c, rng.normal(0, 4, (9, 9)).astype(np.float32), float(rng.random()))
        for g in grids.values()
        for r in range(g.rows)
        for c in range(g.cols)
    ]
    shown = []
    for window in blocks((48, 64), 16, block_px):
        probability = stitch_window(window, results, grids).probability
        shown.append(pieces_of_block(window, probability, threshold_mask(probability, threshold), results, threshold))
    reasoning = {tile for block in shown for tile in block.reasoning}
    for piece in merge(shown):
        assert piece.main_tile in reasoning
        assert piece.main_tile in {r.tile for r in results}
        assert all(0 < n <= piece.n_px for n in piece.claims_px.values())


def test_the_main_tile_holds_most_of_it_and_ties_have_an_order() -> None:
    coarse, left, right = TileKey("s", 4, 0, 0), TileKey("s", 1, 0, 0), TileKey("s", 1, 0, 1)
    piece = Piece(box(0, 0, 2, 2), 4, 800)
    piece.claims_px.update({coarse: 3, right: 3, left: 2})
    assert piece.main_tile == right


UTM = GeoBox((1000, 1000), Affine(10, 0, 500_000, 0, -10, 5_000_000), "EPSG:32633")


def test_places_on_earth_agree_with_pyproj_and_area_with_the_pixels() -> None:
    polygon = box(100, 200, 110, 220)
    (placed,) = to_geographic([polygon], UTM)
    (area,) = areas_m2([placed], CRS84)
    scale = 0.9996**2  # near the central meridian UTM shows areas this much too small
    assert area == pytest.approx(10 * 20 * 100 / scale, rel=1e-4)
    back = Transformer.from_crs("OGC:CRS84", "EPSG:32633", always_xy=True)
    corners = {(round(x, 3), round(y, 3)) for x, y in (back.transform(*p) for p in placed.exterior.coords)}
    assert corners == {(501_000, 4_998_000), (501_100, 4_998_000), (501_000, 4_997_800), (501_100, 4_997_800)}
    assert placed.exterior.is_ccw


def test_long_edges_get_vertices_so_that_neighbours_on_the_ground_still_meet() -> None:
    wide = GeoBox((20_000, 20_000), Affine(10, 0, 400_000, 0, -10, 6_700_000), "EPSG:32633")
    (placed,) = to_geographic([box(0, 0, 20_000, 20_000)], wide)
    squares = to_geographic(
        [box(x, y, x + 1000, y + 1000) for x in range(0, 20_000, 1000) for y in range(0, 20_000, 1000)], wide
    )
    (area,), small = areas_m2([placed], CRS84), areas_m2(squares, CRS84)
    assert area == pytest.approx(small.sum(), rel=1e-6)
    assert len(to_geographic([box(0, 0, 100, 100)], wide)[0].exterior.coords) == 5  # short ones get none


@pytest.mark.parametrize(
    ("crs", "transform"),
    [("EPSG:32701", Affine(100, 0, 100_000, 0, -100, 8_000_000)), ("EPSG:4326", Affine(0.01, 0, 175, 0, -0.01, -15))],
)
def test_polygons_across_the_antimeridian_are_split(crs: str, transform: Affine) -> None:
    geobox = GeoBox((1000, 1000), transform, crs)
    ring = Polygon([(0, 10), (900, 10), (900, 90), (0, 90)], [[(100, 20), (800, 20), (800, 80), (100, 80)]])
    (placed,) = to_geographic([ring], geobox)
    assert placed.is_valid
    west, _, east, _ = placed.bounds
    assert (west, east) == (-180, 180)
    assert all(part.bounds[2] - part.bounds[0] < 20 for part in placed.geoms)
    step = 10
    cells = [
        box(x, y, x + step, y + step)
        for x in range(0, 900, step)
        for y in range(10, 90, step)
        if not (100 <= x < 800 and 20 <= y < 80)
    ]
    cells_m2 = areas_m2(to_geographic(cells, geobox), CRS84).sum()
    assert areas_m2([placed], CRS84)[0] == pytest.approx(cells_m2, rel=1e-5)


@pytest.mark.parametrize(("crs", "sign"), [("EPSG:3413", 1), ("EPSG:3031", -1)])
def test_a_polygon_around_the_pole(crs: str, sign: int) -> None:
    geobox = GeoBox((100, 100), Affine(10_000, 0, -500_000, 0, -10_000, 500_000), crs)
    disc = box(10, 10, 90, 90)
    ring = disc.difference(box(40, 40, 60, 60))
    for polygon in (disc, ring):
        (placed,) = to_geographic([polygon], geobox)
        assert placed.is_valid
        cells = [box(x, y, x + 10, y + 10) for x in range(10, 90, 10) for y in range(10, 90, 10)]
        cells = [c for c in cells if polygon.contains(c)]
        assert areas_m2([placed], CRS84)[0] == pytest.approx(
            areas_m2(to_geographic(cells, geobox), CRS84).sum(), rel=1e-3
        )
        assert placed.contains(shapely.Point(10, sign * 89.9)) == (polygon is disc)


def test_a_body_keeps_its_own_geographic_crs() -> None:
    mars = GeoBox((100, 100), Affine(100, 0, 0, 0, -100, 0), "IAU_2015:49910")
    geographic = geographic_crs(CRS("IAU_2015:49910"))
    assert geographic.is_geographic
    assert "Mars" in geographic.ellipsoid.name
    (area,) = areas_m2(to_geographic([box(0, 0, 10, 10)], mars), geographic)
    assert area == pytest.approx(1e6, rel=0.02)
    assert geographic_crs(CRS("EPSG:27700")) == CRS84
    assert Geod(ellps="WGS84").a == CRS84.get_geod().a


def test_pixels_that_lie_nowhere_are_bad_input() -> None:
    disk = "+proj=geos +h=35785831 +lon_0=0 +datum=WGS84"
    geobox = GeoBox((100, 100), Affine(120_000, 0, -6_000_000, 0, -120_000, 6_000_000), disk)
    with pytest.raises(BadInput, match="no place"):
        to_geographic([box(0, 0, 1, 1)], geobox)


def test_nothing_lies_beyond_a_pole() -> None:
    globe = GeoBox((181, 360), Affine(1, 0, -180, 0, -1, 90.5), "EPSG:4326")
    north, south = to_geographic([box(0, 0, 10, 2), box(5, 178, 355, 181)], globe)
    assert north.bounds == (-180, 88.5, -170, 90)
    assert south.bounds == (-175, -90, 175, -87.5)


PLACES = {
    "utm": ("EPSG:32633", Affine(10, 0, 500_000, 0, -10, 5_000_000)),
    "rotated": ("EPSG:32633", Affine(0.3, 0, 500_000, 0, -0.3, 5_000_000) @ Affine.rotation(33)),
    "degrees": ("EPSG:4326", Affine(0.001, 0, 179.98, 0, -0.001, -16)),
    "pole": ("EPSG:3413", Affine(100_000, 0, -1_000_000, 0, -100_000, 1_000_000)),
    "limb": ("+proj=geos +h=35785831 +lon_0=0 +datum=WGS84", Affine(40_000, 0, 4_300_000, 0, -40_000, 400_000)),
    "mars": ("IAU_2015:49910", Affine(100, 0, 0, 0, -100, 4_000_000)),
}


@pytest.mark.parametrize("place", PLACES)
def test_outlines_are_valid_and_measured_as_pyproj_measures_them(place: str) -> None:
    """Also where the map bends, or ends in the box around an outline."""
    crs, transform = PLACES[place]
    mask = np.random.default_rng(5).random((20, 20)) < 0.6
    geobox = GeoBox((20, 20), transform, crs)
    if place == "limb":
        y, x = np.mgrid[:20, :20]
        mask &= (4_300_000 + 40_000 * (x + 1)) ** 2 + (400_000 - 40_000 * (y + 1)) ** 2 < 5_300_000**2
    outlines = regions_of(mask.astype(np.uint8)).polygons
    placed = to_geographic(outlines, geobox)
    assert shapely.is_valid(placed).all()
    assert all(ring.is_ccw for p in shapely.get_parts(placed) for ring in [p.exterior])
    body = geographic_crs(CRS(crs))
    geod = body.get_geod()
    exact = [abs(geod.geometry_area_perimeter(polygon)[0]) for polygon in placed]
    np.testing.assert_allclose(areas_m2(placed, body), exact, rtol=1e-8, atol=1e-3)
