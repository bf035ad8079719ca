"""One bar for commands that go through samples or windows."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from flows.voice import say, wants_records

if TYPE_CHECKING:
    from pipeline.progress import Advance, Progress


@contextmanager
def bar(unit: str | None = None) -> Iterator["Progress"]:
    """A bar on stderr where that is a terminal; stdout stays free for the document.

    With a unit (`samples`) the start of each stage is also said in a line, for logs.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=wants_records() or not sys.stderr.isatty()) as bars:
        yield _Bar(bars, unit)


class _Bar:
    def __init__(self, bars: Any, unit: str | None) -> None:  # noqa: ANN401 -- rich is imported late
        self._bars, self._unit = bars, unit

    def start(self, stage: str, scene_id: str, total: int, done: int) -> "Advance":
        if self._unit is not None:
            say(f"{stage} {scene_id}: {total} {self._unit}", stage=stage, scene=scene_id)
        task = self._bars.add_task(f"{stage} {scene_id[:32]}", total=total, completed=done)
        return lambda steps: self._bars.advance(task, steps)

    def note(self, message: str) -> None:
        say(message)
