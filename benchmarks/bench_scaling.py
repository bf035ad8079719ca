"""How much of N workers' time the models get, with engines that sleep like a GPU: N threads of one process.

Tiles are small, for all workers read and write on this one machine, in one interpreter: what is asked is what the
driver, the scheduler and the hand-over of work cost. `bench_overhead` tells what reading and writing do.
"""

import os
import tempfile
import time
from collections.abc import Sequence
from contextlib import nullcontext
from functools import lru_cache
from pathlib import Path
from typing import Any
from unittest import mock

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
SLEEP_S, BATCHES_PER_WORKER, TILE_PX, OVERLAP_PX, BATCH_TILES = 0.5, 40, 64, 16, 8


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
    stride = TILE_PX - OVERLAP_PX
    side_tiles = int((n_workers * BATCHES_PER_WORKER * BATCH_TILES) ** 0.5)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scene = sparse_scene(folder / "scene.tif", side_tiles * stride + OVERLAP_PX)
        ready = prepared(folder, [scene], tile_px=TILE_PX, overlap_px=OVERLAP_PX, batch_tiles=BATCH_TILES)
        (plan,) = plan_scenes(ready, {}, InProcess())
        prompter = load_prompter(ready.spec.models.prompter, device="cpu")
        engine = Engine(Sleeper(prompter), _Segmenter(ready.versions.segmenter))  # type: ignore[arg-type]
        context = RunContext(ready.store, ready.spec, "r", "", device="cpu")
        state = committed(ready.store, plan, ready.spec.queries)
        with (
            mock.patch.object(worker, "_engine", lru_cache(lambda *_: engine)),
            mock.patch.object(worker, "_TURNS", nullcontext()),  # a thread is a worker here, with its own models
            LocalCluster(
                n_workers=n_workers, threads_per_worker=1, processes=False, dashboard_address=None, memory_limit=0
            ) as cluster,
            Client(cluster) as client,
        ):
            start_s = time.perf_counter()
            receipt = segment_scene(plan, state, context, DaskWorkers(client), Silent())
            wall_s = time.perf_counter() - start_s
    n_batches = -(-receipt.computed // BATCH_TILES)
    return {
        "efficiency": round(n_batches * SLEEP_S / (n_workers * wall_s), 4),
        "batches": n_batches,
        "wall_s": round(wall_s, 2),
    }


class _Segmenter:
    def __init__(self, version: str) -> None:
        self.version = version


if __name__ == "__main__":
    print(measure())
