"""The engine on one GPU with models of Qwen2.5-VL-3B's and SAM 2.1 small's shapes, against the paper's loop.

Weights are random (the prompter's bfloat16, the segmenter's float32, as runs load them), so replies mean nothing: all
run to the same number of tokens, and then count as naming two objects, so that the segmenter has its work.
How busy the GPU is: the time of its kernels in a profiled call, as a share of the time of the same call unprofiled
(the profiler slows the host, not them).
`T2S_BENCH_GPU` changes settings: `T2S_BENCH_GPU='{"tiles": 8}' python benchmarks/run.py gpu`.
"""

import json
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from bench_grpo_3b import SIDE_PX, save_random
from plain_loop import PlainLoop
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode
from transformers import Sam2Config, Sam2Model

from t2s_core.devices import device_name, wait_for
from t2s_core.engine import Engine, Question, TileImage
from t2s_core.known_profiles import published_prompter
from t2s_core.ports import PromptRequest, RawReply
from t2s_core.profiles import PrompterProfile
from t2s_core.prompters.qwen_vl import QwenVlPrompter
from t2s_core.segmenters.sam_hf import HfSamSegmenter
from t2s_core.world.draw import MIN_PX, draw_region
from t2s_core.world.queries import demo_queries
from t2s_core.world.tiles import cut_tile

NEEDED_GIB = 40
Scale = Literal["3b", "tiny"]
SAM: dict[Scale, dict[str, Any]] = {
    # As published with sam2.1-hiera-small; what is not named is transformers' default.
    "3b": {
        "vision_config": {
            "backbone_config": {
                "model_type": "sam2_hiera_det_model", "blocks_per_stage": [1, 2, 11, 2],
                "global_attention_blocks": [7, 10, 13],
            },
        },
    },
    "tiny": {
        "vision_config": {
            "backbone_config": {
                "model_type": "sam2_hiera_det_model", "image_size": [64, 64], "hidden_size": 8,
                "num_attention_heads": 1, "blocks_per_stage": [1, 1, 2, 1], "embed_dim_per_stage": [8, 16, 32, 64],
                "num_attention_heads_per_stage": [1, 2, 4, 8], "window_size_per_stage": [8, 4, 4, 2],
                "global_attention_blocks": [3], "window_positional_embedding_background_size": [2, 2],
            },
            "backbone_channel_list": [64, 32, 16, 8], "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
            "fpn_hidden_size": 32,
        },
        "prompt_encoder_config": {"image_size": 64, "patch_size": 16, "hidden_size": 32, "mask_input_channels": 4},
        "mask_decoder_config": {"hidden_size": 32, "mlp_dim": 64, "num_attention_heads": 4, "iou_head_hidden_dim": 32},
    },
}  # fmt: skip
BF16_TFLOP_S = {"H100 PCIe": 756, "H100 NVL": 835, "H100": 989, "H200": 989}
"""Dense: half of what NVIDIA's data sheets of the H100 and H200 Tensor Core GPUs give with sparsity."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is asked."""

    tiles: int = 32
    plain_tiles: int = 4
    """The plain loop's time is as its samples, so fewer will do."""
    new_tokens: int = 100
    queries: int = 8
    runs: int = 3
    graphs: bool = False
    """Steps of decoding recorded and replayed as CUDA graphs."""


class Tireless(QwenVlPrompter):
    """Every reply runs to the limit, and then names two objects."""

    def reply(self, requests: Sequence[PromptRequest]) -> list[RawReply]:
        """Generate, and put what can be read in place of what random weights say."""
        written = _two_objects(self.profile)
        return [RawReply(written, truncated=False, n_tokens=reply.n_tokens) for reply in super().reply(requests)]

    def _stops(self, ids: Sequence[int]) -> bool:  # noqa: ARG002
        return False


class TirelessLoop(PlainLoop):
    """The same for the plain loop."""

    def _generate(self, samples: Sequence[tuple[TileImage, Question]], exact_tokens: int | None) -> list[str]:
        return [_two_objects(self.profile) for _ in super()._generate(samples, exact_tokens)]


def missing() -> str | None:
    """What this machine lacks."""
    if not torch.cuda.is_available():
        return "no GPU"
    free_gib = torch.cuda.mem_get_info()[0] / 2**30
    return None if free_gib >= NEEDED_GIB else f"needs {NEEDED_GIB} GiB of GPU memory; {free_gib:.0f} are free"


def measure() -> dict[str, Any]:
    """Ratio of the plain loop's time to the engine's at eight questions. Raises `SystemExit` without a large GPU."""
    if reason := missing():
        raise SystemExit(f"gpu: {reason}")
    return measure_shape("3b", Sizes())


def measure_shape(scale: Scale, sizes: Sizes) -> dict[str, Any]:
    """The same for any shape, on a GPU where there is one."""
    sizes = replace(sizes, **json.loads(os.environ.get("T2S_BENCH_GPU", "{}")))
    device = torch.device(device_name("auto"))
    profile_3b = published_prompter("qwen2_5_vl", f"random {scale}")
    asked = profile_3b.model_copy(update={"model_px": SIDE_PX[scale], "max_new_tokens": sizes.new_tokens})
    with tempfile.TemporaryDirectory() as name:
        save_random(Path(name), scale)
        prompter = Tireless.load(Path(name), profile=asked, version="random@1", device=str(device))
        prompter._graphs = sizes.graphs  # noqa: SLF001 -- off unless asked for
        segmenter = HfSamSegmenter(_sam(scale, device), version="random@1")
        plain = TirelessLoop(Path(name), asked, segmenter, device)
    engine = Engine(prompter, segmenter)
    tiles, questions = _tiles(sizes.tiles, SIDE_PX[scale]), _questions(sizes.queries)
    engine.answer(tiles, questions)  # warms up, and learns what fits
    ours = {n: _engine_numbers(engine, tiles, questions[:n], sizes) for n in (1, sizes.queries)}
    plain.answer(tiles[:1], questions[:1], exact_tokens=sizes.new_tokens)
    theirs = {n: _plain_numbers(plain, tiles[: sizes.plain_tiles], questions[:n], sizes) for n in (1, sizes.queries)}
    ratios = {n: ours[n]["tile_queries_per_s"] / theirs[n]["tile_queries_per_s"] for n in ours}
    return {
        "ratio": round(ratios[sizes.queries], 2),
        "unit": "tile-queries a second of the engine / of the plain loop",
        "runs": sizes.runs,
        "details": {
            "shape": scale,
            "gpu": torch.cuda.get_device_name() if device.type == "cuda" else None,
            "torch": torch.__version__,
            "sizes": asdict(sizes),
            "images_per_batch": prompter._images_per_batch.size,  # noqa: SLF001
            "rows_per_batch": prompter._rows_per_batch.size,  # noqa: SLF001
            "ratio_at_one_query": round(ratios[1], 2),
            "engine": {f"{n}_queries": numbers for n, numbers in ours.items()},
            "plain": {f"{n}_queries": numbers for n, numbers in theirs.items()},
            "prefill": _prefill_numbers(prompter, tiles[: prompter._images_per_batch.size], sizes),  # noqa: SLF001
        },
    }


def _engine_numbers(
    engine: Engine, tiles: Sequence[TileImage], questions: Sequence[Question], sizes: Sizes
) -> dict[str, Any]:
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    before = replace(engine.spent)
    seconds = []
    for _ in range(sizes.runs):
        start_s = time.perf_counter()
        answers = engine.answer(tiles, questions)
        seconds.append(time.perf_counter() - start_s)
    spent = engine.spent.since(before)
    n_tokens = sum(answer.reply.n_tokens for answer in answers)
    if n_tokens != sizes.new_tokens * len(answers):
        raise RuntimeError(f"{n_tokens} tokens in {len(answers)} replies of {sizes.new_tokens}")
    return {
        "tile_queries_per_s": round(len(answers) / statistics.median(seconds), 3),
        "generated_tokens_per_s": round(n_tokens * sizes.runs / spent.prompting_s, 1),
        "prompting_s": round(spent.prompting_s / sizes.runs, 3),
        "encoding_s": round(spent.encoding_s / sizes.runs, 3),
        "decoding_s": round(spent.decoding_s / sizes.runs, 3),
        "gpu_busy": round(_kernel_s(engine, tiles, questions) / statistics.median(seconds), 3) if on_gpu else None,
        "peak_allocated_gib": round(torch.cuda.max_memory_allocated() / 2**30, 2) if on_gpu else None,
    }


def _kernel_s(engine: Engine, tiles: Sequence[TileImage], questions: Sequence[Question]) -> float:
    """Seconds that the GPU's kernels and copies take in one call."""
    with profile(activities=[ProfilerActivity.CUDA]) as profiled:
        engine.answer(tiles, questions)
    times = [event.time_range for event in profiled.events() if event.device_type == DeviceType.CUDA]
    return union_us([(time_us.start, time_us.end) for time_us in times]) / 1e6


def union_us(spans: Sequence[tuple[float, float]]) -> float:
    """How long any of the spans was going on."""
    total, until = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, until))
        until = max(until, end)
    return total


def _plain_numbers(
    plain: PlainLoop, tiles: Sequence[TileImage], questions: Sequence[Question], sizes: Sizes
) -> dict[str, Any]:
    start_s = time.perf_counter()
    answers = plain.answer(tiles, questions, exact_tokens=sizes.new_tokens)
    seconds = time.perf_counter() - start_s
    return {"tile_queries_per_s": round(len(answers) / seconds, 3), "tile_queries": len(answers)}


def _prefill_numbers(prompter: QwenVlPrompter, tiles: Sequence[TileImage], sizes: Sizes) -> dict[str, Any]:
    """Vision tower and prefix of some images: operations as torch counts those of matrices, and their rate."""
    device = prompter._model.device  # noqa: SLF001
    images = [tile.image for tile in tiles]
    ids, _ = prompter._tokens(["a lake"])  # noqa: SLF001
    seconds = []
    with torch.inference_mode():
        head = prompter._head(ids)  # noqa: SLF001
        with FlopCounterMode(display=False) as counter:
            prompter._prefix(images, head)  # noqa: SLF001
        for _ in range(sizes.runs):
            wait_for(device)
            start_s = time.perf_counter()
            prompter._prefix(images, head)  # noqa: SLF001
            wait_for(device)
            seconds.append(time.perf_counter() - start_s)
    tflop_s = counter.get_total_flops() / statistics.median(seconds) / 1e12
    limit = _limit_tflop_s() if device.type == "cuda" else None
    return {
        "images": len(images),
        "seconds": round(statistics.median(seconds), 4),
        "tflop_for_an_image": round(counter.get_total_flops() / len(images) / 1e12, 6),
        "tflop_per_s": round(tflop_s, 4),
        "limit_tflop_per_s": limit,
        "share_of_limit": round(tflop_s / limit, 3) if limit else None,
    }


def _limit_tflop_s() -> int | None:
    name = torch.cuda.get_device_name()
    return next((limit for card, limit in BF16_TFLOP_S.items() if card in name), None)


def _sam(scale: Scale, device: torch.device) -> Sam2Model:
    torch.manual_seed(0)
    return Sam2Model(Sam2Config(**SAM[scale])).to(device).eval()


def _tiles(count: int, side_px: int) -> list[TileImage]:
    side_px = max(side_px, MIN_PX)
    return [
        TileImage(f"{seed:03}", cut_tile(draw_region(seed, side_px, side_px), 0, 0, side_px).image)
        for seed in range(count)
    ]


def _questions(count: int) -> list[Question]:
    return [Question(f"{n}-{query.id}", query.text) for n, query in enumerate(demo_queries()[:count])]


def _two_objects(asked: PrompterProfile) -> str:
    side = asked.reply_px
    entries = [
        {"bbox_2d": [x, x, x + side // 4, x + side // 4], "positive_points": [[x + side // 8, x + side // 8]] * 2}
        for x in (side // 8, side // 2)
    ]
    return f"<think>two</think><answer>{json.dumps(entries)}</answer>"
