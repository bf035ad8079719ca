"""How many trials of chaos run, by which seeds, and the small region that they run on.

`T2S_CHAOS_TRIALS` says how many (1 by default), `T2S_CHAOS_SEED` the first one's seed; a trial's name holds its own.
"""

import json
import os
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from processes import Cluster, Command, start
from regions import WATER, draw_scene, files, make_models, results

N_TRIALS = int(os.environ.get("T2S_CHAOS_TRIALS", "1"))
FIRST_SEED = int(os.environ.get("T2S_CHAOS_SEED", "0"))
SEEDS = range(FIRST_SEED, FIRST_SEED + N_TRIALS)
N_TILES = 18


@dataclass(frozen=True)
class Region:
    """Two scenes of nine tiles, one question, four batches."""

    folder: Path
    prompter: str
    segmenter: str
    scenes: tuple[Path, ...]

    @classmethod
    def drawn(cls, folder: Path) -> "Region":
        models = make_models(folder)
        scenes = tuple(draw_scene(folder / f"{name}.tif", seed=seed) for seed, name in enumerate(("alpha", "beta")))
        return cls(folder, models.prompter, models.segmenter, scenes)

    def arguments(self, out: Path | str, *more: object) -> list[object]:
        """Of `t2s segment`."""
        models = ["--prompter", self.prompter, "--segmenter", self.segmenter]
        return ["segment", *self.scenes, "--query", WATER, "--out", out, "--direct", "--device", "cpu", *models, *more]

    def start(self, out: Path, cluster: Cluster, log: Path) -> Command:
        """The run on a cluster."""
        return start(self.arguments(out, "--cluster", cluster.address), log)


def moment(seed: int, whole_s: float) -> float:
    """Seconds after the start, somewhere in a run that takes `whole_s` undisturbed."""
    return random.Random(seed).uniform(0, whole_s)


def tiles(out: Path) -> dict[str, tuple[int, bytes]]:
    """Committed tile results: time of their last change and their bytes."""
    return {name: found for name, found in files(out).items() if name.startswith("tiles/") and "/." not in name}


def manifest(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "run.json").read_text())
    return found


def check_finished(out: Path, expected: dict[str, Any], kept: dict[str, tuple[int, bytes]]) -> None:
    """The law: nothing lost, nothing done twice, nothing else than without the fault."""
    now = tiles(out)
    assert {name: now.get(name) for name in kept} == kept, "a committed batch was lost or done again"
    assert results(out) == expected
    assert manifest(out)["status"] == "SUCCESS"
    assert not (out / "lease.json").exists()
