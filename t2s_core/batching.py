"""How much goes through a model at once: as much as memory allows, and less from when it did not."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch

from t2s_core.devices import free_bytes, is_out_of_memory

T = TypeVar("T")
R = TypeVar("R")
_SHARE = 0.7
"""Of free memory; the rest is for what the estimates leave out, and for fragments."""
_CPU_BYTES = 2**31


@dataclass(slots=True)
class BatchSize:
    """How many at once. Only ever shrinks; kept by a model, of which a process has one, so it is learnt once."""

    size: int

    def run(self, items: Sequence[T], work: Callable[[Sequence[T]], R]) -> Iterator[R]:
        """`work` on consecutive batches of items, in order; where memory runs out, on half of them, from then on.

        Raises:
            Exception: What `work` raised: any error other than memory, or memory that one item alone exhausts.

        """
        start = 0
        while start < len(items):
            part = items[start : start + self.size]
            try:
                done = work(part)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error) or len(part) == 1:
                    raise
                self.size = len(part) // 2
            else:
                start += len(part)
                yield done
                continue
            # Out here the error is gone, and with its traceback what the failed attempt held.
            if torch.cuda.is_initialized():
                torch.cuda.empty_cache()


def fitting(device: torch.device, *, bytes_each: int, most: int, on_cpu: int) -> int:
    """How many of something go through at once, at least 1: what fits into the free memory of a GPU, `most` at most.

    Powers of two: a little more or less free memory gives the same batches, and so the same numbers to the last bit.
    On a CPU more is no faster than what its caches hold, `on_cpu`; memory is what others want too, so a fixed 2 GiB.
    """
    if device.type != "cuda":
        return max(1, min(on_cpu, _CPU_BYTES // bytes_each))
    fits = min(most, int(_SHARE * free_bytes(device)) // bytes_each)
    return 1 << (max(1, fits).bit_length() - 1)
