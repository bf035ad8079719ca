"""A mosaic's target pixels as polygons in scene pixels, block by block.

Polygons follow pixel edges and are 4-connected: pixels that touch at a corner only belong to two polygons.
`pipeline.joining` makes whole what block borders cut.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from shapely.geometry import MultiPolygon, Polygon

from pipeline.link import Instance
from pipeline.results import TileResult, TileStatus
from pipeline.stitch import CERTAIN, view_of
from pipeline.tiling import TileKey, Window
from pipeline.trace import Regions, region_raster, regions_of, sums_of

_TARGET = 1


@dataclass(frozen=True, slots=True)
class Piece:
    """One object, or what a block shows of it."""

    polygon_scene_px: Polygon | MultiPolygon
    """Valid; corners are whole numbers; no vertex lies on a straight line between its neighbours. In several parts only
    where an instance is."""
    n_px: int
    probability_codes: int
    """Sum of the stored probabilities (0 to 254) of its pixels."""
    claims_px: Counter[TileKey] = field(default_factory=Counter)
    """By tile, how many of its pixels that tile alone gives a probability of at least the threshold."""
    owner: Instance | None = None
    """In instance mode, the first instance of the object."""

    @property
    def score(self) -> float:
        """Mean probability inside, 0 to 1."""
        return self.probability_codes / (CERTAIN * self.n_px)

    @property
    def main_tile(self) -> TileKey | None:
        """The tile that claims most of it; of equals the one of the finest level, then the first in row-major order.

        None where no tile's claims were counted.
        """
        claims = self.claims_px
        return min(claims, key=lambda tile: (-claims[tile], tile.level, tile.row, tile.col), default=None)


@dataclass(frozen=True, slots=True)
class BlockPieces:
    """What one block shows."""

    window_scene_px: Window
    pieces: Sequence[Piece]
    reasoning: dict[TileKey, str]
    """Think text of each tile that claims any of the pieces."""
    sides: tuple[NDArray[np.int32], ...] = ()
    """Along its left, right, upper and lower side: 1 + the piece that each pixel there belongs to, 0 where none does.
    Empty where there is no piece."""


def pieces_of_block(
    window: Window,
    probability: NDArray[np.uint8],
    mask: NDArray[np.uint8],
    results: Sequence[TileResult],
    threshold: float,
    *,
    owners: tuple[NDArray[np.int32], Sequence[Instance]] | None = None,
) -> BlockPieces:
    """Polygons of the target pixels (1) of `mask`, with what tiles say of them.

    `probability`, `mask`: (height, width) of `window`, a window_scene_px. `results`: the query's results that touch it;
    not looked at where there is no target. `owners`: of `link.owners_of`, in instance mode: then polygons are of one
    object each. As stitching takes means of what tiles say, every target pixel is claimed by one of them at least,
    provided that the mosaic was stitched in the same blocks.
    """
    labels = (mask == _TARGET).astype(np.uint8) if owners is None else owners[0]
    regions = regions_of(labels, x0=window.x0, y0=window.y0)
    n = len(regions.n_px)
    if not n:
        return BlockPieces(window, (), {})
    codes = sums_of(regions.runs, probability).tolist()
    names = [None] * n if owners is None else [owners[1][label - 1] for label in regions.label.tolist()]
    pieces = [
        Piece(polygon, n_px, code, Counter(), name)
        for polygon, n_px, code, name in zip(regions.polygons, regions.n_px.tolist(), codes, names, strict=True)
    ]
    reasoning = (
        _add_claims(pieces, region_raster(regions.runs, mask.shape), window, results, threshold) if results else {}
    )
    return BlockPieces(window, pieces, reasoning, _sides(regions, (window.height, window.width)))


def _sides(regions: Regions, shape: tuple[int, int]) -> tuple[NDArray[np.int32], ...]:
    """Left, right, upper, lower; see `BlockPieces.sides`."""
    runs, (height, width) = regions.runs, shape
    number = (runs.region + 1).astype(np.int32)
    sides = []
    for on_side in (runs.x0 == 0, runs.x1 == width):
        column = np.zeros(height, np.int32)
        column[runs.row[on_side]] = number[on_side]
        sides.append(column)
    for y in (0, height - 1):
        row, there = np.zeros(width, np.int32), runs.row == y
        for x0, x1, k in zip(runs.x0[there], runs.x1[there], number[there], strict=True):
            row[x0:x1] = k
        sides.append(row)
    return tuple(sides)


def _add_claims(
    pieces: Sequence[Piece],
    labels: NDArray[np.int32],
    window: Window,
    results: Sequence[TileResult],
    threshold: float,
) -> dict[TileKey, str]:
    """Count each tile's claims into `pieces`; returns the reasoning of tiles that claim anything."""
    reasoning = {}
    for result in results:
        part = window.intersection(result.window_scene_px)
        if part is None or result.status is not TileStatus.OK:
            continue
        claimed = view_of(result, part).claims(threshold) > 0
        n_px = np.bincount(labels[part.slices_in(window)][claimed], minlength=len(pieces) + 1)[1:]
        for i in np.flatnonzero(n_px).tolist():
            pieces[i].claims_px[result.tile] += int(n_px[i])
            reasoning[result.tile] = result.reasoning
    return reasoning
