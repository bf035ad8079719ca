"""Training a prompter as a Prefect flow: the same as `t2s train`, with its curves as an artifact of the run."""

from pathlib import Path

from prefect import flow
from prefect.artifacts import create_table_artifact

from pipeline.training import TrainSpec
from t2s_core.training.curves import CurveTable
from t2s_core.training.grpo import TrainOutcome
from tasks.training import train_prompter as train_task

SHOWN = ("reward", "kl", "completions/mean_length", "held_out/giou", "held_out/format_rate")


@flow(name="train-prompter", persist_result=False)
def train_prompter(spec: TrainSpec, folder: Path, device: str = "auto") -> TrainOutcome:
    """Train a prompter from masks alone.

    Args:
        spec: Data set, models and settings.
        folder: Local directory for checkpoints, curves and the model; the same call goes on with what is there.
        device: Of the segmenter.

    Raises:
        BadInput: The input cannot work.
        MachineFault: A model or the device failed; the last checkpoint is kept.

    """
    outcome = train_task(spec, folder, device)
    table = CurveTable(folder)
    create_table_artifact(
        key="training-curves",
        table=[{"curve": name, "first": table.first(name), "last": table.last(name)} for name in SHOWN],
        description=f"{outcome.status.value} at step {outcome.steps}. {outcome.reason}",
    )
    return outcome
