"""Blocks: wholly in one, in the same one from every scene, and in one split for ever."""

from collections import Counter, defaultdict
from itertools import combinations

import numpy as np
import pytest
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from pyproj import CRS, Transformer
from shapely.geometry.base import BaseGeometry

from pipeline.curate_splits import BlockGrid, Split, blocks_of, default_block_m, split_of
from pipeline.geodesy import gsd_m
from pipeline.tiling import TileGrid, Window

EARTH_M = 6_378_137.0
TILE_PX = 32


def geobox_at(crs: str, longitude: float, latitude: float, gsd: float, *, turn: float = 0.0, size: int = 320) -> GeoBox:
    """A grid around a place, `gsd` metres (or that in degrees), turned by some degrees."""
    x, y = Transformer.from_crs("OGC:CRS84", crs, always_xy=True).transform(longitude, latitude)
    step = gsd / 111_320 if CRS(crs).is_geographic else gsd
    middle = Affine.translation(x, y) @ Affine.rotation(turn) @ Affine.scale(step, -step)
    return GeoBox((size, size), middle @ Affine.translation(-size / 2, -size / 2), crs)


def footprints(
    geobox: GeoBox, block_m: float, plane: CRS, *, overlap_px: int = 0, level: int = 1
) -> dict[str, list[BaseGeometry]]:
    """By block, the chips on a plane that touches the ground there; edges with more points than the code looks at."""
    blocks, found = blocks_of(geobox, block_m), defaultdict(list)
    height, width = geobox.shape
    grid = TileGrid(width, height, TILE_PX, overlap_px, level)
    there = Transformer.from_crs(geobox.crs.proj, plane, always_xy=True)
    a, b, c, d, e, f = geobox.affine[:6]
    for row in range(grid.rows):
        for col in range(grid.cols):
            window = grid.window(row, col)
            block = blocks.block_of(window, level)
            if block is not None:
                px, py = shapely.get_coordinates(shapely.segmentize(shapely.box(*window).exterior, 0.5)).T
                x, y = there.transform(a * px + b * py + c, d * px + e * py + f)
                found[block].append(shapely.Polygon(np.column_stack([x, y])))
    return found


places = st.tuples(
    st.floats(-179.9, 179.9) | st.sampled_from([-180.0, 0.0, 15.0, 179.999]),
    st.floats(-78, 78) | st.sampled_from([0.0, 60.0]),
)


@given(
    place=places,
    shift=st.tuples(st.floats(-150, 150), st.floats(-150, 150)),
    second=st.sampled_from(["EPSG:3857", "OGC:CRS84", "EPSG:4326", "laea"]),
    gsds=st.tuples(st.floats(0.3, 3.0), st.floats(0.3, 3.0)),
    turn=st.floats(0, 90),
    overlap_px=st.integers(0, TILE_PX // 2),
    block_tiles=st.floats(1.5, 9.0),
)
@settings(max_examples=60)
def test_chips_of_different_blocks_never_share_ground_even_from_overlapping_scenes_of_different_grids(
    place: tuple[float, float],
    shift: tuple[float, float],
    second: str,
    gsds: tuple[float, float],
    turn: float,
    overlap_px: int,
    block_tiles: float,
) -> None:
    longitude, latitude = place
    zone = f"EPSG:{32700 if latitude < 0 else 32600}".replace("00", f"{int((longitude + 180) // 6) % 60 + 1:02d}")
    plane = CRS(f"+proj=aeqd +lon_0={longitude} +lat_0={latitude} +datum=WGS84")
    second = f"+proj=laea +lon_0={longitude + 1} +lat_0={latitude - 1} +datum=WGS84" if second == "laea" else second
    near = longitude + shift[0] / 111_320, latitude + shift[1] / 111_320
    block_m = block_tiles * TILE_PX * max(gsds)
    found: dict[str, list[BaseGeometry]] = defaultdict(list)
    for geobox in (
        geobox_at(zone, longitude, latitude, gsds[0]),
        geobox_at(second, *near, gsds[1], turn=turn),
    ):
        for block, chips in footprints(geobox, block_m, plane, overlap_px=overlap_px).items():
            found[block] += chips
    for one, other in combinations(found, 2):
        tree = shapely.STRtree(found[one])
        touching = [(found[one][i], chip) for chip in found[other] for i in tree.query(chip)]
        assert not any(a.intersects(b) for a, b in touching), (one, other)
    for chips in found.values():
        west, south, east, north = shapely.total_bounds(chips)
        assert max(east - west, north - south) < 1.5 * block_m


def test_overlapping_scenes_share_blocks_and_most_chips_lie_in_one() -> None:
    plane = CRS("+proj=aeqd +lon_0=15.1 +lat_0=52 +datum=WGS84")
    first = footprints(geobox_at("EPSG:32633", 15.1, 52.0, 1.0), 160.0, plane)
    second = footprints(geobox_at("EPSG:3857", 15.1, 52.0, 1.0 / np.cos(np.radians(52))), 160.0, plane)
    assert set(first) & set(second)
    n_chips = sum(map(len, first.values()))
    assert 40 <= n_chips < 100, "of 100 windows of 32 m, blocks of 160 m leave about (4/5)^2 or a little less"
    pairs = [(a, b) for block in first for a in first[block] for b in second.get(block, [])]
    assert any(a.intersects(b) for a, b in pairs), "shared ground is in the same block"


@pytest.mark.parametrize("longitude", [180.0, -180.0, 540.0])
def test_the_antimeridian_is_a_border_however_longitudes_are_written(longitude: float) -> None:
    grid = BlockGrid(1000.0, EARTH_M)
    lat = np.full(3, 10.001)
    around = longitude + np.array([-1e-4, 0.0, 1e-4])
    assert grid.block_holding(around, lat, 0.0) is None
    assert grid.block_holding(around + 2e-3, lat, 0.0) == grid.block_holding(around + 2e-3 - 360, lat, 0.0) is not None


def test_a_chip_around_the_pole_is_in_no_block() -> None:
    geobox = geobox_at("EPSG:3413", 0.0, 90.0, 10.0)
    blocks = blocks_of(geobox, 5000.0)
    assert blocks.block_of(Window(150, 150, 170, 170), 1) is None
    grid = TileGrid(320, 320, TILE_PX, 0)
    assert any(blocks.block_of(grid.window(r, c), 1) for r in range(grid.rows) for c in range(grid.cols))


@given(longitude=st.floats(-179, 179), latitude=st.floats(-89.5, 89.5), block_m=st.floats(50, 500_000))
def test_a_block_is_about_as_wide_as_high_and_as_asked_for(longitude: float, latitude: float, block_m: float) -> None:
    grid = BlockGrid(block_m, EARTH_M)
    row = min(grid.rows - 1, int((latitude + 90) / 180 * grid.rows))
    height_m = np.pi * EARTH_M / grid.rows
    assert height_m == pytest.approx(block_m, rel=0.05)
    middle = np.pi * ((row + 0.5) / grid.rows - 0.5)
    columns = int(grid.columns(np.array(row)))
    if columns > 10:
        assert 2 * np.pi * EARTH_M * np.cos(middle) / columns == pytest.approx(height_m, rel=0.06)


@given(st.lists(st.integers(0, 10_000), min_size=1, unique=True), st.integers(0, 5))
def test_a_block_keeps_its_split_whatever_else_there_is_and_tests_stay_tests(numbers: list[int], seed: int) -> None:
    for number in numbers:
        block = f"r{number}c7"
        split = split_of(block, seed=seed, val=0.1, test=0.2)
        assert split == split_of(block, seed=seed, val=0.1, test=0.2)
        if split is Split.TEST:
            assert split_of(block, seed=seed, val=0.5, test=0.2) is Split.TEST


def test_splits_get_their_shares_and_the_seed_moves_blocks() -> None:
    blocks = [f"r{i}c{j}" for i in range(60) for j in range(60)]
    counts = Counter(split_of(b, seed=3, val=0.1, test=0.2) for b in blocks)
    assert counts[Split.VAL] / len(blocks) == pytest.approx(0.1, abs=0.03)
    assert counts[Split.TEST] / len(blocks) == pytest.approx(0.2, abs=0.03)
    assert any(split_of(b, seed=3, val=0.1, test=0.2) != split_of(b, seed=4, val=0.1, test=0.2) for b in blocks)
    assert {split_of(b, seed=3, val=0.0, test=0.0) for b in blocks} == {Split.TRAIN}
    assert {split_of(b, seed=3, val=0.0, test=1.0) for b in blocks} == {Split.TEST}


def test_the_ground_side_of_a_pixel_and_the_default_block() -> None:
    assert gsd_m(geobox_at("EPSG:32633", 15.0, 52.0, 0.5)) == pytest.approx(0.5, rel=1e-3)
    assert gsd_m(geobox_at("EPSG:3857", 15.0, 60.0, 1.0)) == pytest.approx(0.5, rel=1e-2)
    assert default_block_m(256 * 0.3) == 512.0
    assert default_block_m(256 * 0.31) == 512.0, "a scene a little coarser moves no block"
