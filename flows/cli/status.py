"""`t2s status`."""

import json
import sys

import typer

from flows.cli import options as o

_MAX_REASONS = 20


def status(
    out: o.OfRun,
    as_json: o.AsJson = False,
) -> None:
    """Say how a run stands, and what failed and why.

    Example:
      t2s status results --json
    """
    from pipeline.reasons import grouped
    from pipeline.status import run_status

    document = run_status(out)
    if as_json:
        sys.stdout.write(json.dumps(document, ensure_ascii=False) + "\n")
        return
    counts = document["tile_queries"]
    typer.echo(
        f"{document['status']}: {counts['total'] - counts['pending']} of {counts['total']} tile-queries are done"
    )
    for name, count in counts.items():
        if name != "total" and count:
            typer.echo(f"  {count:>8} {name}")
    if document["error"]:
        typer.echo(f"ended by {document['error']}")
    for title, groups in (
        ("failed", document["failure_reasons"]),
        ("unparsable", grouped(document["unparsable"])),
    ):
        for group in groups[:_MAX_REASONS]:
            typer.echo(f"{title}: {group['count']} x {group['reason']} (e.g. {group['example_tile']})")
        if len(groups) > _MAX_REASONS:
            typer.echo(f"{title}: {len(groups) - _MAX_REASONS} more reasons; --json has them all")
    for name in document["damaged"]:
        typer.echo(f"damaged: {name}; the next run puts it aside and computes anew what it held")
    for skipped in document["skipped_scenes"]:
        typer.echo(f"skipped: {skipped['href']}: {skipped['problem']}")
