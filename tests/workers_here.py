"""Workers of a command that are the process itself: what a cluster does has tests of its own."""

from typing import Self

from pipeline.work import InProcess


class Here(InProcess):
    """Takes what `flows.workers.WorkersOnDemand` takes."""

    def __init__(self, *_: object) -> None: ...
    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...
