"""Regions of equal labels in a raster, as polygons along pixel edges.

The raster primitive of GDAL walks over pixels; this one walks over runs (maximal stretches of one label in one row) and
over the straight edges between corners, so that its cost follows what is drawn and not the area it is drawn on.

How: runs that overlap the run above them with the same label make the regions (4-connected). What of a run's upper
side is not under such a run is a top edge, walked to the right; bottom edges are walked to the left, so that a region
lies to the right of its boundary. A corner is where a horizontal edge meets a vertical one; the vertical edges of a
column, sorted, pair each corner with the next one. That chains the horizontal edges to rings.
"""

from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components, depth_first_order

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Runs:
    """Maximal stretches of one label, not 0, in one row of a raster; in row-major order."""

    row: Ints
    x0: Ints
    x1: Ints
    """Half-open: the run's pixels are x0 to x1 - 1."""
    label: Ints
    region: Ints
    """Number, from 0, of the 4-connected region of equal labels that the run belongs to."""
    n_regions: int


@dataclass(frozen=True, slots=True)
class Regions:
    """The 4-connected regions of a raster. All arrays are by region."""

    runs: Runs
    polygons: NDArray[np.object_]
    """(n,) shapely Polygons: valid, corners are whole numbers, no vertex on a straight line between its neighbours."""
    label: Ints
    n_px: Ints


@dataclass(frozen=True, slots=True)
class _Edges:
    """Horizontal edges of all regions: tops first, then bottoms. All arrays are by edge."""

    y: Ints
    start: Ints
    """x where the walk along the edge begins."""
    end: Ints
    run: Ints
    starts_convex: NDArray[np.bool_]
    """True where the region turns right at that end; else it turns left."""
    ends_convex: NDArray[np.bool_]
    n_tops: int


def regions_of(labels: NDArray[np.integer], *, x0: int = 0, y0: int = 0) -> Regions:
    """4-connected regions of equal labels of a raster (height, width); 0 is background.

    `x0`, `y0`: place of its upper left pixel in the frame that the polygons are in. Regions that touch at a corner only
    stay apart, and a region that touches itself at a corner is a valid polygon with a hole that touches its shell.
    """
    runs, above, below = _runs_of(labels)
    edges = _edges_of(runs, above, below)
    following = _following(edges, runs.region, labels.shape[0])
    ring, order = _rings(following)
    n_rings = int(ring[-1]) + 1 if len(ring) else 0
    length = (edges.end - edges.start)[order]
    area = np.bincount(ring, weights=-length * edges.y[order], minlength=n_rings).astype(np.int64)
    first = np.searchsorted(ring, np.arange(n_rings))
    region = runs.region[edges.run[order[first]]]
    # Shells are walked clockwise on a screen, which makes their area positive here; each comes before its holes.
    place = np.lexsort((area < 0, region))
    points = np.empty((2 * len(order), 2), np.float64)
    points[0::2] = np.column_stack([edges.start, edges.y])[order]
    points[1::2] = np.column_stack([edges.end, edges.y])[order]
    points += (x0, y0)
    polygons = np.empty(0, object)
    if n_rings:
        rings = np.asarray(shapely.linearrings(points, indices=np.repeat(ring, 2)), object)
        polygons = np.asarray(shapely.polygons(rings[place], indices=region[place]), object)
    n_px = np.bincount(region, weights=area, minlength=runs.n_regions).astype(np.int64)
    label = np.zeros(runs.n_regions, np.int64)
    label[runs.region] = runs.label
    return Regions(runs, polygons, label, n_px)


def sums_of(runs: Runs, values: NDArray[np.uint8]) -> Ints:
    """By region, the sum of `values` (height, width) over its pixels."""
    height, width = values.shape
    before = np.zeros(height * width + 1, np.uint32)  # it may wrap around: a run's own sum never does
    np.cumsum(values.ravel(), dtype=np.uint32, out=before[1:])
    of_runs = before[runs.row * width + runs.x1] - before[runs.row * width + runs.x0]
    return np.bincount(runs.region, weights=of_runs, minlength=runs.n_regions).astype(np.int64)


def region_raster(runs: Runs, shape: tuple[int, int]) -> NDArray[np.int32]:
    """(height, width): 1 + the region of each pixel, 0 where there is none."""
    height, width = shape
    change = np.zeros(height * width + 1, np.int32)
    np.add.at(change, runs.row * width + runs.x0, (runs.region + 1).astype(np.int32))
    np.subtract.at(change, runs.row * width + runs.x1, (runs.region + 1).astype(np.int32))
    raster: NDArray[np.int32] = np.cumsum(change[:-1], dtype=np.int32).reshape(shape)
    return raster


def _runs_of(labels: NDArray[np.integer]) -> tuple[Runs, Ints, Ints]:
    """The runs, and as (above, below) every pair of runs of one region that lie one above the other."""
    height, width = labels.shape
    wide = np.zeros((height, width + 1), labels.dtype)  # a column of background, so that no run goes on in the next row
    wide[:, :-1] = labels
    flat = wide.ravel()
    bounds = np.concatenate(([0], np.flatnonzero(flat[1:] != flat[:-1]) + 1, [flat.size]))
    value = flat[bounds[:-1]] if flat.size else flat
    start, end = bounds[:-1][value != 0], bounds[1:][value != 0]
    label = value[value != 0].astype(np.int64)
    row = start // (width + 1)
    first = np.searchsorted(end, start + width + 1, "right")
    count = np.searchsorted(start, end + width + 1, "left") - first
    above = np.repeat(np.arange(len(start)), count)
    below = np.arange(len(above)) - np.repeat(np.cumsum(count) - count - first, count)
    same = label[above] == label[below]
    above, below = above[same], below[same]
    graph = coo_array((np.ones(len(above), np.int8), (above, below)), shape=(len(start), len(start)))
    n_regions, region = connected_components(graph, directed=False) if len(start) else (0, np.empty(0))
    x0 = start - row * (width + 1)
    return Runs(row, x0, x0 + end - start, label, region.astype(np.int64), int(n_regions)), above, below


def _edges_of(runs: Runs, above: Ints, below: Ints) -> _Edges:
    """What of a run's upper or lower side no run of its region covers."""
    low, high = np.maximum(runs.x0[above], runs.x0[below]), np.minimum(runs.x1[above], runs.x1[below])
    left, right, run_t, left_convex_t, right_convex_t = _uncovered(runs, below, low, high)
    left_b, right_b, run_b, left_convex_b, right_convex_b = _uncovered(runs, above, low, high)
    return _Edges(
        y=np.concatenate([runs.row[run_t], runs.row[run_b] + 1]),
        start=np.concatenate([left, right_b]),
        end=np.concatenate([right, left_b]),
        run=np.concatenate([run_t, run_b]),
        starts_convex=np.concatenate([left_convex_t, right_convex_b]),
        ends_convex=np.concatenate([right_convex_t, left_convex_b]),
        n_tops=len(run_t),
    )


def _uncovered(
    runs: Runs, covered: Ints, low: Ints, high: Ints
) -> tuple[Ints, Ints, Ints, NDArray[np.bool_], NDArray[np.bool_]]:
    """(left, right, run, whether left is the run's end, whether right is) of the gaps that [low, high) leave.

    `covered`: the run that each of these lies on.

    In row-major order the gaps' left ends (a run's own or where a cover ends) and their right ends (where a cover
    begins, or the run's own) alternate, so that sorting both pairs them.
    """
    n = len(runs.row)
    run = np.concatenate([np.arange(n), covered])
    left, right = np.concatenate([runs.x0, high]), np.concatenate([runs.x1, low])
    place = run * (int(runs.x1.max(initial=0)) + 1)
    # Stable sorting is merging here, and what it merges is nearly in order.
    by_left, by_right = np.argsort(place + left, kind="stable"), np.argsort(place + right, kind="stable")
    left, right = left[by_left], right[by_right]
    some = left < right
    return left[some], right[some], run[by_left][some], by_left[some] < n, by_right[some] < n


def _following(edges: _Edges, region_of_run: Ints, height: int) -> Ints:
    """By edge, the horizontal edge that the walk along its region's boundary comes to next."""
    n = len(edges.y)
    is_top = np.arange(n) < edges.n_tops
    following = np.empty(n, np.int64)
    starts, ends = edges.start * (height + 1) + edges.y, edges.end * (height + 1) + edges.y
    # Down a right side after a top that ends convex or a bottom that ends concave; up a left side after the others.
    for downward in (True, False):
        leaving = np.flatnonzero((is_top == edges.ends_convex) == downward)
        arriving = np.flatnonzero((is_top != edges.starts_convex) == downward)
        following[leaving[np.argsort(ends[leaving])]] = arriving[np.argsort(starts[arriving])]
    _keep_simple(following, edges, region_of_run[edges.run], is_top, starts=starts, ends=ends)
    return following


def _keep_simple(
    following: Ints, edges: _Edges, region: Ints, is_top: NDArray[np.bool_], *, starts: Ints, ends: Ints
) -> None:
    """Where a region touches itself at a corner, cross over, so that a hole there does not become part of the shell."""
    one, other = _meeting(ends, edges.ends_convex, is_top, region)
    following[one], following[other] = following[other], following[one]
    before = np.empty_like(following)
    before[following] = np.arange(len(following))
    one, other = _meeting(starts, edges.starts_convex, is_top, region)
    following[before[one]], following[before[other]] = other, one


def _meeting(corner: Ints, convex: NDArray[np.bool_], is_top: NDArray[np.bool_], region: Ints) -> tuple[Ints, Ints]:
    """(tops, bottoms) of one region that turn right at one and the same corner."""
    tops, bottoms = np.flatnonzero(is_top & convex), np.flatnonzero(~is_top & convex)
    _, i, j = np.intersect1d(corner[tops], corner[bottoms], assume_unique=True, return_indices=True)
    tops, bottoms = tops[i], bottoms[j]
    same = region[tops] == region[bottoms]
    return tops[same], bottoms[same]


def _rings(following: Ints) -> tuple[Ints, Ints]:
    """(ring, edge): the edges in the order of their walks, ring by ring, with the number of the ring of each.

    The rings are opened and hung one behind the other, so that one walk in compiled code visits all edges.
    """
    n = len(following)
    if not n:
        return following, following
    one_each = np.arange(n + 1, dtype=np.int32)
    graph = csr_array((np.ones(n, np.int8), following.astype(np.int32), one_each), shape=(n, n))
    n_rings, ring = connected_components(graph, directed=True, connection="strong")
    first = np.empty(n_rings, np.int32)
    first[ring[::-1]] = one_each[:n][::-1]
    before = np.empty(n, np.int32)
    before[following] = one_each[:n]
    chain = following.astype(np.int32)
    chain[before[first[:-1]]] = first[1:]
    chain[before[first[-1]]] = before[first[-1]]  # the end of it all: an edge to itself, which leads nowhere new
    path = csr_array((np.ones(n, np.int8), chain, one_each), shape=(n, n))
    order = depth_first_order(path, first[0], return_predecessors=False).astype(np.int64)
    in_order = ring[order]
    return np.cumsum(np.concatenate(([0], in_order[1:] != in_order[:-1]))), order
