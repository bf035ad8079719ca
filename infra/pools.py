"""Pools of workers that follow what a run has to do, between a least and a most.

Dask's own adaptive scaling knows one kind of worker. Here are two: workers with GPUs answer tiles, the others stitch
and vectorise, and neither should do the other's work.
"""

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

log = logging.getLogger(__name__)

PoolName = Literal["gpu", "cpu"]


class Strict(BaseModel):
    """Settings in which a misspelt key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Pool(Strict):
    """How many workers of a kind there are."""

    minimum: Annotated[int, Field(ge=0)] = 0
    """Kept while the run lasts; they cost while they wait."""
    maximum: Annotated[int, Field(ge=1)]
    """Asked for while more work is waiting than these can do."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.minimum > self.maximum:
            raise ValueError(f"minimum {self.minimum} is more than maximum {self.maximum}")
        return self


class Scaler:
    """Sizes pools by demand: more at once, fewer only after they were too many for a while."""

    def __init__(
        self,
        pools: Mapping[PoolName, Pool],
        scale: Callable[[PoolName, int], None],
        *,
        idle_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`scale(pool, n)` is called every time, from one thread at a time. `idle_s`: how long a surplus is kept."""
        self._pools, self._scale, self._idle_s, self._clock = pools, scale, idle_s, clock
        self._demand: dict[PoolName, float] = dict.fromkeys(pools, 0)
        self._size: dict[PoolName, int] = dict.fromkeys(pools, 0)
        self._surplus_since: dict[PoolName, float] = {}
        self._lock = threading.Lock()

    def want(self, pool: PoolName, n_items: float) -> None:
        """Told of how many items could be worked on at the same time; infinity where that is not known."""
        if pool in self._pools:
            self._demand[pool] = n_items

    def adjust(self) -> None:
        """Bring the pools to the size that demand asks for."""
        with self._lock:
            for name, pool in self._pools.items():
                demand = min(self._demand[name], pool.maximum)
                self._to(name, max(pool.minimum, math.ceil(demand)))

    def _to(self, name: PoolName, wanted: int) -> None:
        size = self._size[name]
        if wanted < size and self._clock() - self._surplus_since.setdefault(name, self._clock()) < self._idle_s:
            wanted = size
        else:
            self._surplus_since.pop(name, None)
        if wanted != size:
            log.info("%s workers: %d, before %d", name, wanted, size)
        self._scale(name, wanted)  # at the same size, too: where workers ended, others take their place
        self._size[name] = wanted

    @contextmanager
    def following(self, every_s: float = 1.0, *, passing: type[Exception]) -> Iterator[Callable[[], None]]:
        """Adjust in the background until the context is left.

        Args:
            every_s: How often.
            passing: Errors of `scale` that the next time may mend.

        Yields:
            A function that raises what else `scale` has raised since.

        """
        end, raised = threading.Event(), []

        def follow() -> None:
            while not end.wait(every_s):
                try:
                    self.adjust()
                except passing as error:
                    log.warning("workers could not be scaled: %s", " ".join(str(error).split())[:300])
                except Exception as error:  # noqa: BLE001 -- raised where the run waits for workers
                    raised.append(error)
                    return

        def check() -> None:
            if raised:
                raise raised[0]

        self.adjust()  # here, so that what cannot work at all is raised to whoever asks for the cluster
        thread = threading.Thread(target=follow, name="t2s-scaler", daemon=True)
        thread.start()
        try:
            yield check
        finally:
            end.set()
            thread.join()
