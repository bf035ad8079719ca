"""`t2s segment`."""

import json
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli import options as o
from flows.cli.requested import takes_request
from flows.request import Orchestrator, RunRequest
from flows.voice import answer, say

if TYPE_CHECKING:
    from pipeline.prepare import Prepared
    from pipeline.region import Outcome

EXIT_CODES = {"SUCCESS": 0, "FAILED": 1, "PARTIAL": 3}


@takes_request
def segment(
    config: str | None,
    given: dict[str, Any],
    *,
    direct: Annotated[bool, typer.Option("--direct", help="Short for --orchestrator direct.")] = False,
    as_json: o.AsJson = False,
) -> None:
    """Answer questions about scenes: masks in Zarr, polygons in GeoParquet.

    Run the same command again after an interruption: what is done is not done twice.

    Examples:
      t2s segment scene.tif --query "the lake" --out results

      t2s segment "scenes/*.tif" --queries questions.yaml --aoi area.gpkg --out s3://bucket/run

      t2s segment "scenes/*.tif" --queries questions.yaml --out results --sample 20

      t2s segment --config run.yaml --device cuda
    """
    from flows.run_file import look_at, read_request
    from pipeline.levels import said_levels
    from t2s_core.errors import BadInput

    read = read_request(config, given | ({"orchestrator": Orchestrator.DIRECT} if direct else {}))
    asked, looked = read.request, look_at(read)
    if looked.prepared is None:
        raise BadInput(*(str(p) for p in looked.problems))
    for problem in looked.prepared.skipped:
        say(f"skipped: {problem}")
    levels = said_levels(looked.prepared.scenes, looked.prepared.spec, looked.prepared.tile_px)
    for line in (*levels, *looked.prepared.notes):
        say(line)
    say(_expectation(looked.prepared, asked))
    outcome = run(looked.prepared, asked)
    if as_json:
        sys.stdout.write(json.dumps(outcome.manifest, ensure_ascii=False) + "\n")
    else:
        answer(summary(outcome, looked.prepared.store.url))
    if looked.prepared.samples is not None:
        _show_sample(looked.prepared)
    raise typer.Exit(EXIT_CODES[outcome.status.value])


def _show_sample(prepared: "Prepared") -> None:
    """Who sits before it sees its report at once."""
    from pipeline.report import NAME

    say("what the sample computed is kept for the whole run: the same command without --sample goes on from it")
    if prepared.store.is_local and sys.stdout.isatty():
        typer.launch(prepared.store.path(NAME))


def _expectation(prepared: "Prepared", asked: RunRequest) -> str:
    from flows.run import rate_book
    from pipeline.estimate import estimate

    expected = estimate(prepared, rate_book(asked.cluster, asked.device), n_workers=asked.workers)
    said = f"{expected['tiles']} tiles, {expected['tile_queries']} tile-queries"
    if expected["seconds"] is None:
        return f"{said}; how long they take is not known: these models have not run here yet"
    return f"{said}: about {expected['seconds']:.0f} s if nothing is done yet"


def run(prepared: "Prepared", asked: RunRequest) -> "Outcome":
    """Run through Prefect or directly, and say which. `prepared`: what a look at all that is asked came to."""
    orchestrator = asked.orchestrator
    if orchestrator is Orchestrator.AUTO:
        orchestrator = Orchestrator.PREFECT if _prefect_api_is_configured() else Orchestrator.DIRECT
        if orchestrator is Orchestrator.DIRECT:
            say("no Prefect API is configured: running directly (--orchestrator prefect starts a temporary server)")
    if orchestrator is Orchestrator.PREFECT:
        return _through_prefect(prepared, asked)
    from flows.run import run_prepared, settings_of

    return run_prepared(prepared, settings_of(asked))


def _through_prefect(prepared: "Prepared", asked: RunRequest) -> "Outcome":
    from flows.segment_region import segment_region
    from flows.temporary_server import is_needed, start
    from pipeline.manifest import RunStatus, read_manifest
    from pipeline.region import Outcome

    if is_needed():
        say("starting Prefect's temporary server, which may take half a minute; --direct runs without Prefect")
        start()
    _leave_engines_to_their_pages()
    state = segment_region(asked, return_state=True)
    if state.is_failed():
        manifest = read_manifest(prepared.store)
        if manifest is not None and manifest["status"] == RunStatus.FAILED and "error" not in manifest:
            return Outcome(RunStatus.FAILED, manifest, 0)  # the flow failed because every tile-query did
    return state.result()  # raises what the flow raised


def _is_of_no_engine(record: logging.LogRecord) -> bool:
    return not record.name.startswith(("prefect.flow_runs", "prefect.task_runs"))


def _leave_engines_to_their_pages() -> None:
    """What Prefect's engines log, tracebacks too, is on the pages of their runs; here the command says it in a line."""
    from prefect.logging.handlers import PrefectConsoleHandler

    for handler in logging.getLogger().handlers:
        if isinstance(handler, PrefectConsoleHandler):
            handler.addFilter(_is_of_no_engine)  # once, however often


def summary(outcome: "Outcome", out: str) -> str:
    """What a person wants to know at the end: what came of it, where it is, how to look at it."""
    from pipeline.reporting.html import plural
    from pipeline.storage import Store

    manifest, counts, store = outcome.manifest, outcome.manifest["counts"], Store.at(out)
    seconds = manifest["timings"]["wall_s"]
    lines = [
        (
            f"{outcome.status.value}: {plural(len(manifest['scenes']), 'scene')}, "
            f"{plural(len(manifest['queries']), 'query', 'queries')}, "
            f"{counts['total']} tile-queries ({outcome.computed} computed now) in {seconds:.1f} s"
        ),
        "  " + ", ".join(f"{counts[k]} {k}" for k in counts if k != "total" and counts[k]),
    ]
    if "estimate" in manifest and outcome.computed:
        expected_s = manifest["estimate"]["seconds"]
        lines.append(f"  expected were {expected_s:.1f} s: {seconds / max(expected_s, 0.1) - 1:+.0%} off")
    lines += [f"  {manifest['features'][q['query_id']]:>6} features  {q['query']}" for q in manifest["queries"]]
    if not any(manifest["features"].values()) and "bundled" in manifest["models"]["prompter"]["name"]:
        lines.append("  the bundled models know only the drawn world of the demo; real imagery wants published weights")
    if counts["failed"]:
        lines.append(f"  {counts['failed']} tile-queries failed; reasons: t2s status {out}")
    lines += [
        f"polygons  {store.href('features')}   geopandas.read_parquet(...)",
        f"masks     {store.href('masks.zarr')}   xarray.open_zarr(.../<scene_id>/<query_id>)",
        f"report    {store.href('report.html')}   open it in a browser",
        f"check     t2s validate {out}",
    ]
    return "\n".join(lines)


def _prefect_api_is_configured() -> bool:
    """In the environment or in the active profile. Prefect itself is imported only where it has been used before."""
    if os.environ.get("PREFECT_API_URL"):
        return True
    home = Path(os.environ.get("PREFECT_HOME", "~/.prefect")).expanduser()
    if not (home / "profiles.toml").exists():
        return False
    from prefect.settings import get_current_settings

    return get_current_settings().api.url is not None
