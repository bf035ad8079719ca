"""Batches drawn beside the training: in worker processes where there are cores to spare, else in the training's own."""

from collections.abc import Callable, Iterator
from typing import Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

Batch = dict[str, Tensor]


class Draws(Protocol):
    """Draws one batch after another, for ever."""

    def draw(self) -> Batch:
        """The next batch."""


class _Endless(IterableDataset[Batch]):
    def __init__(self, make: Callable[[int], Draws]) -> None:
        self.make = make

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        if worker is not None:
            torch.set_num_threads(1)
        source = self.make(worker.id if worker else 0)
        while True:
            yield source.draw()


def supply(make: Callable[[int], Draws], workers: int, device: torch.device) -> Iterator[Batch]:
    """Batches on `device`, without end.

    Args:
        make: Gives what draws, by the number of its worker: each must draw other batches.
        workers: Processes beside this one; 0 draws in this one.
        device: Where the batches go.

    """
    on_gpu = device.type == "cuda"
    loader = DataLoader(
        _Endless(make), batch_size=None, num_workers=workers, pin_memory=on_gpu, prefetch_factor=4 if workers else None
    )
    for batch in loader:
        yield {key: value.to(device, non_blocking=on_gpu) for key, value in batch.items()}
