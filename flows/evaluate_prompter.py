"""Scoring a prompter as a Prefect flow: the same as `t2s evaluate`, with the scores as an artifact of the run."""

from typing import Any

from prefect import flow
from prefect.artifacts import create_table_artifact

from pipeline.evaluation import EvaluationSpec
from t2s_core.training.evaluation_tables import ablation_rows, score_rows
from tasks.training import evaluate_prompter as evaluate_task


@flow(name="evaluate-prompter", persist_result=False)
def evaluate_prompter(spec: EvaluationSpec, out: str | None = None, device: str = "auto") -> dict[str, Any]:
    """Score a prompter on a data set; the document that `t2s evaluate --json` prints.

    Args:
        spec: The data set, the models, and what of a reply the segmenter is shown.
        out: A path or any fsspec URL for scores, samples and gallery; None for the artifact alone.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.

    Raises:
        BadInput: The input cannot work.
        MachineFault: A model gave no answer.

    """
    document = evaluate_task(spec, out, device)
    create_table_artifact(
        key=f"scores-{spec.dataset}",
        table=ablation_rows(document) if spec.is_ablation else score_rows(document),
        description=(
            f"{document['n']} samples of {document['dataset']} ({document['n_bad']} could not be used), "
            f"prompter {document['prompter']}"
        ),
    )
    return document
