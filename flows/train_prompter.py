"""Training a prompter as a Prefect flow: the same as `t2s train`, with its curves as artifacts of the run."""

from pathlib import Path

from prefect import flow

from flows.artifacts import show_training
from pipeline.training import TrainSpec
from t2s_core.training.grpo import TrainOutcome
from tasks.training import train_prompter as train_task


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
    show_training(folder, outcome)
    return outcome
