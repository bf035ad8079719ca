"""How a run tells whoever watches how far it is."""

from collections.abc import Callable
from typing import Protocol

Advance = Callable[[int], None]
"""Told of more steps that are finished."""


class Progress(Protocol):
    """Called from the threads that drive the run, several scenes at a time."""

    def expect(self, n_scenes: int) -> None:
        """So many scenes will go through their stages; where nobody says so, it is one."""
        ...

    def start(self, stage: str, scene_id: str, total: int, done: int) -> Advance:
        """A stage of a scene begins; `done` of its `total` steps were found finished."""
        ...

    def note(self, message: str) -> None:
        """Something a person should know."""
        ...


class Silent:
    """Tells nobody."""

    def expect(self, n_scenes: int) -> None:
        """See `Progress.expect`."""

    def start(self, stage: str, scene_id: str, total: int, done: int) -> Advance:  # noqa: ARG002
        """See `Progress.start`."""
        return lambda _: None

    def note(self, message: str) -> None:
        """See `Progress.note`."""
