"""`t2s latest`."""

import json
import sys
from typing import Annotated

import typer

from flows.cli import options as o
from flows.voice import say


def latest(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Runs, or folders that hold runs.")],
    out: Annotated[
        str, typer.Option("--out", "-o", help="GeoParquet file to write: a path or URL.")
    ] = "latest.parquet",
    as_json: o.AsJson = False,
) -> None:
    """Write the newest row per place and question of scheduled runs into one GeoParquet file.

    A row stays until a newer scene was asked the same question at its place, whatever came of it.

    Example:
      t2s latest s3://bucket/nightly --out now.parquet
    """
    from pipeline.latest import write_latest

    n = write_latest(runs, out)
    if as_json:
        sys.stdout.write(json.dumps({"href": out, "rows": n}) + "\n")
    else:
        say(f"{n} rows in {out}")
