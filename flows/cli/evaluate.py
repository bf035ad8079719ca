"""`t2s evaluate`."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.cli import options as o
from flows.voice import say

AXES = ("prompt-kind", "segmenter")
_TEXTS = ("metric", "category", "prompt kind", "segmenter")
"""Columns of words; the others hold numbers."""
_MAX_BAD_LINES = 10


def evaluate(
    dataset: o.Dataset,
    root: Annotated[Path | None, typer.Option(help="Directory of the data set; the world needs none.")] = None,
    prompter: o.PrompterName = "bundled",
    registry: o.Registry = None,
    segmenter: o.SegmenterName = "bundled",
    split: Annotated[str, typer.Option(help="train, val or test.", autocompletion=o.Split)] = "test",
    limit: Annotated[int | None, typer.Option(min=1, help="Score at most so many samples.")] = None,
    prompt_kind: Annotated[
        str, typer.Option(help="What of a reply SAM is shown: box, points, box+points, box+points+negatives; points:1.")
    ] = "box+points",
    ablate: Annotated[
        list[str] | None,
        typer.Option(
            help="AXIS=VALUE,VALUE with the axes prompt-kind and segmenter: every combination; repeat for more."
        ),
    ] = None,
    out: Annotated[
        str | None, typer.Option("--out", "-o", help="Directory or URL for scores, samples and gallery.")
    ] = None,
    device: o.Device = "auto",
    as_json: o.AsJson = False,
) -> None:
    """Score a prompter and a segmenter on a data set: gIoU, cIoU and their companions with 95 % intervals.

    Examples:
      t2s evaluate --dataset world --limit 200

      t2s evaluate --dataset earthreason --root EarthReason --prompter qwen_vl:DIR --segmenter sam_hf:DIR --out scores

      t2s evaluate --dataset world --ablate prompt-kind=box,points,box+points --ablate segmenter=bundled,sam_hf:DIR
    """
    axes = combinations(ablate or (), {"prompt-kind": prompt_kind, "segmenter": segmenter})
    from flows.progress import progress_for
    from pipeline.evaluation import EvaluationSpec, run_evaluation
    from pipeline.model_names import addressed

    spec = EvaluationSpec(
        dataset=dataset,
        root=root,
        split=split,
        limit=limit,
        prompter=addressed(prompter, registry),
        segmenters=axes["segmenter"],
        prompt_kinds=axes["prompt-kind"],
    )
    with progress_for() as progress:
        document = run_evaluation(spec, out, device=device, progress=progress)
    for line in document["bad"][:_MAX_BAD_LINES]:
        say(f"not scored: {line}")
    if document["n_bad"] > _MAX_BAD_LINES:
        say(f"not scored: {document['n_bad'] - _MAX_BAD_LINES} more")
    if as_json:
        sys.stdout.write(json.dumps(document, ensure_ascii=False, allow_nan=False) + "\n")
    else:
        _print(document, out)


def combinations(ablate: Sequence[str], values: dict[str, str]) -> dict[str, tuple[str, ...]]:
    """The values of each axis: those that `--ablate` lists, else the option's own one. Raises `BadInput`."""
    from t2s_core.errors import BadInput

    found: dict[str, list[str]] = {}
    problems = []
    for text in ablate:
        axis, equals, listed = text.partition("=")
        some = [value.strip() for value in listed.split(",") if value.strip()]
        if axis.strip() not in AXES or not equals or not some:
            problems.append(
                f"--ablate {text!r}: not AXIS=VALUE,VALUE with {' or '.join(AXES)}; use prompt-kind=box,points"
            )
        found.setdefault(axis.strip(), []).extend(some)
    if problems:
        raise BadInput(*problems)
    return {axis: tuple(dict.fromkeys(found.get(axis, [value]))) for axis, value in values.items()}


def _print(document: dict[str, Any], out: str | None) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from t2s_core.training.evaluation_tables import ablation_rows, category_rows, score_rows

    console = Console()
    what = f"{document['dataset']}: {document['n']} samples"
    tables = (
        [(f"{what}, prompter {document['prompter']}", ablation_rows(document))]
        if "settings" in document
        else [(what, score_rows(document)), ("by category", category_rows(document))]
    )
    for title, rows in tables:
        if not rows:
            continue
        table = Table(title=Text(title), title_justify="left")
        for name in rows[0]:
            table.add_column(name, justify="left" if name in _TEXTS else "right", overflow="fold")
        for row in rows:
            table.add_row(*(Text(cell) for cell in row.values()))  # as text: a category may look like markup
        console.print(table)
    if out is not None:
        from pipeline.storage import Store

        typer.echo(f"written to {Store.at(out).url}")
