"""Scoring a prompter as a Prefect flow: the same as `t2s evaluate`, with its scores and worst cases as artifacts."""

from typing import Any

from prefect import flow

from flows.artifacts import show_scores
from pipeline.evaluation import EvaluationSpec
from tasks.training import evaluate_prompter as evaluate_task


@flow(name="evaluate-prompter", persist_result=False)
def evaluate_prompter(spec: EvaluationSpec, out: str | None = None, device: str = "auto") -> dict[str, Any]:
    """Score a prompter on a data set; the document that `t2s evaluate --json` prints.

    Args:
        spec: The data set, the models, and what of a reply the segmenter is shown.
        out: A path or any fsspec URL for scores, samples and gallery; None for the table of scores alone.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.

    Raises:
        BadInput: The input cannot work.
        MachineFault: A model gave no answer.

    """
    document = evaluate_task(spec, out, device)
    show_scores(spec, document, out)
    return document
