"""The same ground gives the same features, wherever tiles, blocks and the extent begin: tolerance zero."""

from collections.abc import Callable

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from ideal_tiles import ideal, objects, regions
from numpy.typing import NDArray
from shapely.affinity import translate

from pipeline.tiling import TileGrid
from pipeline.vectorise import Piece

SIDE = 60


def drawn(seed: int) -> list[NDArray[np.bool_]]:
    """Rectangles and a winding lake, some touching, some larger than a tile."""
    rng = np.random.default_rng(seed)
    found = []
    taken = np.zeros((SIDE, SIDE), np.bool_)
    for _ in range(6):
        y, x, height, width = (*rng.integers(0, SIDE - 6, 2), *rng.integers(3, 40, 2))
        shape = np.zeros((SIDE, SIDE), np.bool_)
        shape[y : y + height, x : x + width] = True
        if not (shape & taken).any():
            found.append(shape)
            taken |= shape
    return found


def semantic(instances: list[NDArray[np.bool_]], grid: TileGrid, block_px: int) -> list[Piece]:
    return regions({1: grid}, ideal(grid, instances), (grid.height, grid.width), block_px)


def instance(instances: list[NDArray[np.bool_]], grid: TileGrid, block_px: int) -> list[Piece]:
    return objects({1: grid}, ideal(grid, instances), (grid.height, grid.width), block_px)[0]


@pytest.mark.parametrize("features", [semantic, instance], ids=["semantic", "instance"])
@given(
    seed=st.integers(0, 500), tile_px=st.integers(8, 30), share=st.floats(0.1, 0.5), block_px=st.integers(9, 60),
    origin=st.tuples(st.integers(0, 20), st.integers(0, 20)),
)  # fmt: skip
@settings(max_examples=12, deadline=None)
def test_moving_tiles_blocks_and_the_extent_moves_no_feature(
    features: Callable[..., list[Piece]], seed: int, tile_px: int, share: float, block_px: int, origin: tuple[int, int]
) -> None:
    instances = drawn(seed)
    whole = features(instances, TileGrid(SIDE, SIDE, 64, 0), SIDE)
    y, x = origin
    cut = [part for part in (shape[y:, x:] for shape in instances) if part.any()]
    grid = TileGrid(SIDE - x, SIDE - y, tile_px, max(1, int(share * tile_px)))
    moved = features(cut, grid, block_px)
    inside = shapely.box(x + 1, y + 1, SIDE, SIDE)

    def outlines(pieces: list[Piece], dx: int, dy: int) -> set[str]:
        """Of features that do not touch the cut."""
        placed = [translate(piece.polygon_scene_px, dx, dy) for piece in pieces]
        return {shapely.normalize(outline).wkt for outline in placed if inside.covers(outline)}

    assert outlines(moved, x, y) == outlines(whole, 0, 0)
    assert all(piece.score == 1.0 for piece in moved)
