"""The nightly job as a Prefect flow: curate, train, evaluate, decide; the decision is an artifact of the run."""

from pathlib import Path
from typing import Any

from prefect import flow
from prefect.artifacts import create_markdown_artifact

from flows.curate_tiles import curate_tiles
from pipeline.curate_spec import CurationSpec
from pipeline.nightly import NightOutcome, NightSpec, Steps, run_night
from tasks.training import evaluate_prompter, train_prompter


@flow(name="retrain-nightly", persist_result=False)
def retrain_nightly(spec: NightSpec, folder: Path) -> NightOutcome:
    """Do a night's work in `folder`, or what a crash left of it.

    Args:
        spec: What is done every night.
        folder: Local, one for each night.

    Raises:
        BadInput: The input cannot work, or the folder holds another night.
        MachineFault: A model or the device failed; the same call goes on.
        RuntimeError: Training was stopped by its watchdog.

    """
    outcome = run_night(spec, folder, Steps(_curate, train_prompter, evaluate_prompter))
    create_markdown_artifact(
        key="nightly-decision",
        markdown=f"**{outcome.decision.why}**\n\nChallenger {outcome.challenger}, champion now {outcome.champion}.",
        description="Whether tonight's prompter became champion, and why",
    )
    return outcome


def _curate(spec: CurationSpec, out: str) -> dict[str, Any]:
    document: dict[str, Any] = curate_tiles(spec, out)
    return document
