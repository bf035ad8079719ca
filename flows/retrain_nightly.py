"""The nightly job as a Prefect flow: curate, train, evaluate, decide; each one's artifacts, and the decision."""

from pathlib import Path
from typing import Any

from prefect import flow
from prefect.runtime import flow_run

from flows.artifacts import show_decision, show_scores, show_training
from flows.curate_tiles import curate_tiles
from pipeline.curate_spec import CurationSpec
from pipeline.evaluation import EvaluationSpec
from pipeline.nightly import NightOutcome, NightSpec, Steps, run_night
from pipeline.training import TrainSpec
from t2s_core.training.grpo import TrainOutcome
from tasks.training import evaluate_prompter, train_prompter


@flow(name="retrain-nightly", persist_result=False)
def retrain_nightly(spec: NightSpec, nights: Path) -> NightOutcome:
    """Do a night's work, or what a crash of the same flow run left of it.

    Args:
        spec: What is done every night.
        nights: Local folder; each flow run has a folder in it, and goes on there when it is retried.

    Raises:
        BadInput: The input cannot work.
        MachineFault: A model or the device failed; the same flow run goes on when it is retried.
        RuntimeError: Training was stopped by its watchdog.

    """
    outcome = run_night(spec, nights / str(flow_run.id), Steps(_curate, _train, _evaluate))
    show_decision(outcome)
    return outcome


def _curate(spec: CurationSpec, out: str) -> dict[str, Any]:
    document: dict[str, Any] = curate_tiles(spec, out)
    return document


def _train(spec: TrainSpec, folder: Path, device: str) -> TrainOutcome:
    outcome = train_prompter(spec, folder, device)
    show_training(folder, outcome)
    return outcome


def _evaluate(spec: EvaluationSpec, out: str, device: str) -> dict[str, Any]:
    document = evaluate_prompter(spec, out, device)
    show_scores(spec, document, out, who=Path(out).name)
    return document
