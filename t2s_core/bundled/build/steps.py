"""What both trainings do at every step and at every checkpoint."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

Weights = dict[str, Tensor]


def descend(optimiser: torch.optim.Optimizer, weights: Sequence[nn.Parameter], loss: Tensor, lr: float) -> None:
    """One step of the optimiser at this learning rate; gradients are clipped to a norm of 1."""
    for group in optimiser.param_groups:
        group["lr"] = lr
    optimiser.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(weights, 1.0)
    optimiser.step()


def follow(average: Weights, model: nn.Module, step: int) -> None:
    """Move the moving average towards the weights after step `step` (from 1), quickly at first."""
    now = model.state_dict()
    # One launch instead of 150.
    torch._foreach_lerp_([average[key] for key in now], list(now.values()), 1 - min(0.999, step / (step + 20)))


def put_checkpoint(state: dict[str, Any], file: Path) -> None:
    """Replace a checkpoint whole, or not at all."""
    torch.save(state, file.with_suffix(".part"))
    file.with_suffix(".part").rename(file)
