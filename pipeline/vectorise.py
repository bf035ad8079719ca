"""A mosaic's target pixels as polygons in scene pixels, cut in blocks and made whole again.

Polygons follow pixel edges and are 4-connected: pixels that touch at a corner only belong to two polygons.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio.features import rasterize, shapes
from shapely.geometry import Polygon

from pipeline.results import TileResult, TileStatus
from pipeline.stitch import CERTAIN, threshold_mask, view_of
from pipeline.tiling import TileKey, Window

_TARGET = 1


@dataclass(frozen=True, slots=True)
class Piece:
    """One polygon, or what a block shows of it."""

    polygon_scene_px: Polygon
    """Valid; corners are whole numbers; no vertex lies on a straight line between its neighbours."""
    n_px: int
    probability_codes: int
    """Sum of the stored probabilities (0 to 254) of its pixels."""
    claims_px: Counter[TileKey] = field(default_factory=Counter)
    """By tile, how many of its pixels that tile alone gives a probability of at least the threshold."""

    @property
    def score(self) -> float:
        """Mean probability inside, 0 to 1."""
        return self.probability_codes / (CERTAIN * self.n_px)

    @property
    def main_tile(self) -> TileKey:
        """The tile that claims most of it; of equals the one of the finest level, then the first in row-major order."""
        return min(self.claims_px, key=lambda tile: (-self.claims_px[tile], tile.level, tile.row, tile.col))

    def touches_edge(self, shape: tuple[int, int]) -> bool:
        """Whether it ends with the scene, of `shape` (height, width), and so may go on beyond it."""
        x0, y0, x1, y1 = self.polygon_scene_px.bounds
        return bool(x0 <= 0 or y0 <= 0 or x1 >= shape[1] or y1 >= shape[0])


@dataclass(frozen=True, slots=True)
class BlockPieces:
    """What one block shows."""

    window_scene_px: Window
    pieces: Sequence[Piece]
    reasoning: dict[TileKey, str]
    """Think text of each tile that claims any of the pieces."""


def pieces_of_block(
    window: Window,
    probability: NDArray[np.uint8],
    mask: NDArray[np.uint8],
    results: Iterable[TileResult],
    threshold: float,
) -> BlockPieces:
    """Polygons of the target pixels (1) of `mask`, with what tiles say of them.

    `probability`, `mask`: (height, width) of `window`, a window_scene_px. `results`: the query's results that touch it;
    not looked at where there is no target. As stitching takes means of what tiles say, every target pixel is claimed
    by one of them at least, provided that the mosaic was stitched in the same blocks.
    """
    polygons = polygons_of(mask, window)
    if not polygons:
        return BlockPieces(window, (), {})
    corner = Affine.translation(window.x0, window.y0)
    numbered = ((polygon, i + 1) for i, polygon in enumerate(polygons))
    labels = rasterize(numbered, out_shape=mask.shape, transform=corner, dtype=np.int32)
    n_px = np.bincount(labels.ravel(), minlength=len(polygons) + 1)[1:]
    codes = np.bincount(labels.ravel(), weights=probability.ravel(), minlength=len(polygons) + 1)[1:]
    pieces = [Piece(p, int(n), int(c)) for p, n, c in zip(polygons, n_px, codes, strict=True)]
    return BlockPieces(window, pieces, _add_claims(pieces, labels, window, results, threshold))


def polygons_of(mask: NDArray[np.uint8], window: Window) -> list[Polygon]:
    """4-connected polygons, in scene pixels, of the pixels of `mask` that are 1; `mask` covers `window`."""
    target = mask == _TARGET
    corner = Affine.translation(window.x0, window.y0)
    # GDAL polygonises int32 and smaller, not uint32
    found = shapes(target.astype(np.int32), mask=target, connectivity=4, transform=corner)
    return [Polygon(rings[0], rings[1:]) for rings in (geometry["coordinates"] for geometry, _ in found)]


def merge_pieces(blocks: Iterable[BlockPieces], shape: tuple[int, int]) -> list[Piece]:
    """Whole polygons of a scene of `shape` (height, width); the outcome does not depend on how it was cut in blocks."""
    whole: list[Piece] = []
    cut: list[Piece] = []
    for block in blocks:
        for piece in block.pieces:
            (cut if _is_cut(piece, block.window_scene_px, shape) else whole).append(piece)
    return whole + _joined(cut)


def _add_claims(
    pieces: Sequence[Piece], labels: NDArray[np.int32], window: Window, results: Iterable[TileResult], threshold: float
) -> dict[TileKey, str]:
    """Count each tile's claims into `pieces`; returns the reasoning of tiles that claim anything."""
    reasoning = {}
    for result in results:
        part = window.intersection(result.window_scene_px)
        if part is None or result.status is not TileStatus.OK:
            continue
        claimed = threshold_mask(view_of(result, part).codes, threshold) == _TARGET
        n_px = np.bincount(labels[part.slices_in(window)][claimed], minlength=len(pieces) + 1)[1:]
        for i in np.flatnonzero(n_px).tolist():
            pieces[i].claims_px[result.tile] += int(n_px[i])
            reasoning[result.tile] = result.reasoning
    return reasoning


def _is_cut(piece: Piece, window: Window, shape: tuple[int, int]) -> bool:
    """Whether the piece touches a border of its block that is not the scene's."""
    x0, y0, x1, y1 = piece.polygon_scene_px.bounds
    height, width = shape
    return bool(
        (x0 <= window.x0 > 0) or (y0 <= window.y0 > 0) or (width > window.x1 <= x1) or (height > window.y1 <= y1)
    )


def _joined(cut: Sequence[Piece]) -> list[Piece]:
    """Pieces that share an edge become one. Corners are whole numbers, so the union is exact."""
    if not cut:
        return []
    united = shapely.union_all([piece.polygon_scene_px for piece in cut])
    parts = [_without_straight_vertices(part) for part in shapely.get_parts(united)]
    inside = shapely.point_on_surface([piece.polygon_scene_px for piece in cut])
    piece_index, part_index = shapely.STRtree(parts).query(inside, predicate="within")
    n_px, codes = [0] * len(parts), [0] * len(parts)
    claims_px: list[Counter[TileKey]] = [Counter() for _ in parts]
    for i, k in zip(piece_index, part_index, strict=True):
        n_px[k] += cut[i].n_px
        codes[k] += cut[i].probability_codes
        claims_px[k].update(cut[i].claims_px)
    return [Piece(*values) for values in zip(parts, n_px, codes, claims_px, strict=True)]


def _without_straight_vertices(polygon: Polygon) -> Polygon:
    """The same polygon without the vertices that a union leaves where a block border crossed an edge."""
    return Polygon(_corners(polygon.exterior.coords), [_corners(ring.coords) for ring in polygon.interiors])


def _corners(ring: Iterable[tuple[float, ...]]) -> NDArray[np.float64]:
    points = np.asarray(ring, np.float64)[:-1]
    before, after = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
    turns = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
    corners: NDArray[np.float64] = points[turns != 0]
    return corners
