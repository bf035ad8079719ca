"""An endless supply of training tiles, drawn as they are needed: nothing is stored and none comes twice."""

from collections.abc import Iterator

import numpy as np

from t2s_core.bundled.build.leaves import draw_leaves
from t2s_core.world.classes import Kind
from t2s_core.world.draw import Region, draw_region
from t2s_core.world.queries import FIRST_SEED
from t2s_core.world.tiles import MIN_VISIBLE_PX, Instance, Tile, bounding_box, cut_tile, reading_order, two_points

_REGION_PX = 768
_POOL = 12
_TILES_PER_REGION = 16


def first_region(stream: int) -> int:
    """Seed of the first region of a stream: of the training split, and so are the ten million that follow it."""
    return FIRST_SEED["train"] + 7919 * stream % (FIRST_SEED["val"] - FIRST_SEED["train"] - 10_000_000)


def tile_stream(stream: int, rng: np.random.Generator) -> Iterator[Tile]:
    """Tiles of 256 px of the training split, cut at random from a pool of regions.

    The oldest region is replaced after every 16 tiles. Each `stream` has regions of its own.
    """
    pool: list[Region] = []
    seed = first_region(stream)
    while True:
        pool.append(draw_region(seed, _REGION_PX, _REGION_PX))
        seed += 1
        if len(pool) > _POOL:
            pool.pop(0)
        for _ in range(_TILES_PER_REGION):
            region = pool[int(rng.integers(len(pool)))]
            x, y = (int(value) for value in rng.integers(0, _REGION_PX - 256 + 1, 2))
            yield cut_tile(region, x, y)


def at_the_edge(tile: Tile, rng: np.random.Generator) -> Tile:
    """The tile where a swath ends: black beyond a line through it, and nothing is there."""
    side = len(tile.kinds)
    turn = rng.uniform(0, 2 * np.pi)
    x, y = np.arange(side)[None, :] - rng.uniform(0, side), np.arange(side)[:, None] - rng.uniform(0, side)
    seen = x * np.cos(turn) + y * np.sin(turn) > 0
    left: list[Instance] = []
    for one in tile.instances:
        mask = one.mask & seen
        if mask.sum() >= MIN_VISIBLE_PX:
            box = bounding_box(mask)
            left.append(Instance(one.kind, box, two_points(mask, box), mask))
    left.sort(key=reading_order)
    return Tile(np.where(seen[..., None], tile.image, 0).astype(np.uint8), np.where(seen, tile.kinds, 0), tuple(left))


def foreign_tile(rng: np.random.Generator) -> Tile:
    """An image that is not of this world, in which nothing is to be found: dead leaves, often pale, dark or grey.

    Without them a foreign image does not only mislead a small prompter: it loses its grammar.
    """
    image = draw_leaves(rng)[0].astype(np.float64)
    if rng.random() < 0.3:
        image[:] = image.mean(axis=2, keepdims=True)
    if rng.random() < 0.5:
        middle = rng.uniform(0, 255, 3)
        image = middle + rng.uniform(0.0, 0.6) * (image - middle)
    kinds = np.full(image.shape[:2], Kind.GROUND, np.uint8)
    return Tile(np.clip(image, 0, 255).astype(np.uint8), kinds, ())
