"""What an evaluation comes to in numbers: the scores as JSON, the samples as Parquet, the same as rows to print."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields
from typing import Any

import numpy as np

from t2s_core import metrics
from t2s_core.engine import AnswerStatus
from t2s_core.metrics import Metric
from t2s_core.training.evaluate import Evaluation, Row, counts_of

METRICS = ("giou", "ciou", "ciou_paper", "no_target_accuracy", "format_rate")
_HEADINGS = {
    "giou": "gIoU",
    "ciou": "cIoU",
    "ciou_paper": "paper's",
    "no_target_accuracy": "absent",
    "format_rate": "format",
}
"""Short, so that a table of many columns fits a terminal."""
PRECISION_AT = (0.5, 0.7, 0.9)
Document = dict[str, Any]
"""What `json.dumps(..., allow_nan=False)` takes."""


def scores(evaluation: Evaluation) -> Document:
    """The document of one evaluation: what was measured on what, every metric, and the table of categories."""
    return {
        **_what(evaluation),
        "prompter": evaluation.prompter,
        "segmenter": evaluation.segmenter,
        "prompt_kind": str(evaluation.kind),
        "n": len(evaluation.rows),
        "n_bad": len(evaluation.bad),
        "bad": list(evaluation.bad),
        "statuses": {s.value: sum(row.status == s for row in evaluation.rows) for s in AnswerStatus},
        **metrics_of(evaluation.rows),
        "seconds": sum(row.seconds for row in evaluation.rows),
        "categories": _by_category(evaluation.rows),
    }


def ablation(evaluations: Sequence[Evaluation]) -> Document:
    """All settings side by side. `giou_gain` is a setting's paired difference to the first one, on the same samples."""
    first = evaluations[0]
    return {
        **_what(first),
        "prompter": first.prompter,
        "n": len(first.rows),
        "n_bad": len(first.bad),
        "bad": list(first.bad),
        "settings": [
            {
                "prompt_kind": str(evaluation.kind),
                "segmenter": evaluation.segmenter,
                **metrics_of(evaluation.rows),
                "giou_gain": number(metrics.paired_bootstrap(evaluation.counts.iou, first.counts.iou)),
                "seconds": sum(row.seconds for row in evaluation.rows),
            }
            for evaluation in evaluations
        ],
    }


def number(metric: Metric) -> Document:
    """`{value, ci95: [low, high]}`, with null for what no sample bears on."""
    return {"value": _finite(metric.value), "ci95": [_finite(end) for end in metric.ci95]}


def samples_parquet(evaluations: Iterable[Evaluation]) -> bytes:
    """A Parquet file: the columns of `Row`, then `prompt_kind` and `segmenter`; a row for each sample and setting."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {str: pa.string(), int: pa.int64(), float: pa.float64()}
    schema = pa.schema(
        [(field.name, types[field.type]) for field in fields(Row)]  # type: ignore[index]
        + [("prompt_kind", pa.string()), ("segmenter", pa.string())]
    )
    records = [
        {**asdict(row), "prompt_kind": str(evaluation.kind), "segmenter": evaluation.segmenter}
        for evaluation in evaluations
        for row in evaluation.rows
    ]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(records, schema=schema), sink, compression="zstd")
    return bytes(sink.getvalue().to_pybytes())


def _what(evaluation: Evaluation) -> Document:
    return {"dataset": evaluation.dataset, "fingerprint": evaluation.fingerprint}


def metrics_of(rows: Sequence[Row]) -> Document:
    """Every metric of some samples, each `{value, ci95}`; `precision` by its threshold."""
    counts = counts_of(rows)
    return {
        "giou": number(metrics.giou(counts)),
        "ciou": number(metrics.ciou(counts)),
        "ciou_paper": number(metrics.ciou_paper(counts)),
        "no_target_accuracy": number(metrics.no_target_accuracy(counts)),
        "format_rate": number(metrics.format_rate(np.array([r.status != AnswerStatus.UNPARSABLE for r in rows]))),
        "precision": {str(at): number(metrics.precision_at(counts, at)) for at in PRECISION_AT},
    }


def _by_category(rows: Sequence[Row]) -> list[Document]:
    """Empty where the set has no categories."""
    names = sorted({row.category for row in rows})
    if names == [""]:
        return []
    groups = {name: [row for row in rows if row.category == name] for name in names}
    return [{"category": name, "n": len(some), **metrics_of(some)} for name, some in groups.items()]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def score_rows(document: Document) -> list[dict[str, str]]:
    """`scores` to print: a row for each metric."""
    single = {name: document[name] for name in METRICS}
    single |= {f"precision at {at}": metric for at, metric in document["precision"].items()}
    return [{"metric": name, **_cells(metric)} for name, metric in single.items()]


def category_rows(document: Document) -> list[dict[str, str]]:
    """`scores` to print: a row for each category, none where the set has no categories."""
    return [
        {"category": row["category"], "n": str(row["n"]), **_values(row, METRICS)} for row in document["categories"]
    ]


def ablation_rows(document: Document) -> list[dict[str, str]]:
    """`ablation` to print: a row for each setting."""
    return [
        {
            "prompt kind": row["prompt_kind"],
            "segmenter": row["segmenter"],
            **_values(row, ("giou", "ciou", "no_target_accuracy")),
            "gain": "{value} ({low} to {high})".format(**_cells(row["giou_gain"])),
        }
        for row in document["settings"]
    ]


def _values(row: Document, names: Iterable[str]) -> dict[str, str]:
    return {_HEADINGS[name]: _short(row[name]["value"]) for name in names}


def _cells(metric: Document) -> dict[str, str]:
    low, high = metric["ci95"]
    return {"value": _short(metric["value"]), "low": _short(low), "high": _short(high)}


def _short(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"
