"""Processes that train one model together, each on its own GPU, as `accelerate launch` starts them; usually just one.

All of them take the same decisions and compute the same numbers; the main one alone writes and speaks.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import gather_object

T = TypeVar("T")


def join() -> PartialState:
    """Meet the others, once; from here on `cuda` is this process's own GPU."""
    return PartialState(cpu=not torch.cuda.is_available())


def how_many() -> int:
    """Processes that train together."""
    count: int = join().num_processes
    return count


def is_main() -> bool:
    """Whether this is the one that writes and speaks."""
    main: bool = join().is_main_process
    return main


@contextmanager
def main_first() -> Iterator[None]:
    """The main process does it before the others do, and lets them in where it fails, so that all fail alike."""
    state = join()
    if not state.is_main_process:
        state.wait_for_everyone()
    try:
        yield
    finally:
        if state.is_main_process:
            state.wait_for_everyone()


def from_all(value: T) -> list[T]:
    """Every process's value, in the same order for all of them. Every process must call."""
    gathered: list[T] = gather_object([value]) if how_many() > 1 else [value]
    return gathered


def agreed(value: T | None) -> T | None:
    """The first value that any process has: clocks may differ, decisions may not. Every process must call."""
    return next((one for one in from_all(value) if one is not None), None)
