"""`t2s segment`."""

import json
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli import options as o

if TYPE_CHECKING:
    from flows.run import RunSettings
    from pipeline.prepare import Prepared
    from pipeline.region import Outcome
    from pipeline.spec import RunSpec


class Orchestrator(StrEnum):
    """Who calls the stages."""

    AUTO = "auto"
    PREFECT = "prefect"
    DIRECT = "direct"


EXIT_CODES = {"SUCCESS": 0, "FAILED": 1, "PARTIAL": 3}


def segment(
    scenes: o.Scenes,
    out: o.Out,
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
    max_unparsable: o.MaxUnparsable = 0.02,
    max_failed: o.MaxFailed = None,
    skip_bad_scenes: o.SkipBad = False,
    cog: o.Cog = False,
    shard_px: o.ShardPx = None,
    sample: o.Sample = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Ask again where a machine failed.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Throw away what earlier runs left in OUT.")] = False,
    workers: o.NWorkers = None,
    cluster: o.Cluster = "local",
    device: o.Device = "auto",
    orchestrator: Annotated[
        Orchestrator, typer.Option(help="auto: Prefect where its API is configured, else direct.")
    ] = Orchestrator.AUTO,
    direct: Annotated[bool, typer.Option("--direct", help="Short for --orchestrator direct.")] = False,
    as_json: o.AsJson = False,
) -> None:
    """Answer questions about scenes: masks in Zarr, polygons in GeoParquet.

    Run the same command again after an interruption: what is done is not done twice.

    Examples:
      t2s segment scene.tif --query "the lake" --out results

      t2s segment "scenes/*.tif" --queries questions.yaml --aoi area.gpkg --out s3://bucket/run

      t2s segment "scenes/*.tif" --queries questions.yaml --out results --sample 20
    """
    from flows.cli.request import Request
    from flows.run import RunSettings
    from pipeline.levels import said_levels
    from pipeline.sample import FOLDER as SAMPLE
    from t2s_core.errors import BadInput

    region, out = out, out if sample is None else f"{out.rstrip('/')}/{SAMPLE}"
    request = Request(
        scenes, query or [], queries, out, aoi, bands, nodata, prompter, segmenter, prompt_template,
        tile_px, overlap_px, levels, threshold, max_unparsable, skip_bad_scenes, registry, gsd, cog,
        mode=mode, min_area_m2=min_area_m2, simplify_m=simplify_m, shard_px=shard_px,
        first_look=first_look, batch_tiles=batch_tiles, allow_hosts=allow_hosts or (),
        max_failed=max_failed, sample=sample,
    )  # fmt: skip
    _, looked = request.look()
    if looked.prepared is None:
        raise BadInput(*(str(p) for p in looked.problems))
    for problem in looked.prepared.skipped:
        _say(f"skipped: {problem}")
    for line in said_levels(looked.prepared.scenes, looked.prepared.spec, looked.prepared.tile_px):
        _say(line)
    _say(_expectation(looked.prepared, cluster, device, workers))
    settings = RunSettings(cluster=cluster, workers=workers, device=device, retry_failed=retry_failed, fresh=fresh)
    outcome = run(looked.prepared, out, settings, Orchestrator.DIRECT if direct else orchestrator)
    if sample is not None:
        _keep_sample(out, region)
    if as_json:
        sys.stdout.write(json.dumps(outcome.manifest, ensure_ascii=False) + "\n")
    else:
        _say(summary(outcome, out))
    raise typer.Exit(EXIT_CODES[outcome.status.value])


def _keep_sample(out: str, region: str) -> None:
    """What a sample computed is not computed again; who sits before it sees its report at once."""
    from pipeline.report import NAME
    from pipeline.sample import keep
    from pipeline.storage import Store

    sample, store = Store.at(out), Store.at(region)
    _say(f"{keep(sample, store)} new objects of tile results are kept for the whole run in {store.url}")
    if sample.is_local and sys.stdout.isatty():
        typer.launch(sample.path(NAME))


def _expectation(prepared: "Prepared", cluster: str, device: str, workers: int | None) -> str:
    from flows.run import rate_book
    from pipeline.estimate import estimate

    expected = estimate(prepared, rate_book(cluster, device), n_workers=workers)
    said = f"{expected['tiles']} tiles, {expected['tile_queries']} tile-queries"
    if expected["seconds"] is None:
        return f"{said}; how long they take is not known: these models have not run here yet"
    return f"{said}: about {expected['seconds']:.0f} s if nothing is done yet"


def run(prepared: "Prepared", out: str, settings: "RunSettings", orchestrator: Orchestrator) -> "Outcome":
    """Run through Prefect or directly, and say which."""
    if orchestrator is Orchestrator.AUTO:
        orchestrator = Orchestrator.PREFECT if _prefect_api_is_configured() else Orchestrator.DIRECT
        if orchestrator is Orchestrator.DIRECT:
            _say("no Prefect API is configured: running directly (--orchestrator prefect starts a temporary server)")
    if orchestrator is Orchestrator.PREFECT:
        return _through_prefect(prepared.spec, out, settings)
    from flows.run import run_prepared

    return run_prepared(prepared, settings)


def _through_prefect(spec: "RunSpec", out: str, settings: "RunSettings") -> "Outcome":
    from flows.segment_region import segment_region
    from pipeline.manifest import RunStatus, read_manifest
    from pipeline.region import Outcome
    from pipeline.storage import Store

    state = segment_region(spec, out, settings, return_state=True)
    if state.is_failed():
        manifest = read_manifest(Store.at(out))
        if manifest is not None and manifest["status"] == RunStatus.FAILED and "error" not in manifest:
            return Outcome(RunStatus.FAILED, manifest, 0)  # the flow failed because every tile-query did
    return state.result()  # raises what the flow raised


def summary(outcome: "Outcome", out: str) -> str:
    """What a person wants to know at the end: what came of it, where it is, how to look at it."""
    from pipeline.storage import Store

    manifest, counts, store = outcome.manifest, outcome.manifest["counts"], Store.at(out)
    seconds = manifest["timings"]["wall_s"]
    lines = [
        (
            f"{outcome.status.value}: {len(manifest['scenes'])} scenes, {len(manifest['queries'])} queries, "
            f"{counts['total']} tile-queries ({outcome.computed} computed now) in {seconds:.1f} s"
        ),
        "  " + ", ".join(f"{counts[k]} {k}" for k in counts if k != "total" and counts[k]),
    ]
    if "estimate" in manifest and outcome.computed:
        expected_s = manifest["estimate"]["seconds"]
        lines.append(f"  expected were {expected_s:.1f} s: {seconds / max(expected_s, 0.1) - 1:+.0%} off")
    lines += [f"  {manifest['features'][q['query_id']]:>6} features  {q['query']}" for q in manifest["queries"]]
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


def _say(text: str) -> None:
    typer.echo(text, err=True)
