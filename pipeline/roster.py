"""Which Dask workers are connected, and which of them an item may go to."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from distributed import Client

GPU = "GPU"
"""The Dask resource of a worker that has a GPU to itself."""


@dataclass(frozen=True)
class Roster:
    """The workers that are connected at a moment."""

    gpus: Mapping[str, int]
    """By address: models that a worker with GPUs runs at the same time."""
    threads: Mapping[str, int]
    """By address, of every worker."""

    @classmethod
    def of(cls, client: Client) -> Self:
        """Those of a client's scheduler. Raises `OSError` where it is lost."""
        workers: Mapping[str, Any] = client.scheduler_info(n_workers=-1)["workers"]
        gpus = {address: int(worker["resources"].get(GPU, 0)) for address, worker in workers.items()}
        return cls(
            {address: n for address, n in gpus.items() if n},
            {address: worker["nthreads"] for address, worker in workers.items()},
        )

    @property
    def others(self) -> dict[str, int]:
        """Threads of the workers without a GPU."""
        return {address: n for address, n in self.threads.items() if address not in self.gpus}

    def slots(self, *, gpu: bool) -> int:
        """Items that these workers take at the same time: such that want a GPU, or others."""
        return sum(self.gpus.values()) if gpu else sum((self.others or self.threads).values())

    def where(self, *, gpu: bool) -> dict[str, Any]:
        """How `Client.submit` is told where an item may go. What wants no GPU keeps off them where it can."""
        if gpu:
            return {"resources": {GPU: 1}}
        return {"workers": list(self.others)} if self.gpus and self.others else {}
