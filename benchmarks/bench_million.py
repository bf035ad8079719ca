"""A million tiles planned; 100,000 tile-queries of a pair that finds nothing, through Dask: time and memory."""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from do_nothing import prepared, sparse_scene
from drawn import rss_mb, vm_hwm_mb

from infra.cluster import cluster_for
from pipeline.estimate import estimate
from pipeline.normalise import IDENTITY
from pipeline.plan import nothing
from pipeline.prepare import scene_plan
from pipeline.progress import Silent
from pipeline.region import run_region
from pipeline.work import DaskWorkers

LONG = True
SCENES, TILE_PX = 16, 256
SMALL_TILE_PX, SMALL_OVERLAP_PX = 64, 32
EVERY_S, TENTH = 0.5, 0.1


def measure() -> dict[str, Any]:
    """`value`: seconds from a list of scenes to what `t2s plan` says of it."""
    planned, run = _alone("plan"), _alone("run")
    return {
        "value": planned["plan_s"],
        "unit": f"seconds to plan {planned['tiles']} tiles",
        "runs": 1,
        "details": {"plan": planned, "run": run},
    }


def plan() -> dict[str, float]:
    """Headers read and tiles counted, as `t2s plan` does; then every batch with all its keys, as a run goes through."""
    n = int(os.environ.get("T2S_BENCH_TILES", "1000000"))
    side_tiles = int((n / SCENES) ** 0.5)
    side_px = side_tiles * TILE_PX * 3 // 4 + TILE_PX // 4
    with tempfile.TemporaryDirectory() as folder:
        scenes = [sparse_scene(Path(folder) / f"scene-{i}.tif", side_px) for i in range(SCENES)]
        start_s = time.perf_counter()
        ready = prepared(Path(folder), scenes, tile_px=TILE_PX)
        tiles = estimate(ready)["tiles"]
        plan_s = time.perf_counter() - start_s
        plan_mb = vm_hwm_mb()
        start_s = time.perf_counter()
        batches = 0
        for scene in ready.scenes:
            of_scene = scene_plan(ready, scene, IDENTITY, "").batches(ready.spec.queries, nothing, 8)
            batches += sum(1 for _ in of_scene)
        batches_s = time.perf_counter() - start_s
    return {
        "tiles": tiles, "plan_s": round(plan_s, 2), "plan_peak_mb": plan_mb, "batches": batches,
        "batches_s": round(batches_s, 2), "batches_peak_mb": vm_hwm_mb(),
    }  # fmt: skip


def run() -> dict[str, Any]:
    """A whole run. Memory of client and scheduler, which share a process here, while tile-queries are answered."""
    n = int(os.environ.get("T2S_BENCH_TILE_QUERIES", "100000"))
    side_px = int(n**0.5) * (SMALL_TILE_PX - SMALL_OVERLAP_PX) + SMALL_OVERLAP_PX
    with (
        tempfile.TemporaryDirectory() as folder,
        cluster_for("local") as cluster,
    ):
        scene = sparse_scene(Path(folder) / "scene.tif", side_px)
        ready = prepared(Path(folder), [scene], tile_px=SMALL_TILE_PX, overlap_px=SMALL_OVERLAP_PX)
        watch = _Watch()
        outcome = run_region(ready, DaskWorkers(cluster.client), watch, device="cpu")
        workers_mb = cluster.client.run(vm_hwm_mb)
    tenth, rest = watch.peaks_mb()
    timings = outcome.manifest["timings"]
    return {
        "tile_queries": outcome.computed, "status": outcome.status.value, "wall_s": timings["wall_s"],
        "ms_per_tile_query_and_worker": round(timings["busy_s"]["segment"] / outcome.computed * 1000, 3),
        "client_mb_first_tenth": tenth, "client_mb_rest": rest, "growth": round(rest / tenth, 3),
        "client_peak_mb": vm_hwm_mb(), "workers_peak_mb": sorted(workers_mb.values()),
    }  # fmt: skip


class _Watch(Silent):
    """Progress that looks at this process's memory while tile-queries are answered."""

    def __init__(self) -> None:
        self._total, self._done, self._seen = 1, 0, [(0.0, rss_mb())]

    def start(self, stage: str, scene_id: str, total: int, done: int) -> Any:  # noqa: ANN401, ARG002
        """See `Progress.start`."""
        if stage != "segment":
            return lambda _: None
        self._total, at_work = total, threading.Event()

        def look() -> None:
            while not at_work.wait(EVERY_S):
                self._seen.append((self._done / self._total, rss_mb()))

        threading.Thread(target=look, daemon=True).start()

        def advance(steps: int) -> None:
            self._done += steps
            if self._done >= self._total:
                at_work.set()

        return advance

    def peaks_mb(self) -> tuple[float, float]:
        """In the first tenth and in the rest."""
        first, rest = ([mb for share, mb in self._seen if (share <= TENTH) is early] for early in (True, False))
        return max(first), max(rest)


def _alone(what: str) -> dict[str, Any]:
    done = subprocess.run([sys.executable, __file__, what], check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    print(json.dumps({"plan": plan, "run": run}[sys.argv[1]]()))
