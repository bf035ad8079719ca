"""Progress bars for a person at a terminal; plain lines for a log file."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress
from rich.text import Text

from pipeline.progress import Progress

_UNITS = {"segment": "tile-queries", "stitch": "mosaics", "vectorise": "layers", "publish": "layers"}
_LINE_EVERY_S = 15.0


@contextmanager
def progress_for() -> Iterator[Progress]:
    """Bars where stderr is a terminal, else a line per stage and one every 15 s. stdout stays free for JSON."""
    if not sys.stderr.isatty():
        yield _Lines()
        return
    console = Console(stderr=True)
    columns = (
        SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}"), _Rate(), TimeRemainingColumn(),
    )  # fmt: skip
    with RichProgress(*columns, console=console) as bars:
        yield _Bars(bars)


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f}/s" if task.speed else "", style="progress.data.speed")


class _Bars:
    def __init__(self, bars: RichProgress) -> None:
        self._bars = bars
        self._current = self._bars.add_task("", visible=False, unit="")

    def start(self, stage: str, scene_id: str, total: int, done: int) -> None:
        self._current = self._bars.add_task(
            f"{stage:<9} {scene_id[:32]}", total=total, completed=done, unit=_UNITS[stage]
        )

    def advance(self, steps: int) -> None:
        self._bars.advance(self._current, steps)

    def note(self, message: str) -> None:
        self._bars.console.print(message, highlight=False, markup=False)


class _Lines:
    def __init__(self) -> None:
        self._stage, self._total, self._done, self._said_s = "", 0, 0, 0.0

    def start(self, stage: str, scene_id: str, total: int, done: int) -> None:
        self._stage, self._total, self._done, self._said_s = f"{stage} {scene_id}", total, done, time.monotonic()
        found = f", {done} of them done already" if done else ""
        self.note(f"{self._stage}: {total} {_UNITS[stage]}{found}")

    def advance(self, steps: int) -> None:
        self._done += steps
        if time.monotonic() - self._said_s >= _LINE_EVERY_S:
            self._said_s = time.monotonic()
            self.note(f"{self._stage}: {self._done} of {self._total}")

    def note(self, message: str) -> None:
        print(message, file=sys.stderr, flush=True)  # noqa: T201 -- this is the terminal's module
