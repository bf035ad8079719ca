"""What a check of a finished run's outputs looks at and what it has to say."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from pipeline import mosaics
from pipeline.committed import Committed, committed
from pipeline.plan import ScenePlan
from pipeline.queries import Query
from pipeline.spec import RunSpec
from pipeline.storage import Store
from t2s_core.errors import ContractError

MAX_SAID = 3
"""Problems that a check spells out; the others are counted."""


@dataclass(frozen=True)
class Published:
    """A run's directory as its run.json describes it."""

    store: Store
    manifest: Mapping[str, Any]
    plans: tuple[ScenePlan, ...]

    @cached_property
    def queries(self) -> tuple[Query, ...]:
        """In the order of the spec."""
        return RunSpec(**self.manifest["spec"]).queries

    @cached_property
    def committed(self) -> Mapping[str, Committed]:
        """By scene: which tile results of the plan are there."""
        return {plan.scene.scene_id: committed(self.store, plan, self.queries) for plan in self.plans}

    @cached_property
    def invocations(self) -> Mapping[str, Mapping[str, Any]]:
        """Entries of the manifest's history by run id."""
        return {entry["run_id"]: entry for entry in self.manifest["history"]}

    def query_entry(self, query_id: str) -> Mapping[str, Any]:
        """What the manifest says of a query."""
        entry: Mapping[str, Any] = next(q for q in self.manifest["queries"] if q["query_id"] == query_id)
        return entry

    def mosaics(self) -> Iterator[tuple[ScenePlan, Query]]:
        """Every scene with every query."""
        for plan in self.plans:
            for query in self.queries:
                yield plan, query

    def attributes(self, scene_id: str, query_id: str) -> dict[str, Any]:
        """Of the mosaic's group. Raises `ContractError` where there is no finished one."""
        found = mosaics.finished(self.store, scene_id, query_id)
        if found is None:
            raise ContractError("no finished mosaic")
        return found


@dataclass
class Findings:
    """Problems and remarks of one check, bounded however many there are."""

    said: list[str] = field(default_factory=list)
    n_problems: int = 0
    notes: list[str] = field(default_factory=list)
    n_looked_at: int = 0
    looked: Callable[[], None] = lambda: None
    """Called after each thing that was looked at."""

    def problem(self, where: str, what: str) -> None:
        """Something is wrong."""
        self.n_problems += 1
        if self.n_problems <= MAX_SAID:
            self.said.append(f"{where}: {' '.join(what.split())}")

    def expect(self, where: str, what: str, *, found: object, expected: object) -> None:
        """A problem unless both are equal."""
        if found != expected:
            self.problem(where, f"{what} is {found!s:.80}, not {expected!s:.80}")

    def note(self, text: str) -> None:
        """Something that was not looked at, or is odd but allowed; said once."""
        if text not in self.notes:
            self.notes.append(text)

    @contextmanager
    def reading(self, where: str, *, last: bool = True) -> Iterator[None]:
        """Counts one thing looked at, with the `last` part of it; whatever keeps it from being read is a problem."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 -- a damaged output raises what its reader likes; that is the finding
            self.problem(where, f"cannot be checked: {type(error).__name__}: {error}")
        if last:
            self.n_looked_at += 1
            self.looked()

    def detail(self, unit: str) -> str:
        """One line."""
        more = f" (and {self.n_problems - MAX_SAID} more)" if self.n_problems > MAX_SAID else ""
        parts = ["; ".join(self.said) + more if self.said else f"{self.n_looked_at} {unit}", *self.notes]
        return "; ".join(parts)
