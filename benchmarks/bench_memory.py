"""Peak memory of client (with scheduler) and worker, for scenes of growing area and a pair that finds nothing."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from distributed import Client, LocalCluster
from do_nothing import prepared, sparse_scene
from drawn import vm_hwm_mb

from pipeline.progress import Silent
from pipeline.region import run_region
from pipeline.work import DaskWorkers

LONG = True


def measure() -> dict[str, Any]:
    """`value`: the largest scene's peak over the smallest one's, of whichever process grows more."""
    sides = [int(s) for s in os.environ.get("T2S_BENCH_SIDES_PX", "4096,8192,16384,32768").split(",")]
    peaks = {side: _peaks(side) for side in sides}
    first, last = peaks[sides[0]], peaks[sides[-1]]
    return {
        "value": round(max(last[name] / first[name] for name in ("client_mb", "worker_mb")), 3),
        "unit": f"peak memory at {sides[-1]} px a side / at {sides[0]} px",
        "runs": 1,
        "details": {str(side): found for side, found in peaks.items()},
    }


def _peaks(side: int) -> dict[str, float]:
    done = subprocess.run([sys.executable, __file__, str(side)], check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main(side: int) -> None:
    """One run, in a process of its own: a peak cannot be taken back."""
    with (
        tempfile.TemporaryDirectory() as folder,
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None, memory_limit=0) as cluster,
        Client(cluster) as client,
    ):
        scene = sparse_scene(Path(folder) / "scene.tif", side)
        outcome = run_region(prepared(Path(folder), [scene]), DaskWorkers(client), Silent(), device="cpu")
        (worker_mb,) = client.run(vm_hwm_mb).values()
        timings = outcome.manifest["timings"]
    print(json.dumps({
        "client_mb": vm_hwm_mb(), "worker_mb": worker_mb, "tile_queries": outcome.computed, "wall_s": timings["wall_s"],
    }))  # fmt: skip


if __name__ == "__main__":
    main(int(sys.argv[1]))
