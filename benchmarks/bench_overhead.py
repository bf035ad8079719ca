"""What a whole local run costs besides the models: the share of its time that is not spent in calls of a model.

One process, on a scene of the drawn world with the bundled pair, both of them loaded before the clock starts. Two more
pairs stand in for models that take no time, on the same scene repeated: one that says at once that nothing is there,
and one that draws the same three objects on every tile.
"""

import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import rasterio

from pipeline import worker
from pipeline.demo import draw_scenes
from pipeline.manifest import RunStatus
from pipeline.prepare import prepare
from pipeline.progress import Silent
from pipeline.queries import parse_queries
from pipeline.region import run_region
from pipeline.spec import RunSpec
from pipeline.storage import Store
from pipeline.work import InProcess
from t2s_core.ports import Image, InstanceLogits, PromptRequest, RawReply
from t2s_core.profiles import PrompterProfile
from t2s_core.prompts import Frame, InstancePrompt
from t2s_core.registry import load_prompter, load_segmenter

TILE_PX, REPEATS, RUNS = 256, 4, 3
QUERIES = ["the lake", "where are vehicles parked?"]
BOXES = ((0.1, 0.1, 0.4, 0.3), (0.5, 0.2, 0.9, 0.6), (0.2, 0.6, 0.6, 0.95))
"""XYXY, as shares of a tile's side."""
LOW_RES_PX = 256


@dataclass
class Pair:
    """A prompter and a segmenter whose calls are timed."""

    prompter: Any
    segmenter: Any
    inside_s: float = field(default=0.0, init=False)

    def timed(self) -> tuple[Any, Any]:
        """The two, for an engine."""
        prompter, segmenter = self.prompter, self.segmenter
        return (
            SimpleNamespace(version=prompter.version, profile=prompter.profile, reply=self._timed(prompter.reply)),
            SimpleNamespace(
                version=segmenter.version,
                encode=self._timed(segmenter.encode),
                decode=self._timed(segmenter.decode),
            ),
        )

    def _timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:  # noqa: ANN401 -- of any of three functions
            start_s = time.perf_counter()
            result = function(*arguments)
            self.inside_s += time.perf_counter() - start_s
            return result

        return call


@dataclass(frozen=True)
class SameReply:
    """Says the same of every tile."""

    version: str
    profile: PrompterProfile
    boxes: Sequence[tuple[float, float, float, float]] = ()

    def reply(self, requests: Sequence[PromptRequest]) -> list[RawReply]:
        """See `Prompter.reply`."""
        reply_px = self.profile.reply_px
        entries = []
        for x0, y0, x1, y1 in self.boxes:
            points = [[(x0 + x1) / 2 * reply_px, (y0 + y1) / 2 * reply_px]] * 2
            entries.append({"bbox_2d": [v * reply_px for v in (x0, y0, x1, y1)], "positive_points": points})
        answer = f"<think>I see.</think><answer>\n```json\n{json.dumps(entries)}\n```\n</answer>"
        return [RawReply(answer, truncated=False, n_tokens=0)] * len(requests)


@dataclass(frozen=True)
class Frames:
    """What is kept of encoded images."""

    frames: Sequence[Frame]

    def __len__(self) -> int:
        return len(self.frames)


class Ellipses:
    """Draws the ellipse in each of `BOXES`, made beforehand; which box is asked for makes no difference."""

    def __init__(self, version: str) -> None:
        self.version = version
        rows, cols = (np.mgrid[0:LOW_RES_PX, 0:LOW_RES_PX] + 0.5) / LOW_RES_PX
        self._drawn = []
        for x0, y0, x1, y1 in BOXES:
            inside = np.hypot((2 * cols - x0 - x1) / (x1 - x0), (2 * rows - y0 - y1) / (y1 - y0))
            self._drawn.append(InstanceLogits((20 * (1 - inside)).clip(-12, 12).astype(np.float32), 0.9))

    def encode(self, images: Sequence[Image]) -> Frames:
        """See `Segmenter.encode`."""
        return Frames([Frame(image.shape[1], image.shape[0]) for image in images])

    def decode(self, _: Frames, prompts: Sequence[Sequence[InstancePrompt]]) -> list[list[InstanceLogits]]:
        """See `Segmenter.decode`."""
        return [self._drawn[: len(of_tile)] for of_tile in prompts]


def measure() -> dict[str, Any]:
    """The share, and what the stand-ins leave of it, each the median of its runs."""
    side = int(os.environ.get("T2S_BENCH_SIDE_PX", "2048"))
    real = Pair(load_prompter("bundled", device="cpu"), load_segmenter("bundled", device="cpu"))
    version, profile = real.prompter.version, real.prompter.profile
    ellipses = Ellipses(real.segmenter.version)
    nothing, drawing = Pair(SameReply(version, profile), ellipses), Pair(SameReply(version, profile, BOXES), ellipses)
    with tempfile.TemporaryDirectory() as folder:
        scene = Path(draw_scenes(Store.at(folder), seed=0, size_px=side)[0])
        large = repeated(scene, Path(folder) / "large.tif")
        runs = [_run(scene, QUERIES, real) for _ in range(RUNS + 1)][1:]
        none_runs = [_run(large, QUERIES[:1], nothing) for _ in range(RUNS + 1)][1:]
        drawn_runs = [_run(large, QUERIES[:1], drawing) for _ in range(RUNS + 1)][1:]
    shares = [1 - inside_s / wall_s for wall_s, inside_s, _ in runs]
    n_tiles = none_runs[0][2]
    none_ms = [(wall_s - inside_s) / n_tiles * 1000 for wall_s, inside_s, _ in none_runs]
    drawn_mpx = [(side * REPEATS) ** 2 / 1e6 / (wall_s - inside_s) for wall_s, inside_s, _ in drawn_runs]
    return {
        "value": round(float(np.median(shares)), 4),
        "unit": "share of a run's time that is not spent in calls of the bundled models, one process",
        "runs": RUNS,
        "details": {
            "side_px": side, "tile_px": TILE_PX, "queries": len(QUERIES), "n_tiles": runs[0][2],
            "wall_s": [round(r[0], 2) for r in runs], "inside_models_s": [round(r[1], 2) for r in runs],
            "stand_ins": {"side_px": side * REPEATS, "queries": 1, "n_tiles": n_tiles},
            "ms_per_tile_without_target": round(float(np.median(none_ms)), 3),
            "without_target_s": [round(r[0], 2) for r in none_runs],
            "mpx_per_s_with_three_objects_per_tile": round(float(np.median(drawn_mpx)), 1),
            "with_three_objects_s": [round(r[0], 2) for r in drawn_runs],
        },
    }  # fmt: skip


def repeated(scene: Path, target: Path) -> Path:
    """The scene `REPEATS` times along both axes."""
    with rasterio.open(scene) as source:
        pixels, profile = source.read(), source.profile
    profile |= {"height": pixels.shape[1] * REPEATS, "width": pixels.shape[2] * REPEATS}
    with rasterio.open(target, "w", **profile) as file:
        file.write(np.tile(pixels, (1, REPEATS, REPEATS)))
    return target


def _run(scene: Path, queries: list[str], pair: Pair) -> tuple[float, float, int]:
    """Seconds of a run from its start to its end, of them in calls of the models, and its tiles."""
    spec = RunSpec(scenes=(str(scene),), queries=parse_queries(queries), tile_px=TILE_PX)
    with tempfile.TemporaryDirectory() as out, _loaded(pair):
        prepared = prepare(spec, out)
        pair.inside_s, start_s = 0.0, time.perf_counter()
        outcome = run_region(prepared, InProcess(), Silent(), device="cpu")
        wall_s = time.perf_counter() - start_s
    assert outcome.status is RunStatus.SUCCESS, outcome.manifest["counts"]
    return wall_s, pair.inside_s, outcome.computed // len(queries)


@contextmanager
def _loaded(pair: Pair) -> Iterator[None]:
    """Workers find `pair` where they would load the bundled models."""
    prompter, segmenter = pair.timed()
    before = worker.load_prompter, worker.load_segmenter
    worker.load_prompter = lambda *_, **__: prompter
    worker.load_segmenter = lambda *_, **__: segmenter
    worker._engine.cache_clear()  # noqa: SLF001 -- a run in this process would keep the pair before
    try:
        yield
    finally:
        worker.load_prompter, worker.load_segmenter = before
        worker._engine.cache_clear()  # noqa: SLF001


if __name__ == "__main__":
    print(json.dumps(measure(), indent=1))
