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

from flows.voice import say, wants_records
from pipeline.metrics import show_steps
from pipeline.progress import Advance, Progress

_UNITS = {
    "look": "tile-queries",
    "segment": "tile-queries",
    "stitch": "mosaics",
    "vectorise": "layers",
    "publish": "layers",
}
_LINE_EVERY_S = 15.0


@contextmanager
def progress_for() -> Iterator[Progress]:
    """Bars where stderr is a terminal, else a line per stage and one every 15 s. stdout stays free for JSON.

    Where logs are JSON, lines are records of them.
    """
    if wants_records() or not sys.stderr.isatty():
        yield _Counted(_Lines())
        return
    console = Console(stderr=True)
    columns = (
        SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}"), _Rate(), TimeRemainingColumn(),
    )  # fmt: skip
    with RichProgress(*columns, console=console) as bars:
        yield _Counted(_Bars(bars))


class Both:
    """Tells two who watch."""

    def __init__(self, one: Progress, other: Progress) -> None:
        """Args: who is told, in this order."""
        self._one, self._other = one, other

    def start(self, stage: str, scene_id: str, total: int, done: int) -> Advance:
        """See `Progress.start`."""
        told = [watch.start(stage, scene_id, total, done) for watch in (self._one, self._other)]

        def advance(steps: int) -> None:
            for tell in told:
                tell(steps)

        return advance

    def note(self, message: str) -> None:
        """See `Progress.note`."""
        self._one.note(message)
        self._other.note(message)


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f}/s" if task.speed else "", style="progress.data.speed")


class _Bars:
    def __init__(self, bars: RichProgress) -> None:
        self._bars = bars

    def start(self, stage: str, scene_id: str, total: int, done: int) -> Advance:
        task = self._bars.add_task(f"{stage:<9} {scene_id[:32]}", total=total, completed=done, unit=_UNITS[stage])
        return lambda steps: self._bars.advance(task, steps)

    def note(self, message: str) -> None:
        self._bars.console.print(message, highlight=False, markup=False)


class _Lines:
    def start(self, stage: str, scene_id: str, total: int, done: int) -> Advance:
        name = f"{stage} {scene_id}"
        found = f", {done} of them done already" if done else ""
        say(f"{name}: {total} {_UNITS[stage]}{found}", stage=stage, scene=scene_id)
        said_s = time.monotonic()

        def advance(steps: int) -> None:
            nonlocal done, said_s
            done += steps
            if time.monotonic() - said_s >= _LINE_EVERY_S:
                said_s = time.monotonic()
                say(f"{name}: {done} of {total}", stage=stage, scene=scene_id)

        return advance

    def note(self, message: str) -> None:
        say(message)


class _Counted:
    """Shows how far stages are in this process's metrics, too."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self.note = progress.note

    def start(self, stage: str, scene_id: str, total: int, done: int) -> Advance:
        advance = self._progress.start(stage, scene_id, total, done)
        show_steps(stage, scene_id, wanted=total, done=done)

        def counted(steps: int) -> None:
            nonlocal done
            done += steps
            show_steps(stage, scene_id, wanted=total, done=done)
            advance(steps)

        return counted
