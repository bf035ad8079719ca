"""Arguments that both stages of a training give to transformers' trainer."""

from typing import Any, TypeVar

import torch
from transformers import TrainingArguments

from t2s_core.errors import BadInput
from t2s_core.training.processes import how_many
from t2s_core.training.settings import TrainSettings

Arguments = TypeVar("Arguments", bound=TrainingArguments)


def questions_per_process(settings: TrainSettings) -> tuple[int, int]:
    """Questions in one pass of one process, and passes in a step. A step's questions are shared among the processes.

    Raises `BadInput` where they cannot be shared evenly.
    """
    n, total = how_many(), settings.questions_per_step
    per_pass = settings.questions_per_pass or max(total // n, 1)
    if total % (per_pass * n):
        among = f" on each of {n} processes" if n > 1 else ""
        raise BadInput(
            f"questions_per_step={total} is no multiple of questions_per_pass={per_pass}{among}; "
            f"use {per_pass * n} or a multiple of it"
        )
    return per_pass, total // (per_pass * n)


def on_one_device(config: Arguments) -> Arguments:
    """A process trains on one GPU: transformers would spread it over all that it sees, which GRPO cannot bear."""
    config._n_gpu = min(config._n_gpu, 1)  # noqa: SLF001 -- it has no option for it
    return config


def shared_arguments(settings: TrainSettings) -> dict[str, Any]:
    """What does not differ between the supervised stage and reinforcement."""
    on_gpu = torch.cuda.is_available()
    return {
        "warmup_steps": settings.warmup_steps,
        "max_grad_norm": settings.max_grad_norm,
        "bf16": settings.dtype == "bfloat16" and on_gpu,
        "gradient_checkpointing": settings.gradient_checkpointing,
        "save_strategy": "steps",
        "save_steps": settings.save_steps,
        "logging_steps": 1,
        "disable_tqdm": True,
        "report_to": [],
        "seed": settings.seed,
        "data_seed": settings.seed,
        "use_cpu": not on_gpu,
    }


def weights_dtype(settings: TrainSettings) -> torch.dtype:
    """What weights are held in while they are trained.

    bfloat16 only below adapters, which are float32 themselves: a step of 1e-6 is lost on a bfloat16 weight. All-weights
    training holds float32 and computes in bfloat16 (autocast) on a GPU.
    """
    small = settings.lora is not None and settings.dtype == "bfloat16" and torch.cuda.is_available()
    return torch.bfloat16 if small else torch.float32
