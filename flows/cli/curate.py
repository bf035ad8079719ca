"""`t2s curate`."""

import json
import sys
from typing import Annotated, Any

import typer

from flows.cli import options as o
from flows.voice import say

_PARTIAL = 3


def curate(
    given_scenes: Annotated[
        list[str] | None,
        typer.Argument(metavar="[SCENE...]", help="Labelled scenes: paths, globs, directories or URLs."),
    ] = None,
    out: Annotated[str, typer.Option("--out", "-o", help="Directory or URL of the data set.")] = "curated",
    scenes: Annotated[list[str] | None, typer.Option("--scenes", help="The same as SCENE; repeat for more.")] = None,
    labels: Annotated[
        list[str] | None, typer.Option(help="Vector file of outlines, or raster of class values; repeat for more.")
    ] = None,
    labels_cover: Annotated[
        str | None, typer.Option(help="Polygons within which labels are complete; their bounds by default.")
    ] = None,
    query: Annotated[str | None, typer.Option("--query", "-q", help="What every label shows.")] = None,
    query_column: Annotated[str | None, typer.Option(help="Column that holds each label's query.")] = None,
    query_template: Annotated[str | None, typer.Option(help="'the {class}': query with columns in braces.")] = None,
    class_values: Annotated[str | None, typer.Option(help="JSON file {value: query}.")] = None,
    phrasings: Annotated[str | None, typer.Option(help="YAML file {query: [other texts for it]}.")] = None,
    from_run: Annotated[str | None, typer.Option(help="Run whose features were corrected.")] = None,
    features: Annotated[str | None, typer.Option(help="The corrected features: any vector file.")] = None,
    reviewed: Annotated[
        list[str] | None,
        typer.Option(help="[SCENE_ID/]QUERY_ID that the corrections are truth for; all by default; repeat for more."),
    ] = None,
    hard_from: Annotated[str | None, typer.Option(help="Run whose doubtful tiles are listed in hard.parquet.")] = None,
    min_disagreement: Annotated[float, typer.Option(help="Share of claimed overlap that makes a tile doubtful.")] = 0.5,
    asset: o.Asset = None,
    bands: o.Bands = None,
    nodata: o.Nodata = None,
    allow_hosts: o.AllowHosts = None,
    tile_px: Annotated[int | None, typer.Option(help="Chip side in pixels; the run's or the prompter's own.")] = None,
    prompter: Annotated[str, typer.Option(help="Who will be trained; only its tile side is looked at.")] = "bundled",
    overlap_px: Annotated[int, typer.Option(help="What neighbouring chips share.")] = 0,
    levels: Annotated[str, typer.Option(help="Overview factors at which chips are cut, e.g. 1,4.")] = "1",
    block_m: Annotated[float | None, typer.Option(help="Side of the blocks of splits; about 8 chips.")] = None,
    val: Annotated[float, typer.Option(help="Share of blocks for validation.")] = 0.1,
    test: Annotated[float, typer.Option(help="Share of blocks for tests.")] = 0.1,
    seed: Annotated[int, typer.Option(help="Decides splits and absent examples.")] = 0,
    absent_rate: Annotated[float, typer.Option(help="Examples without target per example with one.")] = 0.5,
    min_target_px: Annotated[int, typer.Option(help="Pixels from which a target counts.")] = 16,
    fresh: Annotated[bool, typer.Option("--fresh", help="Replace another data set in OUT.")] = False,
    as_json: o.AsJson = False,
) -> None:
    """Cut chips with true masks for training: from labels, from corrected features; and list hard tiles.

    Splits are blocks of ground: no pixel of a test chip is in a training chip, of whatever scene.

    Examples:
      t2s curate "scenes/*.tif" --labels lakes.gpkg --query-template "the {class}" --out tiles

      t2s curate --from-run results --features corrected.gpkg --hard-from results --out tiles
    """
    from flows.cli.options import numbers
    from flows.progress import progress_for
    from pipeline.curate import run_curation
    from pipeline.curate_prepare import prepare_curation
    from pipeline.curate_spec import CurationSpec
    from pipeline.curate_summary import left_out_lines
    from pipeline.preflight import attempt

    chosen_bands, of_bands = attempt("--bands", lambda: o.bands(bands))
    chosen_levels, of_levels = attempt("--levels", lambda: numbers("--levels", levels))
    spec = CurationSpec(
        scenes=(*(given_scenes or ()), *(scenes or ())),
        labels=tuple(labels or []),
        labels_cover=labels_cover,
        query_column=query_column,
        query_template=query_template,
        query=query,
        class_values=class_values,
        phrasings=phrasings,
        from_run=from_run,
        features=features,
        reviewed=tuple(reviewed or []),
        hard_from=hard_from,
        min_disagreement=min_disagreement,
        asset=asset,
        bands=chosen_bands,
        nodata=nodata,
        allow_hosts=tuple(allow_hosts or []),
        tile_px=tile_px,
        prompter=prompter,
        overlap_px=overlap_px,
        levels=chosen_levels or (1,),
        block_m=block_m,
        val=val,
        test=test,
        seed=seed,
        absent_rate=absent_rate,
        min_target_px=min_target_px,
    )
    prepared = prepare_curation(spec, out, fresh=fresh, earlier=[*of_bands, *of_levels])
    with progress_for() as progress:
        document = run_curation(prepared, progress, fresh=fresh)
    if as_json:
        sys.stdout.write(json.dumps(document, ensure_ascii=False) + "\n")
    else:
        _print(document)
    for line in left_out_lines(document):
        say(line)
    say(f"written to {prepared.settings.store.url}, fingerprint {document['fingerprint']}")
    raise typer.Exit(_PARTIAL if document["counts"]["windows"].get("unreadable") else 0)


def _print(document: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title="samples: target present / absent", title_justify="left")
    table.add_column("query", overflow="fold")
    for name in document["splits"]:
        table.add_column(name, justify="right")
    for entry in [*document["counts"]["queries"], {"query": "all", **document["splits"]}]:
        cells = [f"{entry[name]['present']} / {entry[name]['absent']}" for name in document["splits"]]
        table.add_row(Text(entry["query"]), *cells)  # as text: a query may look like markup
    Console().print(table)
    if document["counts"]["hard"]:
        listed = ", ".join(f"{count} {status}" for status, count in document["counts"]["hard"].items())
        typer.echo(f"hard.parquet lists doubtful tiles for labelling: {listed}")
