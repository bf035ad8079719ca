"""An example set over files: entries found when it is opened, pixels read when they are asked for."""

import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from t2s_core.errors import BadInput
from t2s_core.training.datasets.files import File, digest
from t2s_core.training.datasets.images import read_plane, read_rgb
from t2s_core.training.examples import BadExample, Example

_RULES = "1"
"""Part of every fingerprint: raise it when the same files come to mean other examples."""

Answer = tuple[NDArray[np.bool_], NDArray[np.bool_] | None]
"""`Example.mask` and `Example.valid`."""


class MaskSource(Protocol):
    """Where the true answer of one example is."""

    @property
    def stamp(self) -> str:
        """Differs when the mask may differ; empty where an index file says it all."""
        ...

    def read(self, height_px: int, width_px: int) -> Answer:
        """The answer for an image of this size; a wrong size is left to the caller. Raises `BadExample`."""
        ...


@dataclass(frozen=True, slots=True)
class PositiveMask:
    """An image whose first channel is above 0 on the target."""

    file: File

    @property
    def stamp(self) -> str:
        """The file's."""
        return self.file.stamp

    def read(self, height_px: int, width_px: int) -> Answer:
        """See `MaskSource`."""
        return read_plane(self.file.path) > 0, None


@dataclass(frozen=True, slots=True)
class Entry:
    """An example that was found but not read."""

    example_id: str
    image_id: str
    image: File
    query: str
    mask: MaskSource
    category: str = ""
    present: bool | None = None
    """What the dataset says beside the mask of whether the target is there; None where it says nothing."""

    @property
    def stamp(self) -> str:
        """Differs when the example may differ."""
        said = (self.example_id, self.image_id, self.query, self.category, self.present)
        return f"{said!r} {self.image.stamp} {self.mask.stamp}"


@dataclass(frozen=True, slots=True)
class Fault:
    """An example that cannot be: it keeps its number, and says why when it is asked for."""

    example_id: str
    """Or what stands in its place: a line's number."""
    reason: str

    @property
    def stamp(self) -> str:
        """Differs when the reason does."""
        return f"{self.example_id!r} {self.reason!r}"


class FileExamples:
    """See `examples.ExampleSet`. May be pickled and shared by threads: it changes nothing of its own."""

    def __init__(
        self,
        dataset: str,
        split: str,
        entries: Iterable[Entry | Fault],
        *,
        index: Sequence[bytes] = (),
        limit: int | None = None,
    ) -> None:
        """Args as found by a layout's `open_`; `index` is the bytes of files that say what the examples are.

        At most `limit` entries are kept, spread evenly: the first of a sorted set are all of one kind.

        Raises:
            BadInput: There is no entry.

        """
        self.name = f"{dataset}/{split}"
        self._entries = spread(_with_unique_ids(entries), limit)
        if not self._entries:
            raise BadInput(f"{self.name}: has no examples; check --root and --split")
        self.fingerprint = digest([_RULES, self.name, *index, *(entry.stamp for entry in self._entries)])

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: int) -> Example:
        at = operator.index(index)
        if not 0 <= at < len(self):
            raise IndexError(f"{self.name} has examples 0 to {len(self) - 1}, not {at}")
        entry = self._entries[at]
        try:
            return _read(entry)
        except BadExample as problem:
            raise BadExample(one_line(f"{self.name} {at} ({entry.example_id}): {problem}")) from problem


def one_line(text: str) -> str:
    """The text with every run of white space made one blank."""
    return " ".join(text.split())


def spread(entries: list[Entry | Fault], limit: int | None) -> list[Entry | Fault]:
    """At most `limit` of the entries, at even steps and in order; all if None."""
    if limit is None or limit >= len(entries):
        return entries
    return [entries[i * len(entries) // limit] for i in range(limit)]


def _with_unique_ids(entries: Iterable[Entry | Fault]) -> list[Entry | Fault]:
    seen: set[str] = set()
    found: list[Entry | Fault] = []
    for entry in entries:
        if isinstance(entry, Entry) and entry.example_id in seen:
            found.append(Fault(entry.example_id, "an earlier example has the same id; rename one"))
        else:
            found.append(entry)
        seen.add(entry.example_id)
    return found


def _read(entry: Entry | Fault) -> Example:
    if isinstance(entry, Fault):
        raise BadExample(entry.reason)
    query = one_line(entry.query)
    if not query:
        raise BadExample("the question is empty")
    image = read_rgb(entry.image.path)
    height, width = image.shape[:2]
    mask, valid = entry.mask.read(height, width)
    if mask.shape != (height, width):
        raise BadExample(f"the mask is {mask.shape[1]} x {mask.shape[0]} px, the image {width} x {height} px")
    there = bool(mask.any())
    if entry.present is False and there:
        raise BadExample(f"said to be absent, but {int(mask.sum())} px of its mask are target")
    if entry.present and not there:
        raise BadExample("said to be present, but no pixel of its mask is target")
    return Example(entry.example_id, entry.image_id, image, query, entry.category, mask, valid)
