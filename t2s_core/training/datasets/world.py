"""The drawn world as an example set: any example by its number, drawn when it is asked for."""

import copy
import operator
from functools import cache, lru_cache
from importlib import resources

import numpy as np

from t2s_core.errors import BadInput
from t2s_core.training.datasets.files import digest
from t2s_core.training.examples import BadExample, Example
from t2s_core.world.draw import Region, draw_region
from t2s_core.world.looks import Look, seen
from t2s_core.world.queries import FIRST_SEED, QueryDraw, Split
from t2s_core.world.samples import REGION_PX, TILES_PER_REGION, make_sample, visible_px
from t2s_core.world.tiles import cut_tile

DEFAULT_N: dict[Split, int] = {"train": 1_000_000, "val": 2_000, "test": 2_000}
MAX_REGIONS = 400_000_000
"""Of a split: more would reach into the next split's seeds."""
_TRIES = 64
"""Tiles looked at before an example is given up: nearly every tile has something, and lacks something."""
_REGIONS_KEPT = 4
_STREAM = 41
"""Sets these random numbers apart from those that draw regions."""


class WorldExamples:
    """See `examples.ExampleSet`. Example `i` depends on the split, `i`, the rate, the offset and the look alone."""

    def __init__(
        self,
        split: Split,
        n: int | None = None,
        absent_rate: float = 0.5,
        *,
        offset: int = 0,
        side_px: int = 256,
        look: Look = "clear",
    ) -> None:
        """Describe `n` examples on tiles of `side_px`; drawing waits.

        Args:
            split: Which regions and which wordings.
            n: How many; the split's own number if None.
            absent_rate: Share of questions whose target is not in the tile.
            offset: First region of the split to use.
            side_px: Of the square tiles.
            look: The day on which it is seen; questions and masks are the same on all.

        Raises:
            BadInput: A number is out of range.

        """
        if split not in FIRST_SEED:
            raise BadInput(f"world: split {split!r} is none of {', '.join(FIRST_SEED)}; name one of them")
        self.n = DEFAULT_N[split] if n is None else n
        most = (MAX_REGIONS - offset) * TILES_PER_REGION
        problems = [
            *([] if 0 <= offset < MAX_REGIONS else [f"world: offset {offset}; it must be 0 to {MAX_REGIONS - 1:,}"]),
            *([] if 1 <= self.n <= max(most, 1) else [f"world: {self.n} examples; the split has 1 to {most:,}"]),
            *([] if 0 <= absent_rate <= 1 else [f"world: absent_rate {absent_rate}; it must be 0 to 1"]),
            *([] if 1 <= side_px <= REGION_PX else [f"world: tiles of {side_px} px; a side is 1 to {REGION_PX} px"]),
        ]
        if problems:
            raise BadInput(*problems)
        self.name = f"world/{split}" if look == "clear" else f"world-{look}/{split}"
        self.look: Look = look
        self.split, self.absent_rate, self.offset, self.side_px = split, absent_rate, offset, side_px

    @property
    def fingerprint(self) -> str:
        """Of the arguments and of the code that draws."""
        said = (self.name, self.n, float(self.absent_rate), self.offset, self.side_px)
        return digest([repr(said), _code_digest()])

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> Example:
        at = operator.index(index)
        if not 0 <= at < self.n:
            raise IndexError(f"{self.name} has examples 0 to {self.n - 1}, not {at}")
        seed = FIRST_SEED[self.split] + self.offset + at // TILES_PER_REGION
        region = _region(seed)
        rng = np.random.default_rng([seed, at % TILES_PER_REGION, _STREAM])
        # Its own copy: a draw holds a generator, and two threads may ask at once.
        draw = copy.copy(_draw_of(self.split))
        draw.rng = rng
        absent = bool(rng.random() < self.absent_rate)
        for _ in range(_TRIES):
            x, y = (int(v) for v in rng.integers(0, REGION_PX - self.side_px + 1, 2))
            tile = cut_tile(region, x, y, self.side_px)
            query = draw.draw(tile.instances, visible_px(tile), absent=absent)
            if query is not None:
                sample = make_sample(tile, query)
                # A copy: the tile is a view of a region that is kept.
                image = np.array(seen(sample.image, self.look))
                return Example(
                    f"{at}", f"{seed}/{x},{y},{self.side_px}", image, query.text, query.category, sample.mask
                )
        what = "absent" if absent else "present"
        raise BadExample(f"{self.name} {at}: nothing to ask for that is {what} in {_TRIES} tiles of region {seed}")


@lru_cache(maxsize=_REGIONS_KEPT)
def _region(seed: int) -> Region:
    return draw_region(seed, REGION_PX, REGION_PX)


@cache
def _draw_of(split: Split) -> QueryDraw:
    return QueryDraw(split, np.random.default_rng(0))


@cache
def _code_digest() -> str:
    """Of the sources that decide what is drawn and asked: any change of them may change an example."""
    sources = sorted(resources.files("t2s_core.world").iterdir(), key=lambda one: one.name)
    here = resources.files("t2s_core.training.datasets") / "world.py"
    return digest(one.read_bytes() for one in (*sources, here) if one.name.endswith(".py"))
