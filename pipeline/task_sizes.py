"""How many batches make a Dask task: enough for some seconds of work, few enough that all workers end together."""

from collections.abc import Callable, Sequence

from pipeline.worker import BatchReceipt

_TARGET_S = 5.0
"""A scheduler's milliseconds vanish in it, and a task that dies with its worker is soon made up for."""
_MOST_TILE_QUERIES = 1024
"""What is at work lies in the memory of client and scheduler, a few hundred bytes each, some tasks for each worker."""
_SHARE = 2
"""Tasks that every worker shall still get of what is left, so that none works on a large last one alone."""


class TaskSizes:
    """Follows what batches take. Sizes change speed alone: batches are fixed by the plan and committed one by one."""

    def __init__(self, n_batches: int, threads: Callable[[], int], *, tile_queries: int = 1) -> None:
        """`n_batches`: about how many there are, of `tile_queries` each. `threads`: tasks at a time, just now."""
        self._left, self._threads = n_batches, threads
        self._most = max(1, _MOST_TILE_QUERIES // tile_queries)
        self._batch_s: float | None = None

    def next(self) -> int:
        """Batches of the next task; one until it is known how long one takes."""
        n = 1
        if self._batch_s is not None:
            n = min(int(_TARGET_S / max(self._batch_s, 1e-6)), self._left // (_SHARE * self._threads()), self._most)
            n = max(1, n)
        self._left = max(0, self._left - n)
        return n

    def took(self, receipts: Sequence[BatchReceipt]) -> None:
        """Learn from a finished task. Loading models is left out: it happens once."""
        batch_s = sum(receipt.wall_s - receipt.load_s for receipt in receipts) / len(receipts)
        self._batch_s = batch_s if self._batch_s is None else (self._batch_s + batch_s) / 2
