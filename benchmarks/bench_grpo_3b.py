"""GRPO with LoRA on a model of Qwen2.5-VL-3B's shape on one GPU: memory, tokens a second, seconds a step.

Weights are random, so it babbles: every reply runs to the limit, and is worth nothing. The real reward judges it, and
then its letters count as its mask's IoU, so that a gradient flows. The segmenter draws what a reply asks for and so has
nothing to do here: what it costs is `reward_cost`'s to say.
`T2S_GRPO_3B` changes settings: `T2S_GRPO_3B='{"group_size": 8}' python benchmarks/run.py grpo_3b`.
"""

import gc
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from unittest import mock

import torch
import transformers
from transformers import (
    AutoTokenizer,
    GenerationMixin,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
)

from t2s_core.devices import device_name
from t2s_core.known_profiles import published_prompter
from t2s_core.ports import RawReply
from t2s_core.registry import BUNDLED, load_segmenter
from t2s_core.rewards import MaskReward
from t2s_core.training.curves import CurveTable
from t2s_core.training.datasets.world import WorldExamples
from t2s_core.training.examples import Example
from t2s_core.training.grpo import train
from t2s_core.training.settings import Lora, TrainSettings

LONG = True
NEEDED_GIB = 60
"""Of the GPU's memory, with the settings below and room to spare."""
DISK_GIB = 20
"""The model is written twice: to start from, and with its adapters merged."""
Scale = Literal["3b", "tiny"]
SETTINGS = TrainSettings(
    lora=Lora(r=8), gradient_checkpointing=True, dtype="bfloat16", group_size=16, questions_per_step=2,
    questions_per_pass=1, max_new_tokens=256, steps=3, save_steps=1_000, held_out=0,
)  # fmt: skip
TEXT: dict[Scale, dict[str, Any]] = {
    # As published with Qwen2.5-VL-3B-Instruct.
    "3b": {
        "vocab_size": 151_936, "hidden_size": 2048, "intermediate_size": 11_008, "num_hidden_layers": 36,
        "num_attention_heads": 16, "num_key_value_heads": 2, "max_position_embeddings": 128_000, "rms_norm_eps": 1e-6,
        "rope_parameters": {"rope_type": "default", "mrope_section": [16, 24, 24], "rope_theta": 1e6},
    },
    "tiny": {
        "vocab_size": 2048, "hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 4096, "rms_norm_eps": 1e-6,
        "rope_parameters": {"rope_type": "default", "mrope_section": [4, 4, 4], "rope_theta": 1e4},
    },
}  # fmt: skip
VISION: dict[Scale, dict[str, Any]] = {
    "3b": {
        "depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16, "out_hidden_size": 2048,
        "fullatt_block_indexes": [7, 15, 23, 31], "tokens_per_second": 2,
    },
    "tiny": {
        "depth": 2, "hidden_size": 32, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": 48,
        "fullatt_block_indexes": [1],
    },
}  # fmt: skip
SIDE_PX: dict[Scale, int] = {"3b": 840, "tiny": 56}


@dataclass
class Generation:
    """What `generate` was seen to do, one entry for each call."""

    seconds: list[float] = field(default_factory=list)
    new_tokens: list[int] = field(default_factory=list)
    prompt_tokens: int = 0


def measure() -> dict[str, Any]:
    """Seconds a step after the first. Raises `SystemExit` without a GPU that is large enough."""
    if not torch.cuda.is_available():
        raise SystemExit(f"grpo_3b needs a CUDA device with about {NEEDED_GIB} GiB; this machine has none")
    free_gib = torch.cuda.mem_get_info()[0] / 2**30
    if free_gib < NEEDED_GIB:
        raise SystemExit(f"grpo_3b needs a CUDA device with about {NEEDED_GIB} GiB; {free_gib:.0f} GiB are free here")
    return measure_shape("3b", SETTINGS)


def measure_shape(scale: Scale, settings: TrainSettings) -> dict[str, Any]:
    """The same for any shape, on a GPU where there is one. Steps before the last are needed: the first one warms up."""
    changes = json.loads(os.environ.get("T2S_GRPO_3B", "{}"))
    settings = TrainSettings.model_validate(settings.model_dump() | changes)
    profile = published_prompter("qwen2_5_vl", f"random {scale}").model_copy(update={"model_px": SIDE_PX[scale]})
    started_s = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=_roomy()) as name, _timed_generation() as generation, _lively_reward():
        start = Path(name) / "start"
        parameters = save_random(start, scale)
        built_s = time.perf_counter() - started_s
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        outcome = train(
            start,
            profile=profile,
            segmenter=load_segmenter("bundled", device=device_name("auto")),
            examples=WorldExamples("train", 1_000),
            folder=Path(name) / "training",
            settings=settings,
        )
        curves = CurveTable(Path(name) / "training").rows
    if outcome.steps != settings.steps:
        raise RuntimeError(f"{outcome.status}: {outcome.reason}")
    logged = {
        wanted: [value for _, found, value in curves if found == wanted]
        for wanted in ("step_time", "completions/mean_length", "reward", "grad_norm")
    }
    step_s = logged["step_time"][1:]
    rows = settings.group_size * settings.questions_per_step
    # What is generated counts up to each reply's end; `generate` itself pads to the longest.
    tokens = [rows * length for length in logged["completions/mean_length"]]
    return {
        "value": round(statistics.median(step_s), 2),
        "unit": "seconds for a step of the optimiser, the first left out",
        "runs": len(step_s),
        "details": {
            "shape": scale,
            "parameters": parameters,
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "peak_allocated_gib": _gib(torch.cuda.max_memory_allocated()) if torch.cuda.is_available() else None,
            "peak_reserved_gib": _gib(torch.cuda.max_memory_reserved()) if torch.cuda.is_available() else None,
            "step_s": [round(value, 2) for value in logged["step_time"]],
            "replies_per_step": rows,
            "prompt_tokens": generation.prompt_tokens,
            "reply_tokens": [round(value, 1) for value in logged["completions/mean_length"]],
            "generate_s": [round(value, 2) for value in generation.seconds],
            "generated_tokens_per_s": [
                round(n / s) for n, s in zip(generation.new_tokens, generation.seconds, strict=True)
            ],
            "tokens_per_s_of_whole_step": [round(n / s) for n, s in zip(tokens, logged["step_time"], strict=True)],
            "reward": [round(value, 3) for value in logged["reward"]],
            "grad_norm": [round(value, 5) for value in logged["grad_norm"]],
            "built_s": round(built_s, 1),
            "all_s": round(time.perf_counter() - started_s, 1),
            "settings": settings.model_dump(mode="json"),
        },
    }


def save_random(directory: Path, scale: Scale) -> int:
    """A prompter of random bfloat16 weights, as `save_pretrained` writes it; how many parameters it has."""
    tokenizer = AutoTokenizer.from_pretrained(BUNDLED / "prompter", local_files_only=True)
    ids = tokenizer.get_vocab()
    config = Qwen2_5_VLConfig(
        text_config=TEXT[scale] | {"eos_token_id": ids["<|im_end|>"], "tie_word_embeddings": True},
        vision_config=VISION[scale] | {"patch_size": 14, "spatial_merge_size": 2, "window_size": 112},
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=True,
        dtype=torch.bfloat16,
    )
    # Drawn where it is fast, 2 bytes a weight from the start.
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device_name("auto")):
            model = Qwen2_5_VLForConditionalGeneration(config)
    finally:
        torch.set_default_dtype(before)
    model.generation_config.eos_token_id = ids["<|im_end|>"]
    model.save_pretrained(directory)
    Qwen2_5_VLProcessor(
        Qwen2VLImageProcessor(patch_size=14, merge_size=2),
        tokenizer,
        Qwen2VLVideoProcessor(patch_size=14, merge_size=2),
        chat_template=tokenizer.chat_template,
    ).save_pretrained(directory)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    del model
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return parameters


@contextmanager
def _timed_generation() -> Iterator[Generation]:
    seen = Generation()
    original = GenerationMixin.generate

    def generate(model: GenerationMixin, *, input_ids: torch.Tensor, **arguments: object) -> torch.Tensor:
        started_s = _now_s()
        ids: torch.Tensor = original(model, input_ids=input_ids, **arguments)
        seen.seconds.append(_now_s() - started_s)
        seen.prompt_tokens = input_ids.shape[1]
        seen.new_tokens.append(ids.shape[0] * (ids.shape[1] - seen.prompt_tokens))
        return ids

    with mock.patch.object(GenerationMixin, "generate", generate):
        yield seen


@contextmanager
def _lively_reward() -> Iterator[None]:
    judge = MaskReward.iou

    def iou(self: MaskReward, examples: Sequence[Example], replies: Sequence[RawReply]) -> list[float]:
        judge(self, examples, replies)
        return [sum(map(ord, reply.text)) % 97 / 97 for reply in replies]

    with mock.patch.object(MaskReward, "iou", iou):
        yield


def _now_s() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()  # kernels run on after their call has returned
    return time.perf_counter()


def _roomy() -> Path | None:
    """Memory instead of a disk, where it has room: writing gigabytes is not what is measured."""
    memory = Path("/dev/shm")  # noqa: S108 -- only the parent of a directory with a name of its own
    return memory if memory.is_dir() and shutil.disk_usage(memory).free > DISK_GIB * 2**30 else None


def _gib(n_bytes: int) -> float:
    return round(n_bytes / 2**30, 2)
