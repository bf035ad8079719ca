"""An image, a question and the mask that answers it: what training and evaluation consume, wherever it comes from."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from t2s_core.ports import Image


class BadExample(Exception):
    """One example of a set cannot be used. Its text is one line: which, why. The others can."""


@dataclass(frozen=True, slots=True)
class Example:
    """One question about one image, with its true answer."""

    example_id: str
    """Unique in its set, and the same whenever the set is opened."""
    image_id: str
    """Equal ids, equal images: what is computed of an image is computed once."""
    image: Image
    """(height, width, 3) uint8, RGB."""
    query: str
    category: str
    """What tables are grouped by; empty where the set has none."""
    mask: NDArray[np.bool_]
    """(height, width), at the image's own resolution: tiny targets must not vanish by resizing."""
    valid: NDArray[np.bool_] | None = None
    """(height, width): False where nobody can say (no data). None where all of it counts."""

    @property
    def has_target(self) -> bool:
        """Whether what is asked for is there at all."""
        return bool(self.mask.any())


class ExampleSet(Protocol):
    """Examples by number. Opening one reads no pixels; numbers are stable, so that training can resume at one."""

    @property
    def name(self) -> str:
        """`world/test`, `rrsisd/val`: dataset and split."""
        ...

    @property
    def fingerprint(self) -> str:
        """16 hex digits: changes whenever an example may change."""
        ...

    def __len__(self) -> int:
        """How many, bad ones included."""
        ...

    def __getitem__(self, index: int) -> Example:
        """Read one. Raises `BadExample` for this one alone, `IndexError` beyond the last."""
        ...


def usable(examples: ExampleSet, report: Callable[[str], None], limit: int | None = None) -> Iterator[Example]:
    """The examples that can be used, in order, at most `limit` of them; the text of every other goes to `report`."""
    given = 0
    for index in range(len(examples)):
        if given == limit:
            return
        try:
            example = examples[index]
        except BadExample as problem:
            report(str(problem))
            continue
        yield example
        given += 1
