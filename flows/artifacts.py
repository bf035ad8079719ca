"""What a flow shows of its work in Prefect's pages: tables, and pictures that are part of the page.

A picture is an image artifact with a data URI: both of Prefect's user interfaces show it, with no file server between,
while the newer one drops data URIs from markdown.
"""

import base64
from pathlib import Path
from typing import Any

from prefect.artifacts import create_image_artifact, create_markdown_artifact, create_table_artifact

from pipeline.evaluation import WORST, EvaluationSpec
from pipeline.nightly import NightOutcome
from pipeline.storage import Store
from t2s_core.training.curves import NAMES, CurveTable
from t2s_core.training.evaluation_tables import ablation_rows, score_rows
from t2s_core.training.grpo import TrainOutcome

_MAX_ROWS = 60
"""Of the table of curves: a page is to be read. `curves.parquet` has every step."""


def show_training(folder: Path, outcome: TrainOutcome) -> None:
    """The curves as a table and as a picture."""
    said = f"{outcome.status.value} at step {outcome.steps}. {outcome.reason}".strip()
    rows = CurveTable(folder).thinned(_MAX_ROWS)
    create_table_artifact(
        key="training-curves",
        table=[{"step": step, **{NAMES[name]: round(value, 4) for name, value in row.items()}} for step, row in rows],
        description=said,
    )
    _show_picture("training-plot", (folder / "curves.png").read_bytes(), "png", said)


def show_scores(spec: EvaluationSpec, document: dict[str, Any], out: str | None, who: str = "") -> None:
    """The scores as a table and, where the evaluation wrote them, its worst cases as a picture.

    Args:
        spec: What was scored.
        document: What came of it.
        out: Where the evaluation wrote.
        who: Tells artifacts of one flow apart: `champion`, `challenger`.

    """
    place = "-".join(part for part in (spec.dataset, who) if part)
    said = (
        f"{document['n']} samples of {document['dataset']} ({document['n_bad']} could not be used), "
        f"prompter {document['prompter']}"
    )
    table = ablation_rows(document) if spec.is_ablation else score_rows(document)
    create_table_artifact(key=f"scores-{place}", table=table, description=said)
    if out is not None and not spec.is_ablation:
        legend = "worst cases: truth outlined in white, prediction in orange, boxes and points in cyan"
        _show_picture(f"worst-{place}", Store.at(out).read(WORST), "jpeg", f"{said}; {legend}")


def show_decision(outcome: NightOutcome) -> None:
    """Whether tonight's prompter became champion, and why."""
    decision = outcome.decision
    low, high = decision.giou_gain_ci95
    facts = {
        "samples that both were scored on": decision.n,
        "gIoU, challenger minus champion": f"{decision.giou_gain:+.4f} (95 % interval {low:+.4f} to {high:+.4f})",
        "accuracy on absent targets, champion": decision.no_target_champion,
        "accuracy on absent targets, challenger": decision.no_target_challenger,
        "challenger": outcome.challenger,
        "champion now": outcome.champion,
    }
    rows = "".join(f"| {name} | {'-' if value is None else value} |\n" for name, value in facts.items())
    create_markdown_artifact(
        key="nightly-decision",
        markdown=f"**{decision.why}**\n\n| | |\n|---|---|\n{rows}",
        description="Whether tonight's prompter became champion, and why",
    )


def _show_picture(key: str, data: bytes, kind: str, description: str) -> None:
    uri = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    create_image_artifact(image_url=uri, key=key, description=description)
