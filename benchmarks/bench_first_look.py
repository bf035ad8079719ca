"""What the first look saves and what it loses: demo regions with the bundled pair, with it and without."""

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.demo import demo_queries, draw_scenes, score_demo
from pipeline.prepare import prepare
from pipeline.progress import Silent
from pipeline.region import run_region
from pipeline.results import read_index
from pipeline.spec import RunSpec
from pipeline.storage import Store
from pipeline.work import InProcess

LONG = True
FACTORS, SEEDS = (2, 4), (101, 102, 103)


def measure() -> dict[str, Any]:
    """`value`: at factor 2, the share of the tile-queries with a target that are still asked."""
    size_px = int(os.environ.get("T2S_BENCH_SIDE_PX", "1024"))
    plain = [_run(seed, size_px, None) for seed in SEEDS]
    looked = {factor: [_run(seed, size_px, factor) for seed in SEEDS] for factor in FACTORS}
    return {
        "value": _against(plain, looked[FACTORS[0]])["recall"],
        "unit": "tile-queries with a target that are still asked / all of them",
        "runs": len(SEEDS),
        "details": {
            "side_px": size_px,
            "without": _mean(plain),
            **{f"first_look_{f}": {**_mean(runs), **_against(plain, runs)} for f, runs in looked.items()},
        },
    }


@dataclass(frozen=True)
class Run:
    """What a region came to."""

    status: Mapping[tuple[str, int, int, str], str]
    """By scene, row, column and query, of the finest level."""
    scores: Mapping[str, float]


def _run(seed: int, size_px: int, factor: int | None) -> Run:
    # from an empty directory: answers that are there already are taken, whatever a look says
    with tempfile.TemporaryDirectory() as folder:
        store = Store.at(folder)
        scenes = tuple(draw_scenes(store, seed=seed, size_px=size_px))
        spec = RunSpec(scenes=scenes, queries=demo_queries(), first_look=factor)
        manifest = run_region(prepare(spec, store.url), InProcess(), Silent(), device="cpu").manifest
        found = score_demo(store, manifest, seconds=manifest["timings"]["wall_s"])
        status = {}
        for scene in manifest["scenes"]:
            index = read_index(store, store.names(f"tiles/{scene['scene_id']}/1", ".parquet"))[0].to_pylist()
            status |= {(scene["scene_id"], r["row"], r["col"], r["query_id"]): r["status"] for r in index}
    workers_s = manifest["timings"]["workers_s"]
    scores = {name: found[name] for name in ("giou", "precision", "no_target_accuracy")}
    return Run(status, {**scores, "models_s": sum(workers_s[k] for k in ("prompting", "encoding", "decoding"))})


def _mean(runs: Sequence[Run]) -> dict[str, float]:
    return {name: round(sum(run.scores[name] for run in runs) / len(runs), 4) for name in runs[0].scores}


def _against(plain: Sequence[Run], looked: Sequence[Run]) -> dict[str, float]:
    runs = list(zip(plain, looked, strict=True))
    pairs = [(status, run.status[key]) for one, run in runs for key, status in one.status.items()]
    with_target = [after for before, after in pairs if before == "ok"]
    return {
        "recall": round(1 - with_target.count("skipped_irrelevant") / len(with_target), 4),
        "skipped": round(sum(after == "skipped_irrelevant" for _, after in pairs) / len(pairs), 4),
    }
