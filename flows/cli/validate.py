"""`t2s validate`."""

import json
import sys

import typer

from flows.cli import options as o


def validate(
    out: o.OfRun,
    as_json: o.AsJson = False,
) -> None:
    """Check everything a run left: formats, checksums, and that masks, polygons, COGs, STAC and run.json agree.

    Reads all of it, a block at a time. Exits 1 where anything is wrong, 2 where no run can be read.

    Examples:
      t2s validate results

      t2s validate s3://bucket/run --json
    """
    from flows.progress import progress_for
    from pipeline.validate import validate_run

    with progress_for() as progress:
        document = validate_run(out, progress)
    if as_json:
        sys.stdout.write(json.dumps(document, ensure_ascii=False) + "\n")
    else:
        for check in document["checks"]:
            typer.echo(f"{'ok  ' if check['ok'] else 'FAIL'}  {check['name']:<14}  {check['detail']}")
    raise typer.Exit(0 if document["ok"] else 1)
