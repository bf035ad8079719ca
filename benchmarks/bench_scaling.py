"""How much of N workers' time the models get, with engines that sleep like a GPU: N threads, eight to a process.

Tiles are small, for all workers read and write on this one machine: what is asked is what the driver, the scheduler and
the hand-over of work cost. `bench_overhead` tells what reading and writing do.
"""

import os
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import nullcontext
from functools import lru_cache
from pathlib import Path
from typing import Any

import cloudpickle
from distributed import Client, LocalCluster
from do_nothing import prepared, sparse_scene

from pipeline import worker
from pipeline.committed import committed
from pipeline.prepare import plan_scenes
from pipeline.progress import Silent
from pipeline.stages import RunContext, segment_scene
from pipeline.work import DaskWorkers, InProcess
from t2s_core.engine import Engine
from t2s_core.ports import PromptRequest, RawReply
from t2s_core.prompters.recorded import RecordedPrompter
from t2s_core.registry import load_prompter

LONG = True
HEADLINE = 16
SLEEP_S, BATCHES_PER_WORKER, TILE_PX, OVERLAP_PX, BATCH_TILES = 0.5, 80, 64, 16, 8
THREADS = 8
"""Of a process, at most."""


class Sleeper:
    """A prompter that takes its time and no processor, as one on a GPU does."""

    def __init__(self, inner: RecordedPrompter) -> None:
        self.version, self.profile, self._inner = inner.version, inner.profile, inner

    def reply(self, requests: Sequence[PromptRequest]) -> list[RawReply]:
        """See `Prompter.reply`."""
        time.sleep(SLEEP_S)
        return self._inner.reply(requests)


def measure() -> dict[str, Any]:
    """Efficiency: batches that were answered, times their sleep, over the time of all workers together."""
    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers know nothing of this folder
    counts = [int(n) for n in os.environ.get("T2S_BENCH_WORKERS", "1,4,16,64").split(",")]
    found = {n: _efficiency(n) for n in counts}
    headline = HEADLINE if HEADLINE in found else counts[-1]
    return {
        "ratio": found[headline]["efficiency"],
        "unit": f"time in models / time of {headline} workers",
        "runs": 1,
        "details": {
            "sleep_s": SLEEP_S, "batch_tiles": BATCH_TILES, "tile_px": TILE_PX,
            **{f"workers_{n}": entry for n, entry in found.items()},
        },
    }  # fmt: skip


def _efficiency(n_workers: int) -> dict[str, float]:
    stride, n_processes = TILE_PX - OVERLAP_PX, -(-n_workers // THREADS)
    width, height = (n * stride + OVERLAP_PX for n in (n_workers * BATCH_TILES, BATCHES_PER_WORKER))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scene = sparse_scene(folder / "scene.tif", width, height)
        ready = prepared(folder, [scene], tile_px=TILE_PX, overlap_px=OVERLAP_PX, batch_tiles=BATCH_TILES)
        (plan,) = plan_scenes(ready, {}, InProcess())
        context = RunContext(ready.store, ready.spec, "r", "", device="cpu")
        state = committed(ready.store, plan, ready.spec.queries)
        with (
            LocalCluster(
                n_workers=n_processes,
                threads_per_worker=n_workers // n_processes,
                dashboard_address=None,
                memory_limit=0,
            ) as cluster,
            Client(cluster) as client,
        ):
            client.wait_for_workers(n_processes)
            client.run(_sleep_from_now_on, ready.spec.models.prompter, ready.versions.segmenter)
            start_s = time.perf_counter()
            receipt = segment_scene(plan, state, context, DaskWorkers(client), Silent())
            wall_s = time.perf_counter() - start_s
    n_batches = receipt.computed // BATCH_TILES
    assert n_batches == n_workers * BATCHES_PER_WORKER, n_batches
    return {
        "efficiency": round(n_batches * SLEEP_S / (n_workers * wall_s), 4),
        "processes": n_processes,
        "batches": n_batches,
        "wall_s": round(wall_s, 2),
    }


def _sleep_from_now_on(prompter: str, segmenter_version: str) -> None:
    """In a worker's process: a thread is a worker here, with a GPU of its own that no other waits for."""
    engine = Engine(Sleeper(load_prompter(prompter, device="cpu")), _Segmenter(segmenter_version))  # type: ignore[arg-type]
    worker._engine = lru_cache(lambda *_: engine)  # type: ignore[assignment]  # noqa: SLF001
    worker._TURNS = nullcontext()  # type: ignore[assignment]  # noqa: SLF001


class _Segmenter:
    def __init__(self, version: str) -> None:
        self.version = version


if __name__ == "__main__":
    print(measure())
