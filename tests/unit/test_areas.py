"""An area of interest in degrees: what lies in it is never taken for outside of it."""

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from pyproj import Transformer

from pipeline.areas import Area, bbox_of

UTM = "EPSG:32633"


@given(
    x=st.floats(3e5, 7e5), y=st.floats(1e6, 8e6), side=st.floats(10, 2e5), share=st.tuples(*[st.floats(0, 1)] * 2),
    size=st.floats(0, 1),
)  # fmt: skip
def test_no_box_around_a_point_of_the_area_is_missed(
    x: float, y: float, side: float, share: tuple[float, float], size: float
) -> None:
    area = Area.of(shapely.box(x, y, x + side, y + side), UTM)
    assert area is not None
    to_degrees = Transformer.from_crs(UTM, "OGC:CRS84", always_xy=True)
    lon, lat = to_degrees.transform(x + share[0] * side, y + share[1] * side)
    assert not area.misses((lon - size, lat - size, lon + size + 1e-6, lat + size + 1e-6))
    west, south, east, north = area.bbox
    assert west - 1e-3 < lon < east + 1e-3
    assert south - 1e-3 < lat < north + 1e-3
    assert area.misses((west - 10, south, west - 9, north))
    assert area.misses((west, north + 1, east, north + 2))


@pytest.mark.parametrize(
    ("box", "is_outside"),
    [
        ((178, -17, 179.6, -16), False),
        ((-179.9, -17, -179, -16), False),
        ((179, -17, -179, -16), False),
        ((180.1, -17, 181, -16), False),
        ((0, -17, 10, -16), True),
        ((-170, -17, 170, -16), True),
        ((170, -17, 179, -16), True),
    ],
)
def test_the_antimeridian_is_no_border(box: tuple[float, float, float, float], is_outside: bool) -> None:
    area = Area.of(shapely.box(179.5, -18, 180.5, -15), "OGC:CRS84")
    assert area is not None
    assert area.misses(box) is is_outside
    np.testing.assert_allclose(area.bbox, (179.5, -18, -179.5, -15))


def test_an_area_around_a_pole_holds_every_longitude() -> None:
    area = Area.of(shapely.box(-1e6, -1e6, 1e6, 1e6), "EPSG:3413")
    assert area is not None
    for lon in (-170, -10, 0, 90, 179):
        assert not area.misses((lon, 89, lon + 0.5, 90))
        assert area.misses((lon, 60, lon + 0.5, 61))
    assert area.bbox[3] == 90


def test_an_area_without_a_place_on_the_globe_leaves_nothing_out_early() -> None:
    assert Area.of(shapely.box(-3e7, -3e7, 3e7, 3e7), "EPSG:32633") is None


def test_the_box_of_several_footprints_is_the_shortest() -> None:
    boxes = [shapely.box(170, 0, 175, 1), shapely.box(-175, 0, -170, 1)]
    assert bbox_of(boxes) == [170.0, 0.0, -170.0, 1.0]
    assert bbox_of([shapely.box(0, 0, 1, 1), shapely.box(5, 2, 6, 3)]) == [0.0, 0.0, 6.0, 3.0]
