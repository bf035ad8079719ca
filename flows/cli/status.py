"""`t2s status`."""

import json
import sys
from collections import Counter
from typing import Annotated

import typer

from flows.cli import options as o


def status(
    out: Annotated[str, typer.Argument(help="Directory or URL of a run.", show_default=False)],
    as_json: o.AsJson = False,
) -> None:
    """Say how a run stands, and what failed and why.

    Example:
      t2s status results --json
    """
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
    for title in ("failures", "unparsable"):
        reasons = Counter((f["scene_id"], f["reason"]) for f in document[title])
        for (scene_id, reason), count in reasons.most_common(20):
            typer.echo(f"{title}: {count} x {scene_id}: {reason}")
    for skipped in document["skipped_scenes"]:
        typer.echo(f"skipped: {skipped['href']}: {skipped['problem']}")
