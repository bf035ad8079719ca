"""How a run tells whoever watches how far it is."""

from typing import Protocol


class Progress(Protocol):
    """Called from the thread that drives the run."""

    def start(self, stage: str, scene_id: str, total: int, done: int) -> None:
        """A stage of a scene begins; `done` of its `total` steps were found finished."""
        ...

    def advance(self, steps: int) -> None:
        """More steps of the current stage are finished."""
        ...

    def note(self, message: str) -> None:
        """Something a person should know."""
        ...


class Silent:
    """Tells nobody."""

    def start(self, stage: str, scene_id: str, total: int, done: int) -> None:
        """See `Progress.start`."""

    def advance(self, steps: int) -> None:
        """See `Progress.advance`."""

    def note(self, message: str) -> None:
        """See `Progress.note`."""
