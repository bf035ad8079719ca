"""Eight questions of every tile: the engine against the paper's loop, and against eight runs of a question each.

`T2S_BENCH_TILES` changes the number of tiles, for developing.
"""

import os
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from plain_loop import SAMPLES_AT_ONCE, PlainLoop

from t2s_core.engine import Engine, Question, TileAnswer, TileImage
from t2s_core.registry import BUNDLED, load_prompter, load_segmenter
from t2s_core.world.queries import demo_queries
from t2s_core.world.samples import samples

QUERIES, RUNS = 8, 3
TILES_AT_ONCE = 8
"""As a region run gives them to the engine (`batch_tiles`)."""
R = TypeVar("R")


def measure() -> dict[str, Any]:
    """Ratio of the plain loop's time to the engine's, the bundled pair on one thread; all timed in turn."""
    torch.set_num_threads(1)
    n_tiles = int(os.environ.get("T2S_BENCH_TILES", "64"))
    tiles = [TileImage(f"{n:03}", sample.image) for n, sample in enumerate(samples("val", n_tiles, 0.25))]
    questions = [Question(query.id, query.text) for query in demo_queries()[:QUERIES]]
    engine = Engine(load_prompter("bundled"), load_segmenter("bundled"))
    plain = PlainLoop(BUNDLED / "prompter", engine.prompter.profile, engine.segmenter, torch.device("cpu"))
    _in_batches(engine, tiles[:1], questions)
    plain.answer(tiles[:1], questions[:1])
    ours_s, plain_s, each_s = [], [], []
    for _ in range(RUNS):
        ours, seconds = _timed(lambda: _in_batches(engine, tiles, questions))
        ours_s.append(seconds)
        theirs, seconds = _timed(lambda: plain.answer(tiles, questions))
        plain_s.append(seconds)
        each, seconds = _timed(lambda: [_in_batches(engine, tiles, [question]) for question in questions])
        each_s.append(seconds)
    same = np.mean([one.reply.text == text for one, (text, _) in zip(ours, theirs, strict=True)])
    apart = [each[q][t] for t in range(n_tiles) for q in range(QUERIES)]
    same_apart = np.mean([one.reply.text == other.reply.text for one, other in zip(ours, apart, strict=True)])
    if min(same, same_apart) < 0.98:  # noqa: PLR2004 -- where two tokens are nearly as likely, rounding decides
        raise RuntimeError(f"replies differ: {same:.3f} are as the plain loop's, {same_apart:.3f} as asked apart")
    return {
        "ratio": round(float(np.median([b / a for a, b in zip(ours_s, plain_s, strict=True)])), 2),
        "unit": "seconds of the plain loop / seconds of the engine",
        "runs": RUNS,
        "details": {
            "tiles": n_tiles,
            "queries": QUERIES,
            "tiles_at_once": TILES_AT_ONCE,
            "samples_at_once_in_the_plain_loop": SAMPLES_AT_ONCE,
            "ratio_to_runs_of_one_query": round(
                float(np.median([b / a for a, b in zip(ours_s, each_s, strict=True)])), 2
            ),
            "engine_ms_for_a_tile_query": _ms(ours_s, len(ours)),
            "plain_ms_for_a_tile_query": _ms(plain_s, len(ours)),
            "runs_of_one_query_ms_for_a_tile_query": _ms(each_s, len(ours)),
            "same_replies_as_the_plain_loop": round(float(same), 4),
            "same_replies_as_runs_of_one_query": round(float(same_apart), 4),
            "objects": sum(len(one.masks) for one in ours),
        },
    }


def _in_batches(engine: Engine, tiles: Sequence[TileImage], questions: Sequence[Question]) -> list[TileAnswer]:
    starts = range(0, len(tiles), TILES_AT_ONCE)
    return [one for start in starts for one in engine.answer(tiles[start : start + TILES_AT_ONCE], questions)]


def _timed(work: Callable[[], R]) -> tuple[R, float]:
    start_s = time.perf_counter()
    done = work()
    return done, time.perf_counter() - start_s


def _ms(seconds: Sequence[float], n: int) -> float:
    return round(1000 * float(np.median(seconds)) / n, 1)
