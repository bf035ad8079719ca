"""Blocks of ground and the splits they fall into: what a model is tested on, it has not seen from any scene.

Blocks lie on the body's latitudes and longitudes and know nothing of scenes. So overlapping scenes of any CRS share
them, and a block's split, a hash of its name, never changes because something was added.
"""

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

import numpy as np
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj import Transformer

from pipeline.geodesy import geographic_crs, gsd_m
from pipeline.georef import proj_crs
from pipeline.tiling import Window

TILES_PER_BLOCK = 8
"""Along a side, by default, give or take the rounding to a power of two."""
_POINTS_PER_SIDE = 16
"""Between two such points a chip's edge strays from a block's border by far less than the pixel that is kept free."""


class Split(StrEnum):
    """What a sample is for."""

    TRAIN = "train"
    VAL = "val"
    TEST = "test"


def split_of(block: str, *, seed: int, val: float, test: float) -> Split:
    """The split of a block: `test` and `val` are the shares of blocks (0 to 1) that go there in the long run.

    A block keeps its split when blocks are added, and a test block stays one when `val` changes.
    """
    digest = hashlib.sha256(f"{seed}/{block}".encode()).digest()
    place = int.from_bytes(digest[:8]) / 2**64
    if place < test:
        return Split.TEST
    return Split.VAL if place < test + val else Split.TRAIN


@dataclass(frozen=True, slots=True)
class BlockGrid:
    """Blocks of about `block_m` x `block_m` that cover a body.

    Rows are bands of latitude of equal height; a row is cut into a whole number of columns that are about as wide as
    high in its middle.
    """

    block_m: float
    """Side in metres."""
    radius_m: float
    """The body's equatorial radius."""

    @property
    def rows(self) -> int:
        """How many bands of latitude there are."""
        return max(1, round(np.pi * self.radius_m / self.block_m))

    def columns(self, row: NDArray[np.int64]) -> NDArray[np.int64]:
        """How many blocks a row has. Any shape."""
        middle = np.pi * ((row + 0.5) / self.rows - 0.5)
        counts: NDArray[np.int64] = np.maximum(1, np.rint(2 * self.rows * np.cos(middle))).astype(np.int64)
        return counts

    def block_holding(
        self, longitudes: NDArray[np.float64], latitudes: NDArray[np.float64], keep_m: float
    ) -> str | None:
        """The block that all points lie in, at least `keep_m` away from its border; None where there is no such block.

        Longitudes and latitudes in degrees, (n,), any number of turns around the body.
        """
        places = (latitudes + 90.0) / 180.0 * self.rows
        keep = keep_m / (np.pi * self.radius_m / self.rows)
        row = _common(np.clip(places, 0.0, np.nextafter(self.rows, 0)), np.full(places.shape, keep), self.rows)
        if row is None:
            return None
        n_columns = int(self.columns(np.array(row)))
        if n_columns == 1:
            return f"r{row}c0"
        around_m = 2 * np.pi * self.radius_m * np.cos(np.radians(latitudes))
        keeps = keep_m * n_columns / np.maximum(around_m, 1e-9)
        shares = np.mod((longitudes + 180.0) / 360.0, 1.0)
        column = _common(shares * n_columns, keeps, None)
        return None if column is None else f"r{row}c{column}"


def _common(places: NDArray[np.float64], keeps: NDArray[np.float64], count: int | None) -> int | None:
    """The one interval [k, k + 1) that holds all places with what is kept free around them.

    `count`: how many intervals there are where the first and the last have no neighbour beyond them (latitudes end at
    the poles, longitudes do not).
    """
    low, high = float((places - keeps).min()), float((places + keeps).max())
    if count is not None:
        low, high = max(low, 0.0), min(high, float(np.nextafter(count, 0)))
    first, last = int(np.floor(low)), int(np.floor(high))
    return first if first == last else None


@dataclass(frozen=True)
class SceneBlocks:
    """The blocks of one scene's windows."""

    grid: BlockGrid
    geobox: GeoBox
    gsd_m: float
    """Side of a scene pixel on the ground, in metres: what is kept free along a block's border, per level."""

    def block_of(self, window_scene_px: Window, level: int) -> str | None:
        """The block that holds the window wholly; None where it crosses a border or has no place on the body."""
        ring = shapely.segmentize(shapely.box(*window_scene_px).exterior, window_scene_px.width / _POINTS_PER_SIDE)
        col, row = shapely.get_coordinates(ring).T
        a, b, c, d, e, f = self.geobox.affine[:6]
        lon, lat = self._to_geographic.transform(a * col + b * row + c, d * col + e * row + f)
        lon, lat = np.asarray(lon), np.asarray(lat)
        if not (np.isfinite(lon).all() and np.isfinite(lat).all()):
            return None
        return self.grid.block_holding(lon, lat, level * self.gsd_m)

    @cached_property
    def _to_geographic(self) -> Transformer:
        crs = proj_crs(self.geobox)
        return Transformer.from_crs(crs, geographic_crs(crs), always_xy=True)


def blocks_of(geobox: GeoBox, block_m: float) -> SceneBlocks:
    """The blocks over a scene's grid. Raises `BadInput` where its pixels have no place on a body."""
    return SceneBlocks(BlockGrid(block_m, _radius_m(geobox)), geobox, gsd_m(geobox))


def default_block_m(tile_m: float) -> float:
    """A power of two near eight tiles of side `tile_m`: rounded, so that a scene a little coarser moves no block."""
    return float(2.0 ** np.rint(np.log2(TILES_PER_BLOCK * tile_m)))


def _radius_m(geobox: GeoBox) -> float:
    # of the geographic CRS that blocks lie in: scenes of one body must not differ by their datums
    ellipsoid = geographic_crs(proj_crs(geobox)).ellipsoid
    assert ellipsoid is not None  # `geographic_crs` refuses what has none
    return float(ellipsoid.semi_major_metre)
