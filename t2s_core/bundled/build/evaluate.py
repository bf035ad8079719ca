"""Score the bundled pair on the test split of the world, through the very engine that runs use.

Four tables: questions half of which have no target, with the test split's wordings and with training's; questions of
which 70 % have none; and the segmenter alone, with true boxes and points. All on regions that no training has seen.
First, what a tile-query costs with `--threads`.
"""

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from t2s_core.engine import Engine, Question, TileAnswer, TileImage
from t2s_core.masks import upsample
from t2s_core.profiles import read_prompter_profile, read_segmenter_profile
from t2s_core.prompters.qwen_vl import QwenVlPrompter
from t2s_core.prompts import InstancePrompt
from t2s_core.segmenters.sam_hf import HfSamSegmenter
from t2s_core.training.evaluate import BATCH_SIZE, answer_examples, counts_of, judge
from t2s_core.training.evaluation_tables import metrics_of
from t2s_core.training.examples import Example
from t2s_core.world.draw import draw_region
from t2s_core.world.queries import FIRST_SEED, QueryDraw, Split, demo_queries
from t2s_core.world.samples import REGION_PX, Sample, make_sample, samples, visible_px
from t2s_core.world.tiles import cut_tile

Table = dict[str, object]


def load_engine(folder: Path, device: str = "cpu") -> Engine:
    """The pair under `folder`."""
    there = folder / "prompter", folder / "segmenter"
    prompter_profile = read_prompter_profile(there[0] / "profile.json")
    segmenter_profile = read_segmenter_profile(there[1] / "profile.json")
    return Engine(
        QwenVlPrompter.load(there[0], profile=prompter_profile, version="bundled", device=device),
        HfSamSegmenter.load(there[1], profile=segmenter_profile, version="bundled", device=device),
    )


def test_samples(wording: Split, count: int, absent_rate: float) -> Iterator[Sample]:
    """Samples of the test regions, worded as `wording`."""
    if wording == "test":
        yield from samples("test", count, absent_rate)
        return
    rng = np.random.default_rng([41, count])
    draw, made = QueryDraw(wording, rng), 0
    for seed in range(FIRST_SEED["test"] + 100_000_000, FIRST_SEED["test"] + 200_000_000):
        region = draw_region(seed, REGION_PX, REGION_PX)
        for _ in range(4):
            x, y = (int(v) for v in rng.integers(0, REGION_PX - 255, 2))
            tile = cut_tile(region, x, y)
            query = draw.draw(tile.instances, visible_px(tile), bool(rng.random() < absent_rate))
            if query is not None:
                yield make_sample(tile, query)
                made += 1
            if made == count:
                return


def answer(engine: Engine, chosen: Sequence[Sample]) -> list[TileAnswer]:
    """One answer for each sample."""
    examples, found = _examples(chosen), list[TileAnswer]()
    for start in range(0, len(examples), BATCH_SIZE):
        found += answer_examples(engine, examples[start : start + BATCH_SIZE])
    return found


def score(chosen: Sequence[Sample], answers: Sequence[TileAnswer]) -> Table:
    """All metrics over these samples, and gIoU by category and by meaning."""
    pairs = list(zip(chosen, answers, strict=True))
    rows = [judge(example, one).row for example, one in zip(_examples(chosen), answers, strict=True)]
    measured, iou = metrics_of(rows), counts_of(rows).iou
    present = np.asarray([bool(sample.instances) for sample in chosen])
    drawn = np.asarray([bool(one.masks) for one in answers])
    meanings = [s.query.relation or s.query.id for s in chosen if s.instances]
    return {
        "n": len(chosen),
        "giou": _rounded(measured["giou"]),
        "ciou": _rounded(measured["ciou"]),
        "giou_where_present": round(float(iou[present].mean()), 3),
        "no_target_accuracy": _rounded(measured["no_target_accuracy"]),
        "answers_where_present": round(float(drawn[present].mean()), 3),
        "format_rate": _rounded(measured["format_rate"]),
        "named_right": round(float(np.mean([a.reasoning.startswith(f"{s.query.name}:") for s, a in pairs])), 3),
        "counted_right": round(float(np.mean([len(a.masks) == len(s.instances) for s, a in pairs])), 3),
        "by_category": _means([s.query.category for s in chosen], iou),
        "by_target_where_present": _means(meanings, iou[present]),
    }


def _examples(chosen: Sequence[Sample]) -> list[Example]:
    """Every sample has a tile of its own."""
    return [
        Example(str(i), str(i), sample.image, sample.query.text, sample.query.category, sample.mask)
        for i, sample in enumerate(chosen)
    ]


def score_segmenter(engine: Engine, count: int) -> Table:
    """Mean IoU of the segmenter given each object's true box and points."""
    ious: list[float] = []
    kinds: list[str] = []
    for sample in samples("test", count, 0.0, offset=50_000_000):
        prompts = [
            InstancePrompt(tuple(map(float, one.box_tile_px)), tuple((x + 0.5, y + 0.5) for x, y in one.points_tile_px))  # type: ignore[arg-type]
            for one in sample.instances
        ]
        masks = engine.segmenter.decode(engine.segmenter.encode([sample.image]), [prompts])[0]
        for one, mask in zip(sample.instances, masks, strict=True):
            predicted = upsample(mask.logits, one.mask.shape) > 0
            ious.append(float((predicted & one.mask).sum() / (predicted | one.mask).sum()))
            kinds.append(one.kind.name.lower())
    return {"n": len(ious), "iou": round(float(np.mean(ious)), 3), "by_kind": _means(kinds, np.asarray(ious))}


def cost(engine: Engine, tiles: int = 8) -> Table:
    """Milliseconds for a tile-query: one question a tile, tile by tile; and all of the demo's questions at once."""
    region = draw_region(FIRST_SEED["val"], 256 * tiles, 256)
    images = [TileImage(str(i), region.image[256 * i : 256 * (i + 1)]) for i in range(tiles)]
    questions = [Question(query.id, query.text) for query in demo_queries()]
    engine.answer(images[:1], questions)  # warm
    start_s = time.perf_counter()
    for i, image in enumerate(images):
        engine.answer([image], [questions[i % len(questions)]])
    apart_s = time.perf_counter() - start_s
    start_s = time.perf_counter()
    engine.answer(images, questions)
    together_s = time.perf_counter() - start_s
    return {
        "one_question_a_tile": round(1e3 * apart_s / tiles, 1),
        "all_questions_at_once": round(1e3 * together_s / tiles / len(questions), 1),
    }


def _rounded(measured: dict[str, Any]) -> dict[str, object]:
    value, ends = measured["value"], measured["ci95"]
    return {"value": _to_3(value), "ci95": [_to_3(end) for end in ends]}


def _to_3(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _means(groups: Sequence[str], values: NDArray[np.float64]) -> dict[str, list[float]]:
    """Mean and number of values by group."""
    table: dict[str, list[float]] = {}
    for name in sorted(set(groups)):
        some = values[[group == name for group in groups]]
        table[name] = [round(float(some.mean()), 3), len(some)]
    return table


def main() -> None:
    """The command line of this stage."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--models", type=Path, default=Path(__file__).parents[1], help="holds prompter/ and segmenter/")
    parser.add_argument("--count", type=int, default=400, help="samples in each table")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, help="also write the scores here, as JSON")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    engine = load_engine(args.models, args.device)
    tables: dict[str, Table] = {
        "ms_per_tile_query": cost(engine),
        "segmenter_with_true_prompts": score_segmenter(engine, args.count),
    }
    for name, wording, rate in (
        ("unseen_wording", "test", 0.5),
        ("seen_wording", "train", 0.5),
        ("mostly_absent", "test", 0.7),
    ):
        chosen = list(test_samples(wording, args.count, rate))  # type: ignore[arg-type]
        tables[name] = score(chosen, answer(engine, chosen))
        print(name, json.dumps(tables[name]), flush=True)
    text = json.dumps(tables, indent=1)
    print(text)
    if args.out:
        args.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
