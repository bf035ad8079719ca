"""One plane for all scenes of a run, wherever on a body they lie; rectangles for their tiles."""

import numpy as np
import pytest
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from odc.geo.geobox import GeoBox

from pipeline.reporting.frame import MapFrame, frame_of
from pipeline.reporting.tiles import ALONE, WORST_FIRST, coarseness, covers, faults
from pipeline.scenes import NodataRule, Scene
from pipeline.tiling import TileGrid


def scene(crs: str, x: float, y: float, pixel: float = 10.0, shape: tuple[int, int] = (100, 200)) -> Scene:
    geobox = GeoBox(shape, Affine(pixel, 0, x, 0, -pixel, y), crs)
    return Scene("s", "/s.tif", "e", geobox, (1, 2, 3), "uint8", NodataRule("none"), None, warped=False)


def middle(frame: MapFrame, one: Scene) -> np.ndarray:
    return frame.of_scene(one, np.array([[one.shape[1] / 2, one.shape[0] / 2]]))[0]


def test_scenes_of_one_projection_stay_as_they_are() -> None:
    scenes = [scene("EPSG:32633", 400_000, 5_800_000), scene("EPSG:32633", 402_000, 5_800_000)]
    frame = frame_of(scenes)
    assert all(frame.is_upright(one) for one in scenes)
    assert (middle(frame, scenes[1]) - middle(frame, scenes[0])).tolist() == [2000, 0]
    outline = frame.outline(scenes[0])
    assert np.ptp(outline, axis=0).tolist() == [2000, 1000]


def test_neighbouring_zones_share_the_plane_of_most() -> None:
    scenes = [scene("EPSG:32633", 400_000, 5_800_000), scene("EPSG:32633", 402_000, 5_800_000),
              scene("EPSG:32634", 400_000, 5_800_000)]  # fmt: skip
    frame = frame_of(scenes)
    assert [frame.is_upright(one) for one in scenes] == [True, True, False]
    distance_m = float(np.hypot(*(middle(frame, scenes[2]) - middle(frame, scenes[0]))))
    assert distance_m == pytest.approx(408_000, rel=0.02)  # six degrees at 52 degrees north


@pytest.mark.parametrize(
    "scenes",
    [
        [scene("EPSG:4326", 179.0, 1.0, 0.01, (200, 100)), scene("EPSG:4326", -180.0, 1.0, 0.01, (200, 100))],
        [scene("EPSG:32601", 300_000, 8_000_000), scene("EPSG:32660", 700_000, 8_000_000)],
        [scene("EPSG:3413", -1000, 500), scene("EPSG:4326", 0.0, 89.0, 0.001)],
        [
            scene("EPSG:32633", 400_000, 900_000),
            scene("EPSG:32733", 400_000, 9_100_000),
            scene("EPSG:4326", 15, 0, 0.001),
        ],
        [scene("IAU_2015:49900", 10.0, 5.0, 0.001), scene("IAU_2015:49900", 10.2, 5.0, 0.001)],
    ],
    ids=["antimeridian", "zones across it", "pole", "hemispheres", "Mars"],
)
def test_scenes_anywhere_keep_their_size_on_the_map(scenes: list[Scene]) -> None:
    from pipeline.geodesy import area_m2

    frame = frame_of(scenes)
    for one in scenes:
        outline = frame.outline(one)
        assert len(outline) == 32
        x, y = outline.T
        drawn_m2 = abs(float(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1)))) / 2
        assert drawn_m2 == pytest.approx(area_m2(one.geobox), rel=0.07)  # polar stereographic is true at 70 degrees
        assert np.abs(outline).max() < 1.2e7


def test_what_is_off_the_map_is_left_out() -> None:
    disk = scene("+proj=geos +h=35785831 +lon_0=0 +datum=WGS84 +units=m", -5_500_000, 5_500_000, 110_000)
    near = scene("EPSG:32631", 400_000, 100_000)
    frame = frame_of([near, disk, near])
    assert np.isfinite(frame.outline(disk)).all()


codes = arrays(np.uint8, st.tuples(st.integers(1, 7), st.integers(1, 7)), elements=st.integers(0, len(WORST_FIRST) - 1))


@given(codes, st.integers(1, 3))
def test_rectangles_hold_every_tile_once_and_say_what_came_of_it(worst: np.ndarray, power: int) -> None:
    grid = TileGrid(worst.shape[1] * 48 + 10, worst.shape[0] * 48 + 10, 64, 16)
    worst = np.resize(worst, (grid.rows, grid.cols))
    alone = np.isin(worst, [WORST_FIRST.index(status) for status in ALONE])
    not_planned = WORST_FIRST.index("not_planned")
    for factor in (1, 2**power):
        for kind, some in ((covers, ~alone), (faults, alone)):
            found = np.full((grid.height, grid.width), not_planned, np.uint8)
            for cover in kind(grid, worst, factor):
                x0, y0, x1, y1 = cover.window_scene_px
                assert (found[y0:y1, x0:x1] == not_planned).all()
                found[y0:y1, x0:x1] = WORST_FIRST.index(cover.status)
            expected = np.where(some, worst, not_planned)
            for row, col in np.ndindex(worst.shape):
                core = grid.core(row, col)
                top, left = row // factor * factor, col // factor * factor
                block = expected[top : top + factor, left : left + factor]
                assert (found[core.y0 : core.y1, core.x0 : core.x1] == block.min()).all()


@given(codes)
def test_what_failed_is_named_tile_by_tile_until_it_is_too_much(worst: np.ndarray) -> None:
    grid = TileGrid(worst.shape[1] * 48 + 10, worst.shape[0] * 48 + 10, 64, 16)
    worst = np.resize(worst, (grid.rows, grid.cols))
    n = int(np.isin(worst, [WORST_FIRST.index(status) for status in ALONE]).sum())
    for cover in faults(grid, worst):
        level, row, col = map(int, cover.tile.split("/"))
        assert (level, grid.core(row, col)) == (1, cover.window_scene_px)
    for most in (n, 2, 1):
        factor = coarseness([(grid, worst)], most, faults)
        assert (factor == 1) is (n <= most or max(worst.shape) == 1)
        assert len(list(faults(grid, worst, factor))) <= max(most, 1)
        if factor > 1:
            assert sum(int(cover.tile.split()[0]) for cover in faults(grid, worst, factor)) == n
