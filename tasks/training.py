"""Prefect tasks around training: what makes and judges prompters. Each is one call of the layers below."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import task

from pipeline import evaluation, training
from pipeline.evaluation import EvaluationSpec
from pipeline.training import TrainSpec
from t2s_core.errors import BadInput
from tasks.retries import retried

if TYPE_CHECKING:
    from t2s_core.training.grpo import TrainOutcome


# Training goes on from its last checkpoint, and an evaluation writes the same objects again.
_OPTIONS = retried(BadInput)


@task(name="evaluate-prompter", task_run_name="evaluate {spec.prompter} on {spec.dataset}", **_OPTIONS)
def evaluate_prompter(spec: EvaluationSpec, out: str | None, device: str) -> dict[str, Any]:
    """See `pipeline.evaluation.run_evaluation`."""
    return evaluation.run_evaluation(spec, out, device=device)


@task(name="train-prompter", task_run_name="train {spec.prompter} on {spec.dataset}", **_OPTIONS)
def train_prompter(spec: TrainSpec, folder: Path, device: str) -> "TrainOutcome":
    """See `pipeline.training.run_training`. A retry goes on from the last checkpoint."""
    return training.run_training(spec, folder, device=device)
