"""`t2s plan`."""

import json
import sys
from typing import TYPE_CHECKING, Any

import typer

from flows.cli import options as o

if TYPE_CHECKING:
    from pipeline.prepare import Looked


def plan(
    scenes: o.Scenes,
    out: o.Out = "out",
    query: o.QueryTexts = None,
    queries: o.QueryFile = None,
    aoi: o.AoiFile = None,
    bands: o.Bands = None,
    nodata: o.Nodata = None,
    allow_hosts: o.AllowHosts = None,
    prompter: o.PrompterName = "bundled",
    registry: o.Registry = None,
    segmenter: o.SegmenterName = "bundled",
    prompt_template: o.TemplateFile = None,
    tile_px: o.TilePx = None,
    overlap_px: o.OverlapPx = None,
    levels: o.Levels = "1",
    first_look: o.FirstLook = None,
    batch_tiles: o.BatchTiles = 8,
    gsd: o.Gsd = None,
    threshold: o.Threshold = 0.5,
    mode: o.FeatureMode = "semantic",
    min_area_m2: o.MinArea = 0.0,
    simplify_m: o.Simplify = 0.0,
    skip_bad_scenes: o.SkipBad = False,
    cog: o.Cog = False,
    shard_px: o.ShardPx = None,
    workers: o.NWorkers = None,
    cluster: o.Cluster = "local",
    device: o.Device = "auto",
    preview: o.Preview = None,
    as_json: o.AsJson = False,
) -> None:
    """Say what a run would do and what is wrong with its input; load, compute and write nothing.

    With --preview, also write a page with the map, pictures of the scenes and the tiles on it.

    Examples:
      t2s plan "scenes/*.tif" --query "the lake" --out results

      t2s plan "scenes/*.tif" --query "the lake" --out results --preview plan.html
    """
    from flows.cli.request import Request
    from flows.run import rate_book
    from pipeline.estimate import estimate

    request = Request(
        scenes, query or [], queries, out, aoi, bands, nodata, prompter, segmenter, prompt_template,
        tile_px, overlap_px, levels, threshold, skip_bad_scenes=skip_bad_scenes, registry=registry, gsd=gsd, cog=cog,
        mode=mode, min_area_m2=min_area_m2, simplify_m=simplify_m, shard_px=shard_px,
        first_look=first_look, batch_tiles=batch_tiles, allow_hosts=allow_hosts or (),
    )  # fmt: skip
    _, looked = request.look()
    document = {
        **estimate(looked.prepared, rate_book(cluster, device), n_workers=workers),
        "problems": [{"href": p.href, "problem": p.problem} for p in looked.problems],
    }
    if preview is not None and looked.prepared is not None:
        from pipeline.reporting.preview import preview as page_of

        preview.write_text(page_of(looked.prepared, document, looked.problems), encoding="utf-8")
        typer.echo(f"map       {preview.absolute()}     open it in a browser", err=True)
    if as_json:
        sys.stdout.write(json.dumps(document, ensure_ascii=False) + "\n")
    else:
        _print(document, looked)
    raise typer.Exit(2 if looked.problems else 0)


def _print(document: dict[str, Any], looked: "Looked") -> None:
    for problem in looked.problems:
        typer.echo(f"error: {problem}", err=True)
    if looked.prepared is None:
        return
    from pipeline.levels import said_levels

    mpx, mb = document["pixels"] / 1e6, document["bytes"] / 1e6
    typer.echo(f"{document['scenes']} scenes, {mpx:.1f} Mpx, {mb:.1f} MB of pixels to read")
    typer.echo(f"{document['tiles']} tiles of {looked.prepared.tile_px} px, {document['tile_queries']} tile-queries")
    for line in said_levels(looked.prepared.scenes, looked.prepared.spec, looked.prepared.tile_px):
        typer.echo(line)
    if document["seconds"] is None:
        typer.echo("time: unknown until these models have run here once; nothing was measured yet")
    else:
        typer.echo(
            f"time: about {document['seconds']:.0f} s, tokens: about {document['tokens']}, "
            f"by what run {document['measured_by']} took"
        )
