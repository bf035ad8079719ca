"""`t2s plan`."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli import options as o
from flows.cli.requested import takes_request
from flows.voice import say

if TYPE_CHECKING:
    from pipeline.prepare import Looked


@takes_request
def plan(
    config: str | None,
    given: dict[str, Any],
    *,
    preview: Annotated[
        Path | None,
        typer.Option("--preview", metavar="FILE.html", help="Write a map of the scenes with the tiles on it."),
    ] = None,
    as_json: o.AsJson = False,
) -> None:
    """Say what a run would do and what is wrong with its input; load, compute and write nothing.

    With --preview, also write a page with the map, pictures of the scenes and the tiles on it.

    Examples:
      t2s plan "scenes/*.tif" --query "the lake" --out results

      t2s plan "scenes/*.tif" --query "the lake" --out results --preview plan.html

      t2s plan --config run.yaml
    """
    from flows.run import rate_book
    from flows.run_file import look_at, read_request
    from pipeline.estimate import estimate

    read = read_request(config, {"out": "out", **given})
    asked, looked = read.request, look_at(read)
    document = {
        **estimate(looked.prepared, rate_book(asked.cluster, asked.device), n_workers=asked.workers),
        "notes": [] if looked.prepared is None else list(looked.prepared.notes),
        "problems": [{"href": p.href, "problem": p.problem} for p in looked.problems],
    }
    if preview is not None and looked.prepared is not None:
        from pipeline.reporting.preview import preview as page_of

        preview.write_text(page_of(looked.prepared, document, looked.problems), encoding="utf-8")
        say(f"map       {preview.absolute()}     open it in a browser")
    if as_json:
        sys.stdout.write(json.dumps(document, ensure_ascii=False) + "\n")
    else:
        _print(document, looked)
    raise typer.Exit(2 if looked.problems else 0)


def _print(document: dict[str, Any], looked: "Looked") -> None:
    for problem in looked.problems:
        say(str(problem), "error")
    if looked.prepared is None:
        return
    from pipeline.levels import said_levels
    from pipeline.reporting.html import plural

    mpx, mb = document["pixels"] / 1e6, document["bytes"] / 1e6
    typer.echo(f"{plural(document['scenes'], 'scene')}, {mpx:.1f} Mpx, {mb:.1f} MB of pixels to read")
    typer.echo(f"{document['tiles']} tiles of {looked.prepared.tile_px} px, {document['tile_queries']} tile-queries")
    levels = said_levels(looked.prepared.scenes, looked.prepared.spec, looked.prepared.tile_px)
    for line in (*levels, *looked.prepared.notes):
        typer.echo(line)
    if document["seconds"] is None:
        typer.echo("time: unknown until these models have run here once; nothing was measured yet")
    else:
        typer.echo(
            f"time: about {document['seconds']:.0f} s, tokens: about {document['tokens']}, "
            f"by what run {document['measured_by']} took"
        )
