"""`t2s export`."""

import json
import sys
from enum import StrEnum
from typing import Annotated

import typer

from flows.cli import completion
from flows.cli import options as o


class FileFormat(StrEnum):
    """What GDAL writes."""

    GPKG = "gpkg"
    GEOJSON = "geojson"
    FGB = "fgb"


def export(
    run: o.OfRun,
    file_format: Annotated[FileFormat, typer.Option("--format", help="gpkg, geojson or fgb.")] = FileFormat.GPKG,
    query: Annotated[
        list[str] | None,
        typer.Option(
            "--query",
            "-q",
            help="Id of a query of the run; all by default; repeat for more.",
            autocompletion=completion.queries,
        ),
    ] = None,
    out: Annotated[
        str | None, typer.Option("--out", "-o", help="File or URL; features.FORMAT in this folder by default.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there.")] = False,
    as_json: o.AsJson = False,
) -> None:
    """Write the features of a run as one file, for QGIS, a browser or a colleague.

    Examples:
      t2s export results --format gpkg --out lakes.gpkg

      t2s export s3://bucket/run --format geojson --query the-lake --out lakes.geojson
    """
    from pipeline.export import export_features

    written = export_features(run, file_format.value, query_ids=query or [], target=out, overwrite=overwrite)
    if as_json:
        sys.stdout.write(json.dumps({"href": written.href, "n_features": written.n_features}) + "\n")
    else:
        typer.echo(f"{written.n_features} features  {written.href}")
