"""`t2s restitch`."""

import json
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from flows.cli import completion
from flows.cli import options as o
from flows.voice import answer


def restitch(
    out: o.OfRun,
    threshold: Annotated[
        float | None, typer.Option(help="Probability from which a pixel is target, for every query.")
    ] = None,
    query: Annotated[
        list[str] | None,
        typer.Option(
            "--query",
            "-q",
            metavar="ID=THRESHOLD",
            help="One query's own; repeat for more.",
            autocompletion=completion.thresholds,
        ),
    ] = None,
    mode: Annotated[
        str | None,
        typer.Option(help="semantic or instance, for every query.", autocompletion=completion.BY_KEY["mode"]),
    ] = None,
    min_area_m2: Annotated[float | None, typer.Option("--min-area-m2", help=o.same("min_area_m2"))] = None,
    simplify_m: Annotated[float | None, typer.Option("--simplify-m", help=o.same("simplify_m"))] = None,
    workers: o.NWorkers = None,
    cluster: o.Cluster = "local",
    as_json: o.AsJson = False,
) -> None:
    """Make masks and features anew with other thresholds or rules, without asking a model again.

    What is not named stays as it is. Interrupted, the same command goes on.

    Examples:
      t2s restitch results --threshold 0.6

      t2s restitch results --query the-lake=0.4 --mode instance --min-area-m2 25
    """
    from flows.cli.segment import EXIT_CODES, summary
    from flows.progress import progress_for
    from flows.run import RunSettings
    from flows.workers import WorkersOnDemand, cluster_problems
    from pipeline.preflight import attempt
    from pipeline.queries import feature_rules
    from pipeline.restitch import Changes
    from pipeline.restitch import restitch as run
    from t2s_core.errors import BadInput

    rules, of_rules = attempt("--mode", lambda: feature_rules(mode or "semantic", min_area_m2 or 0, simplify_m or 0))
    thresholds, of_queries = attempt("--query", lambda: _thresholds(query or ()))
    if problems := [*of_rules, *of_queries, *cluster_problems(cluster, "cpu")]:
        raise BadInput(*map(str, problems))
    assert rules is not None  # so here: each of them is missing only where it has a problem
    assert thresholds is not None
    changes = Changes(threshold, None if mode is None else rules.mode, min_area_m2, simplify_m, thresholds)
    with WorkersOnDemand(cluster, workers) as on_demand, progress_for() as progress:
        outcome = run(out, changes, on_demand, progress, scenes_at_once=RunSettings().scenes_at_once)
    if as_json:
        sys.stdout.write(json.dumps(outcome.manifest, ensure_ascii=False) + "\n")
    else:
        answer(summary(outcome, out))
    raise typer.Exit(EXIT_CODES[outcome.status.value])


def _thresholds(texts: Sequence[str]) -> dict[str, float]:
    """By query id. Raises `BadInput`."""
    from t2s_core.errors import BadInput

    thresholds = {}
    for text in texts:
        query_id, _, value = text.rpartition("=")
        try:
            thresholds[query_id] = float(value)
        except ValueError:
            raise BadInput(f"{text!r} is no ID=THRESHOLD; write e.g. the-lake=0.4") from None
    return thresholds
