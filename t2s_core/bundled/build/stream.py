"""An endless supply of training tiles, drawn as they are needed: nothing is stored and none comes twice."""

from collections.abc import Iterator

import numpy as np

from t2s_core.world.draw import Region, draw_region
from t2s_core.world.tiles import Tile, cut_tile

_REGION_PX = 768
_POOL = 12
_TILES_PER_REGION = 16


def tile_stream(first_seed: int, rng: np.random.Generator) -> Iterator[Tile]:
    """Tiles of 256 px cut at random from a pool of regions, the oldest of which is replaced after every 16 tiles."""
    pool: list[Region] = []
    seed = first_seed
    while True:
        pool.append(draw_region(seed, _REGION_PX, _REGION_PX))
        seed += 1
        if len(pool) > _POOL:
            pool.pop(0)
        for _ in range(_TILES_PER_REGION):
            region = pool[int(rng.integers(len(pool)))]
            x, y = (int(value) for value in rng.integers(0, _REGION_PX - 256 + 1, 2))
            yield cut_tile(region, x, y)
