"""Where a run's time went, for run.json."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.geodesy import area_m2
from pipeline.scenes import Scene
from pipeline.stages import StageReceipt
from t2s_core.errors import BadInput

_SEGMENTING = ("loading", "reading", "prompting", "encoding", "decoding", "writing")


def timings(receipts: Sequence[StageReceipt], scenes: Sequence[Scene], wall_s: float) -> dict[str, Any]:
    """Of an invocation whose stages took `wall_s` seconds altogether.

    `stages_s`: how long each stage took, summed over scenes; scenes that run side by side sum to more than the clock.
    `workers_s`: seconds of all workers together. What segmenting consists of (`loading` models, `reading`, `prompting`,
    `encoding`, `decoding`, `writing`; reading and writing go on beside the models), then `stitching`, `vectorising` and
    `publishing`, and `idle`, in which workers had nothing to do: what is left of the clock times the workers, and
    where models waited for pixels or for commits. `busy_s`: by stage, seconds in which workers were at work.
    `stitched_mpx`: megapixels of the mosaics that were made, over all queries. Rates are by the clock: tiles,
    tile-queries and ground (of all queries together) that were computed.
    """
    stages: Counter[str] = Counter()
    busy: Counter[str] = Counter()
    parts: Counter[str] = Counter(dict.fromkeys(_SEGMENTING, 0))
    workers: set[str] = set()
    for receipt in receipts:
        stages[receipt.stage] += receipt.seconds  # type: ignore[assignment]  # Counter adds floats as well
        busy[receipt.stage] += receipt.busy_s  # type: ignore[assignment]
        workers |= receipt.workers
        parts.update(receipt.details.get("worker_seconds", {}))
    shown = {
        **{name: parts[name] for name in _SEGMENTING},
        "stitching": busy["stitch"],
        "vectorising": busy["vectorise"],
        "publishing": busy["publish"],
        "idle": max(0.0, len(workers) * wall_s - sum(busy.values())) + parts["waiting"],
    }
    return {
        "stages_s": _rounded(stages),
        "workers_s": _rounded(shown),
        "busy_s": _rounded(busy),
        "n_workers": len(workers),
        "stitched_mpx": round(_stitched_mpx(receipts, scenes), 3),
        **_rates(receipts, scenes, wall_s),
    }


def _stitched_mpx(receipts: Sequence[StageReceipt], scenes: Sequence[Scene]) -> float:
    mpx = {scene.scene_id: scene.shape[0] * scene.shape[1] / 1e6 for scene in scenes}
    return sum(mpx[r.scene_id] * r.computed for r in receipts if r.stage == "stitch")


def _rates(receipts: Sequence[StageReceipt], scenes: Sequence[Scene], wall_s: float) -> dict[str, float]:
    segmented = {r.scene_id: r for r in receipts if r.stage == "segment" and r.computed}
    tiles = sum(r.details["n_tiles"] for r in segmented.values())
    shares = {scene_id: r.computed / r.details["n_of_scene"] for scene_id, r in segmented.items()}
    km2 = sum(_km2(scene) * shares[scene.scene_id] for scene in scenes if scene.scene_id in shares)
    computed = sum(r.computed for r in segmented.values())
    return {
        "tiles_per_s": round(tiles / wall_s, 3),
        "tile_queries_per_s": round(computed / wall_s, 3),
        "km2_per_h": round(km2 / wall_s * 3600, 3),
    }


def _km2(scene: Scene) -> float:
    try:
        return area_m2(scene.geobox) / 1e6
    except BadInput:  # corners beyond the edge of the Earth, as in full-disk images: its ground is not counted
        return 0.0


def _rounded(seconds: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 3) for name, value in seconds.items()}
