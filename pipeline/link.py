"""Which instances of neighbouring tiles are one object, and whose a pixel is: the instance mode.

The law
-------
Within a tile, a pixel belongs to the instance that is likeliest there, if it is at least as likely as the threshold;
so the instances of a tile share no pixel. Tiles know nothing of each other but what they both looked at, their overlap.

1. *Agreement.* Two instances of two tiles agree where, of the pixels in the overlap that either has, more than half are
   pixels that both have. As instances of a tile share no pixel, an instance agrees with one at most of each tile:
   links are one-to-one.
2. *Linking.* Agreements are taken up in the order of the pixels they share, most first (of equals by the tiles' and the
   instances' order), and each makes one object of two, unless it would put two instances of one tile into it, or unless
   the two objects, over all the ground that tiles of both looked at, agree on no more than half of it.
   So a link is not handed on: where a agrees with b and b with c, but a and c see the same ground differently, a and c
   stay apart. In a row of touching roofs each keeps to itself, while an object larger than a tile is followed from
   overlap to overlap. Nothing is linked by nearness or by touching: without overlap nothing is linked at all.
3. *Ownership.* A pixel of the mosaic's mask belongs to one object: of those whose instances claim it, the one that
   weighs most, by the weights with which the mosaic was blended (of equals the one that comes first). Every pixel of
   the mask is claimed (see `pipeline.vectorise`), so the objects together are exactly the mask, with no tolerance.

An instance in several parts is one feature as long as some tile sees its parts together and the overlaps show that it
is the same; tiles that each see another part, and nothing in common, cannot know. For instances in one part, and a
segmenter that sees in a tile what it sees in the scene, the objects do not depend on how the scene is tiled.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.results import TileResult
from pipeline.stitch import finer_side_px, small_instances, view_of, weight_of
from pipeline.tiling import TileGrid, TileKey, Window

_TARGET = 1
_HALF = 0.5


class Instance(NamedTuple):
    """One instance of one tile."""

    tile: TileKey
    number: int
    """1 + its place among the tile's masks."""


Ground = dict[tuple[TileKey, TileKey], NDArray[Any]]
"""By two tiles, the first before the second: how many of the pixels both looked at belong to (instance of the first,
instance of the second), an array (1 + instances, 1 + instances) whose row and column 0 mean none."""


def shared_ground(window: Window, results: Iterable[TileResult], threshold: float) -> Ground:
    """What the tiles see in common within `window`; the sum over the blocks of a scene is that of the scene.

    Pairs of which one tile claims nothing at all are left out, for there is nothing to link.
    """
    views = []
    for result in results:
        part = window.intersection(result.window_scene_px)
        if part is not None and result.status.seen and result.masks:
            view = view_of(result, part)
            views.append((result.tile, len(result.masks), part, view.claims(threshold), view.looked))
    views.sort(key=lambda entry: entry[0])
    ground: Ground = {}
    for (tile_a, n_a, part_a, claims_a, looked_a), (tile_b, n_b, part_b, claims_b, looked_b) in combinations(views, 2):
        overlap = part_a.intersection(part_b)
        if overlap is None:
            continue
        in_a, in_b = overlap.slices_in(part_a), overlap.slices_in(part_b)
        both = looked_a[in_a] & looked_b[in_b]
        pairs = claims_a[in_a][both].astype(np.int64) * (n_b + 1) + claims_b[in_b][both]
        if pairs.any():
            ground[tile_a, tile_b] = np.bincount(pairs, minlength=(n_a + 1) * (n_b + 1)).reshape(n_a + 1, n_b + 1)
    return ground


def add_ground(total: Ground, more: Ground) -> None:
    """Add what another block shows to `total`."""
    for tiles, counts in more.items():
        total[tiles] = total[tiles] + counts if tiles in total else counts


def link(ground: Ground) -> dict[Instance, Instance]:
    """By instance, the first instance of its object. Instances that agree with no other are not mentioned."""
    objects = _Objects(ground)
    for _, one, other in sorted(_agreements(ground)):
        objects.unite(one, other)
    return {member: min(members) for members in objects.linked() for member in members}


def _agreements(ground: Ground) -> Iterator[tuple[float, Instance, Instance]]:
    """Pairs that agree, with the shared pixels negated, so that sorting puts the strongest first."""
    for (tile_a, tile_b), counts in ground.items():
        either = counts.sum(axis=1)[:, np.newaxis] + counts.sum(axis=0) - counts
        agree = counts > _HALF * either
        agree[0], agree[:, 0] = False, False
        for i, j in np.argwhere(agree).tolist():
            yield -counts[i, j].item(), Instance(tile_a, i), Instance(tile_b, j)


class _Objects:
    """Objects under construction."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._neighbours: dict[TileKey, list[TileKey]] = {}
        for one, other in ground:
            self._neighbours.setdefault(one, []).append(other)
            self._neighbours.setdefault(other, []).append(one)
        self._members_of: dict[Instance, dict[TileKey, int]] = {}
        """By instance, all instances of its object: an object has one instance of a tile at most, so number by tile."""

    def linked(self) -> list[list[Instance]]:
        """The instances of every object that has more than one."""
        objects = {id(members): members for members in self._members_of.values() if len(members) > 1}
        return [[Instance(tile, number) for tile, number in members.items()] for members in objects.values()]

    def unite(self, one: Instance, other: Instance) -> None:
        """Make one object of those of two instances, if the law allows it."""
        small, large = sorted((self._members(one), self._members(other)), key=len)
        if small is large or any(tile in large for tile in small) or not self._agree(small, large):
            return
        large.update(small)
        self._members_of.update({Instance(tile, number): large for tile, number in small.items()})

    def _members(self, instance: Instance) -> dict[TileKey, int]:
        return self._members_of.setdefault(instance, {instance.tile: instance.number})

    def _agree(self, small: Mapping[TileKey, int], large: Mapping[TileKey, int]) -> bool:
        """Over all ground that tiles of both looked at."""
        shared = either = 0.0
        for tile, number in small.items():
            for neighbour in self._neighbours[tile]:
                if neighbour in large:
                    both, any_ = self._count(Instance(tile, number), Instance(neighbour, large[neighbour]))
                    shared, either = shared + both, either + any_
        return shared > _HALF * either

    def _count(self, one: Instance, other: Instance) -> tuple[float, float]:
        """Pixels of the overlap that both have and that either has."""
        if one.tile > other.tile:
            one, other = other, one
        counts = self._ground[one.tile, other.tile]
        both = counts[one.number, other.number]
        return float(both), float(counts[one.number].sum() + counts[:, other.number].sum() - both)


def owners_of(
    window: Window,
    mask: NDArray[np.uint8],
    results: Sequence[TileResult],
    linked: Mapping[Instance, Instance],
    grids: Mapping[int, TileGrid],
    *,
    threshold: float,
) -> tuple[NDArray[np.int32], list[Instance]]:
    """Whose each target pixel of `mask`, (height, width) of `window`, is: (owners, names).

    `owners`, (height, width): 1 + the place among `names` of the object that has the pixel, 0 where there is no target.
    `names`: the first instance of each object that may be in the window. `linked`: of `link`.
    """
    results = [r for r in results if r.status.seen and r.masks and window.intersection(r.window_scene_px) is not None]
    instances = [[Instance(r.tile, k) for k in range(1, len(r.masks) + 1)] for r in results]
    names = sorted({linked.get(i, i) for of_tile in instances for i in of_tile})
    number = {name: k for k, name in enumerate(names, start=1)}
    places, owners, weights = [], [], []
    for result, of_tile in zip(results, instances, strict=True):
        part = window.intersection(result.window_scene_px)
        assert part is not None
        inside = part.slices_in(window)
        view = view_of(result, part)
        claims = np.where(mask[inside] == _TARGET, view.claims(threshold), 0)
        y, x = np.nonzero(claims)
        of_number = np.array([0, *(number[linked.get(i, i)] for i in of_tile)])
        weight = weight_of(result, view, grids[result.tile.level], part).astype(np.int64) * view.probability_units
        if finer_px := finer_side_px(grids, result.tile.level):
            # What is small for a coarse level has a pixel only where nothing else claims it (see `pipeline.stitch`).
            weight *= ~small_instances(result, finer_px)[view.speaker]
        places.append((y + inside[0].start) * window.width + x + inside[1].start)
        owners.append(of_number[claims[y, x]])
        weights.append(weight[y, x])
    raster = np.zeros((window.height, window.width), np.int32)
    if places:
        _heaviest(raster.ravel(), np.concatenate(places), np.concatenate(owners), np.concatenate(weights))
    return raster, names


def _heaviest(
    raster: NDArray[np.int32], place: NDArray[np.int64], owner: NDArray[np.int64], weight: NDArray[np.int64]
) -> None:
    """Write at each place the owner whose weights sum up to most, of equals the first."""
    lowest, highest = np.full(raster.size, np.iinfo(np.int32).max, np.int32), raster
    np.minimum.at(lowest, place, owner.astype(np.int32))
    np.maximum.at(highest, place, owner.astype(np.int32))
    disputed = lowest[place] != highest[place]
    place, owner, weight = place[disputed], owner[disputed], weight[disputed]
    if not len(place):
        return
    order = np.lexsort((owner, place))
    place, owner, weight = place[order], owner[order], weight[order]
    first = np.flatnonzero(np.concatenate(([True], (place[1:] != place[:-1]) | (owner[1:] != owner[:-1]))))
    place, owner, total = place[first], owner[first], np.add.reduceat(weight, first)
    best = np.lexsort((-owner, total, place))
    last = np.flatnonzero(np.concatenate((place[best][1:] != place[best][:-1], [True])))
    raster[place[best][last]] = owner[best][last]
