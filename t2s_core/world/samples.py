"""Tiles with a question and its true answer: what training and evaluation on the world consume."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from t2s_core.world.classes import Kind
from t2s_core.world.draw import draw_region
from t2s_core.world.queries import FIRST_SEED, QueryDraw, Split, WorldQuery
from t2s_core.world.tiles import Instance, Tile, cut_tile

REGION_PX = 768
TILES_PER_REGION = 4


@dataclass(frozen=True, slots=True)
class Sample:
    """One question about one tile."""

    image: NDArray[np.uint8]
    """(height, width, 3), RGB."""
    query: WorldQuery
    mask: NDArray[np.bool_]
    """(height, width). True on the target; all False where it is absent."""
    instances: tuple[Instance, ...]
    """The objects that make up the target, each with its box and two points."""


def make_sample(tile: Tile, query: WorldQuery) -> Sample:
    """The question with its answer on this tile."""
    meant = tuple(query.answer(tile.instances))
    if query.relation is None:
        mask = tile.mask(query.kinds)
    else:
        mask = np.logical_or.reduce([one.mask for one in meant]) if meant else np.zeros(tile.kinds.shape, np.bool_)
    return Sample(tile.image, query, mask, meant)


def samples(split: Split, count: int, absent_rate: float, offset: int = 0, side_px: int = 256) -> Iterator[Sample]:
    """`count` samples of a split, one query per tile, always the same for the same arguments.

    `absent_rate` is the share of queries whose target is not in the tile; `offset` picks other regions of the split.
    """
    rng = np.random.default_rng([FIRST_SEED[split], offset, 37])
    draw = QueryDraw(split, rng)
    made = 0
    for seed in range(FIRST_SEED[split] + offset, FIRST_SEED[split] + 400_000_000):
        region = draw_region(seed, REGION_PX, REGION_PX)
        for _ in range(TILES_PER_REGION):
            x, y = (int(v) for v in rng.integers(0, REGION_PX - side_px + 1, 2))
            tile = cut_tile(region, x, y, side_px)
            query = draw.draw(tile.instances, visible_px(tile), absent=bool(rng.random() < absent_rate))
            if query is not None:
                yield make_sample(tile, query)
                made += 1
            if made == count:
                return


def visible_px(tile: Tile) -> dict[Kind, int]:
    """Pixels of each class in the tile, slivers included."""
    counts = np.bincount(tile.kinds.ravel(), minlength=len(Kind))
    return {kind: int(counts[kind]) for kind in Kind}
