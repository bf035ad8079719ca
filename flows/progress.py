"""Progress of a command on stderr: bars for a person at a terminal, plain lines for a log file."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console, RenderableType
from rich.constrain import Constrain
from rich.progress import BarColumn, ProgressColumn, Task, TaskID, TextColumn
from rich.progress import Progress as RichProgress
from rich.table import Column
from rich.text import Text

from flows.tally import Part, Tally, duration
from flows.voice import say, wants_records
from pipeline.metrics import show_steps
from pipeline.progress import Advance, Progress

_FIRST_EVERY_S, _SHARE, _LAST_EVERY_S = 15.0, 0.05, 300.0
"""Seconds between two lines of a log: as much of the time so far, between these two. Ten hours are 180 lines."""
_MOST_NAMED = 3
"""Stages at work that a line of a log names."""
_NAME_WIDTH = 20


@contextmanager
def progress_for() -> Iterator[Progress]:
    """Bars where stderr is a terminal that can draw them, else lines with the time. stdout stays free for the answer.

    At the end a line says what each stage did. Where logs are JSON, lines are records of them.
    """
    console = Console(stderr=True)
    if wants_records():
        shown: _Lines | _Bars = _Records()
    elif sys.stderr.isatty() and console.is_interactive:
        shown = _Bars(console)
    else:
        shown = _Lines(_say_with_time)
    try:
        yield _Counted(shown)
    finally:
        shown.end()


class Both:
    """Tells two who watch."""

    def __init__(self, one: Progress, other: Progress) -> None:
        """Args: who is told, in this order."""
        self._one, self._other = one, other

    def expect(self, n_scenes: int) -> None:
        """See `Progress.expect`."""
        self._one.expect(n_scenes)
        self._other.expect(n_scenes)

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


class _Bars:
    """A bar for each stage that is at work, gone when it is done, and one for the scenes where there are several."""

    def __init__(self, console: Console) -> None:
        self._tally = Tally()
        self._bars = _Narrow(
            TextColumn("{task.description}", table_column=Column(no_wrap=True)),
            BarColumn(bar_width=None, table_column=Column(ratio=1, max_width=40)),
            _Said(table_column=Column(no_wrap=True)),
            console=console,
            transient=True,
            refresh_per_second=4,
            redirect_stdout=False,  # what goes there is the command's answer
        )
        self._tasks: dict[Part, TaskID] = {}
        self._scenes: TaskID | None = None
        self._lock = threading.Lock()
        self._bars.start()

    def expect(self, n_scenes: int) -> None:
        self._tally.n_scenes = n_scenes
        if n_scenes > 1:
            self._scenes = self._bars.add_task("scenes", total=n_scenes, said=self._of_scenes)

    def start(self, stage: str, scene_id: str, total: int, done: int) -> Advance:
        part = self._tally.begin(stage, scene_id, total, done)
        with self._lock:
            name = _shortened(scene_id)
            self._tasks[part] = self._bars.add_task(
                f"{stage:<9} {name}", total=max(total, 1), completed=done, said=lambda: self._of_part(part)
            )
        self._tidy()

        def advance(steps: int) -> None:
            self._tally.advance(part, steps)
            self._tidy()

        return advance

    def note(self, message: str) -> None:
        self._bars.console.print(message, highlight=False, markup=False, soft_wrap=True)

    def end(self) -> None:
        said = self._tally.summary()
        self._bars.stop()
        if said:
            self.note(said)

    def _tidy(self) -> None:
        with self._lock:
            for part, task in list(self._tasks.items()):
                if part in self._tally.running:
                    self._bars.update(task, completed=part.done)
                else:
                    self._bars.remove_task(task)
                    del self._tasks[part]
            if self._scenes is not None:
                self._bars.update(self._scenes, completed=self._tally.n_scenes_done)

    def _of_part(self, part: Part) -> str:
        rate = part.rate(self._tally.clock())
        left = "" if not rate else f" {rate:.1f}/s, {duration((part.total - part.done) / rate)}"
        return f"{part.done:,}/{part.total:,} {part.unit}{left}"

    def _of_scenes(self) -> str:
        left_s, done, of = self._tally.left_s(), self._tally.n_scenes_done, self._tally.n_scenes
        left = ", finishing" if done == of else "" if left_s is None else f", {duration(left_s)} left"
        return f"{done:,}/{of:,} done{left}"


class _Narrow(RichProgress):
    def __init__(self, *columns: ProgressColumn, console: Console, **options: Any) -> None:  # noqa: ANN401 -- rich's
        self._shown_on = console
        super().__init__(*columns, console=console, **options)

    def get_renderables(self) -> Iterator[RenderableType]:
        # Room for the ^C that a terminal echoes: beyond the last column it would begin a line that nobody erases.
        yield Constrain(self.make_tasks_table(self.tasks), self._shown_on.width - len("^C") - 1)


class _Said(ProgressColumn):
    """What the task itself says at this moment."""

    def render(self, task: Task) -> Text:
        return Text(task.fields["said"](), style="progress.remaining", no_wrap=True, overflow="ellipsis")


class _Lines:
    """A line at the start, then one in a while, and one at the end."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say, self._tally = say, Tally()
        self._lock = threading.Lock()
        self._next_s = self._tally.began_s

    def expect(self, n_scenes: int) -> None:
        self._tally.n_scenes = n_scenes

    def start(self, stage: str, scene_id: str, total: int, done: int) -> Advance:
        part = self._tally.begin(stage, scene_id, total, done)
        self._begins(part)

        def advance(steps: int) -> None:
            self._tally.advance(part, steps)
            self._tell()

        return advance

    def _begins(self, _: Part) -> None:
        self._tell()

    def note(self, message: str) -> None:
        self._say(message)

    def end(self) -> None:
        said = self._tally.summary()
        if said:
            self._say(said)

    def _tell(self) -> None:
        with self._lock:
            now_s = self._tally.clock()
            running = list(self._tally.running)
            if now_s < self._next_s or not running:
                return
            so_far_s = now_s - self._tally.began_s
            self._next_s = now_s + min(max(_FIRST_EVERY_S, _SHARE * so_far_s), _LAST_EVERY_S)
            said = "; ".join(map(str, running[:_MOST_NAMED]))
            if self._tally.n_scenes > 1:
                said += f"; {self._tally.n_scenes_done:,} of {self._tally.n_scenes:,} scenes are done"
            left_s = self._tally.left_s()
            self._say(said if left_s is None else f"{said}; about {duration(left_s)} left")


class _Records(_Lines):
    """The same as records, and one more for each stage of a scene that begins, which programs sort by its facts."""

    def __init__(self) -> None:
        super().__init__(say)
        self._next_s += _FIRST_EVERY_S

    def _begins(self, part: Part) -> None:
        say(str(part), stage=part.stage, scene=part.scene_id)


def _shortened(name: str) -> str:
    """Cut in its middle: scenes of one region often begin alike."""
    if len(name) <= _NAME_WIDTH:
        return name
    half = (_NAME_WIDTH - 1) // 2
    return f"{name[:half]}…{name[-(_NAME_WIDTH - 1 - half) :]}"


def _say_with_time(message: str) -> None:
    say(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {message}")


class _Counted:
    """Shows how far stages are in this process's metrics, too."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self.expect, self.note = progress.expect, progress.note

    def start(self, stage: str, scene_id: str, total: int, done: int) -> Advance:
        advance = self._progress.start(stage, scene_id, total, done)
        show_steps(stage, scene_id, wanted=total, done=done)

        def counted(steps: int) -> None:
            nonlocal done
            done += steps
            show_steps(stage, scene_id, wanted=total, done=done)
            advance(steps)

        return counted
