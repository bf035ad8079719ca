"""How far a command is, as its stages tell: what is at work, the share that is done, and what is left."""

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

UNITS = {
    "look": "tile-queries",
    "segment": "tile-queries",
    "stitch": "mosaics",
    "vectorise": "layers",
    "publish": "layers",
    "evaluate": "samples",
    "curate": "windows",
    "validate": "looks",
}
"""What the steps of a stage are."""
_LAST = ("publish", "evaluate", "curate", "validate")
"""Stages that no other follows."""


class Pace:
    """How fast something grows, by what came after the first wave: before that, workers start and load their models.

    The first wave is what comes with the first of it or soon after, for several workers begin together.
    """

    def __init__(self, began_s: float) -> None:
        """Nothing has come yet."""
        self._began_s = self._since_s = began_s
        self._wave_ends_s: float | None = None
        self._first = 0.0

    def came(self, amount: float, now_s: float) -> None:
        """So much is there by now."""
        if self._wave_ends_s is None:
            self._wave_ends_s = now_s + 1 + (now_s - self._began_s) / 20
        if now_s <= self._wave_ends_s:
            self._first, self._since_s = amount, now_s

    def a_second(self, amount: float, now_s: float) -> float | None:
        """None where nothing tells yet. `amount`: what is there by now."""
        if self._wave_ends_s is None or amount <= self._first:
            return None
        return (amount - self._first) / max(now_s - self._since_s, 1e-3)


@dataclass(eq=False)
class Part:
    """A stage of one scene."""

    stage: str
    scene_id: str
    total: int
    found: int
    """Steps that were done before."""
    pace: Pace
    done: int

    @property
    def unit(self) -> str:
        """What a step is."""
        return UNITS[self.stage]

    def rate(self, now_s: float) -> float | None:
        """Steps a second; None where nothing tells yet."""
        return self.pace.a_second(self.done, now_s)

    def __str__(self) -> str:
        return f"{self.stage} {self.scene_id}: {self.done:,} of {self.total:,} {self.unit}"


@dataclass
class _Stage:
    """All parts of one stage together."""

    done: int = 0
    found: int = 0
    total: int = 0
    running: int = 0
    since_s: float = 0.0
    busy_s: float = 0.0
    """While at least one part of it ran."""


@dataclass
class Tally:
    """Counts what it is told. Several threads may tell it."""

    clock: Callable[[], float] = time.monotonic
    n_scenes: int = 1
    running: list[Part] = field(default_factory=list)
    _parts: dict[str, list[Part]] = field(default_factory=dict)
    _stages: dict[str, _Stage] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def __post_init__(self) -> None:
        """The time that is left is counted from here on."""
        self.began_s = self.clock()
        self._pace = Pace(self.began_s)

    def begin(self, stage: str, scene_id: str, total: int, done: int) -> Part:
        """A stage of a scene begins, so that its earlier ones have ended."""
        with self._lock:
            for earlier in [part for part in self.running if part.scene_id == scene_id]:
                self._end(earlier)
            now_s = self.clock()
            part = Part(stage, scene_id, total, done, Pace(now_s), done)
            self._parts.setdefault(scene_id, []).append(part)
            self.running.append(part)
            of_stage = self._stages.setdefault(stage, _Stage())
            if not of_stage.running:
                of_stage.since_s = now_s
            of_stage.running += 1
            of_stage.total += total
            of_stage.done += done
            of_stage.found += done
            if done >= total:
                self._end(part)
            return part

    def advance(self, part: Part, steps: int) -> None:
        """More steps of it are done."""
        with self._lock:
            part.done += steps
            now_s = self.clock()
            part.pace.came(part.done, now_s)
            self._pace.came(self._shares()[1], now_s)
            self._stages[part.stage].done += steps
            if part.done >= part.total:
                self._end(part)

    def finish(self) -> None:
        """Nothing is at work any more."""
        with self._lock:
            for part in list(self.running):
                self._end(part)

    @property
    def n_scenes_done(self) -> int:
        """Scenes that are through their last stage."""
        with self._lock:
            last = [parts[-1] for parts in self._parts.values()]
            return sum(part.stage in _LAST and part.done >= part.total for part in last)

    def left_s(self) -> float | None:
        """Seconds until all scenes are done if they go on as so far; None where nothing tells yet.

        Scenes count alike, and of each the steps of all stages that it has begun; a first look is not counted.
        """
        with self._lock:
            done, by_this, empty = self._shares()
            pace = self._pace.a_second(by_this, self.clock())
        return max(self.n_scenes - done - empty, 0.0) / pace if pace else None

    def _shares(self) -> tuple[float, float, int]:
        """In scenes: what is done, what of it this command did, and scenes in which there is nothing to do."""
        done = by_this = 0.0
        empty = 0
        for every in self._parts.values():
            parts = [part for part in every if part.stage != "look"]
            total = sum(part.total for part in parts)
            if total:
                done += sum(part.done for part in parts) / total
                by_this += sum(part.done - part.found for part in parts) / total
            else:
                empty += bool(parts)
        return done, by_this, empty

    def summary(self) -> str:
        """What each stage did and how long at least one scene was at it; empty where nothing was done."""
        with self._lock:
            now_s = self.clock()
            said = []
            for name, stage in self._stages.items():
                seconds = stage.busy_s + (now_s - stage.since_s if stage.running else 0.0)
                of = "" if stage.done >= stage.total else f" of {stage.total:,}"
                before = f" ({stage.found:,} of them before)" if stage.found else ""
                said.append(f"{name} {stage.done:,}{of} {UNITS[name]}{before} in {duration(seconds)}")
            return ", ".join(said)

    def _end(self, part: Part) -> None:
        if part in self.running:
            self.running.remove(part)
            of_stage = self._stages[part.stage]
            of_stage.running -= 1
            if not of_stage.running:
                of_stage.busy_s += self.clock() - of_stage.since_s


def duration(seconds: float) -> str:
    """As people say it: 12 s, 3 min 20 s, 2 h 05 min."""
    whole = math.ceil(seconds - 1e-6)  # a rounding error is no second
    if whole < 60:  # noqa: PLR2004 -- a minute
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"  # noqa: PLR2004
