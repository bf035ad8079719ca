"""Prefect tasks around training: what makes and judges prompters. Each is one call of the layers below."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State

from pipeline import evaluation, training
from pipeline.evaluation import EvaluationSpec
from pipeline.training import TrainSpec
from t2s_core.errors import BadInput

if TYPE_CHECKING:
    from t2s_core.training.grpo import TrainOutcome


def _may_help(task: Any, task_run: Any, state: State[Any]) -> bool:  # noqa: ANN401, ARG001 -- as Prefect calls it
    """Whether to try again: not where the input cannot work. `state`: its data is what the task raised."""
    return not isinstance(state.data, BadInput)


# A model's files may change under the same name, which Prefect's cache would not notice. Both tasks may be repeated:
# training goes on from its last checkpoint, and an evaluation writes the same objects again.
_OPTIONS: dict[str, Any] = {
    "cache_policy": NO_CACHE,
    "persist_result": False,
    "retries": 1,
    "retry_delay_seconds": 5,
    "retry_condition_fn": _may_help,
}


@task(name="evaluate-prompter", task_run_name="evaluate {spec.prompter} on {spec.dataset}", **_OPTIONS)
def evaluate_prompter(spec: EvaluationSpec, out: str | None, device: str) -> dict[str, Any]:
    """See `pipeline.evaluation.run_evaluation`."""
    return evaluation.run_evaluation(spec, out, device=device)


@task(name="train-prompter", task_run_name="train {spec.prompter} on {spec.dataset}", **_OPTIONS)
def train_prompter(spec: TrainSpec, folder: Path, device: str) -> "TrainOutcome":
    """See `pipeline.training.run_training`. A retry goes on from the last checkpoint."""
    return training.run_training(spec, folder, device=device)
