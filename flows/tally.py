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


@dataclass(eq=False)
class Part:
    """A stage of one scene."""

    stage: str
    scene_id: str
    total: int
    found: int
    """Steps that were done before."""
    began_s: float
    done: int

    @property
    def unit(self) -> str:
        """What a step is."""
        return UNITS[self.stage]

    def rate(self, now_s: float) -> float | None:
        """Steps a second; None before there is one."""
        done = self.done - self.found
        return done / max(now_s - self.began_s, 1e-3) if done else None

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

    def begin(self, stage: str, scene_id: str, total: int, done: int) -> Part:
        """A stage of a scene begins, so that its earlier ones have ended."""
        with self._lock:
            for earlier in [part for part in self.running if part.scene_id == scene_id]:
                self._end(earlier)
            part = Part(stage, scene_id, total, done, self.clock(), done)
            self._parts.setdefault(scene_id, []).append(part)
            self.running.append(part)
            of_stage = self._stages.setdefault(stage, _Stage())
            if not of_stage.running:
                of_stage.since_s = part.began_s
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
            parts = [[part for part in parts if part.stage != "look"] for parts in self._parts.values()]
            totals = [(sum(p.done for p in ps), sum(p.found for p in ps), sum(p.total for p in ps)) for ps in parts]
            done = sum(d / total for d, _, total in totals if total)
            now = sum((d - found) / total for d, found, total in totals if total)
            empty = sum(bool(ps) and not total for ps, (_, _, total) in zip(parts, totals, strict=True))
        left = max(self.n_scenes - done - empty, 0.0)
        return left * (self.clock() - self.began_s) / now if now > 0 else None

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
    whole = math.ceil(seconds)
    if whole < 60:  # noqa: PLR2004 -- a minute
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"  # noqa: PLR2004
