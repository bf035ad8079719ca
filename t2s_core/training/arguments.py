"""Arguments that both stages of a training give to transformers' trainer."""

from typing import Any

import torch

from t2s_core.training.settings import TrainSettings


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
