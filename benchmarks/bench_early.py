"""How long GPUs wait for stitching when the last tile of a huge scene is answered: stitched at the end, or meanwhile.

One worker stands in for a GPU, whose models sleep and then draw the same three objects on every tile; another one has
no models. What counts is the stage of stitching, which begins when all is segmented.
"""

import logging
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import cloudpickle
from bench_overhead import BOXES, QUERIES, TILE_PX, Ellipses, SameReply, repeated
from distributed import Client, Nanny, Scheduler, SpecCluster

from pipeline import worker
from pipeline.demo import draw_scenes
from pipeline.manifest import RunStatus
from pipeline.prepare import prepare
from pipeline.progress import Silent
from pipeline.queries import parse_queries
from pipeline.region import run_region
from pipeline.spec import RunSpec
from pipeline.storage import Store
from pipeline.work import DaskWorkers
from t2s_core.engine import Engine
from t2s_core.ports import PromptRequest, RawReply
from t2s_core.registry import load_prompter, load_segmenter

LONG = True
SLEEP_S = 0.1
"""For a batch."""


class Together(DaskWorkers):
    """Workers of whom it is not known that models have some of their own."""

    models_apart = False


class SleepyReply(SameReply):
    """Takes its time and no processor, as one on a GPU does."""

    def reply(self, requests: Sequence[PromptRequest]) -> list[RawReply]:
        """See `Prompter.reply`."""
        time.sleep(SLEEP_S)
        return super().reply(requests)


def measure() -> dict[str, Any]:
    """Seconds of stitching after the last tile, without and with what is stitched before."""
    for name in (__name__, "bench_overhead"):
        cloudpickle.register_pickle_by_value(sys.modules[name])  # workers know nothing of this folder
    side = int(os.environ.get("T2S_BENCH_SIDE_PX", "16384"))
    with tempfile.TemporaryDirectory() as folder:
        drawn = Path(draw_scenes(Store.at(folder), seed=0, size_px=side // 4)[0])
        scene = repeated(drawn, Path(folder) / "large.tif")
        at_end, meanwhile = _run(scene, Together), _run(scene, DaskWorkers)
    return {
        "ratio": round(at_end["stitch_s"] / meanwhile["stitch_s"], 2),
        "unit": "seconds of stitching after the last tile: all at the end / what is left by then",
        "runs": 1,
        "details": {
            "side_px": side, "tile_px": TILE_PX, "sleep_s": SLEEP_S, "at_the_end": at_end, "meanwhile": meanwhile
        },
    }  # fmt: skip


def _run(scene: Path, workers: type[DaskWorkers]) -> dict[str, float]:
    spec = RunSpec(scenes=(str(scene),), queries=parse_queries(QUERIES[:1]), tile_px=TILE_PX)
    prompter, segmenter = load_prompter("bundled", device="cpu"), load_segmenter("bundled", device="cpu")
    sleepy = SleepyReply(prompter.version, prompter.profile, BOXES)
    options = {"nthreads": 1, "memory_limit": 0, "dashboard": False}
    spec_of = {
        "gpu": {"cls": Nanny, "options": {**options, "resources": {"GPU": 1}}},
        "cpu": {"cls": Nanny, "options": options},
    }
    scheduler = {"cls": Scheduler, "options": {"dashboard": False}}
    with (
        tempfile.TemporaryDirectory() as out,
        SpecCluster(workers=spec_of, scheduler=scheduler, silence_logs=logging.ERROR) as cluster,
        Client(cluster) as client,
    ):
        client.wait_for_workers(2)
        client.run(_sleep_from_now_on, sleepy, segmenter.version)
        outcome = run_region(prepare(spec, out), workers(client), Silent(), device="cpu")
    assert outcome.status is RunStatus.SUCCESS, outcome.manifest["counts"]
    timings = outcome.manifest["timings"]
    return {
        "segment_s": round(timings["stages_s"]["segment"], 2),
        "stitch_s": round(timings["stages_s"]["stitch"], 2),
        "wall_s": round(timings["wall_s"], 2),
    }


def _sleep_from_now_on(prompter: SleepyReply, segmenter_version: str) -> None:
    """In a worker's process."""
    engine = Engine(prompter, Ellipses(segmenter_version))  # type: ignore[arg-type]
    worker._engine = lru_cache(lambda *_: engine)  # type: ignore[assignment]  # noqa: SLF001


if __name__ == "__main__":
    print(measure())
