"""`t2s demo`."""

import json
import sys
import time
from typing import Annotated

import typer

from flows.cli import options as o
from flows.cli.segment import EXIT_CODES, run
from flows.request import Orchestrator, RunRequest
from flows.voice import say


def demo(
    out: o.Out = "out/demo",
    seed: Annotated[int, typer.Option(help="Draws another region.")] = 7,
    size: Annotated[int, typer.Option(min=256, max=8192, help="Side of each scene in pixels.")] = 768,
    workers: o.NWorkers = None,
    orchestrator: Annotated[Orchestrator, typer.Option(help="prefect, or direct.")] = Orchestrator.PREFECT,
    direct: Annotated[bool, typer.Option("--direct", help="Short for --orchestrator direct.")] = False,
    as_json: o.AsJson = False,
) -> None:
    """Draw a small region, ask questions of it with the bundled models, score the answers against the truth.

    Example:
      t2s demo --out demo
    """
    from flows.run_file import prepared
    from pipeline.demo import demo_queries, draw_scenes, score_demo
    from pipeline.preflight import output_problems
    from pipeline.report import write_report
    from pipeline.storage import Store
    from pipeline.truth import truth_and_scores
    from t2s_core.errors import BadInput

    start_s = time.perf_counter()
    if problems := output_problems(out, (), 0):
        raise BadInput(*map(str, problems))
    store = Store.at(out)
    queries = demo_queries()
    hrefs = draw_scenes(store, seed=seed, size_px=size)
    chosen = Orchestrator.DIRECT if direct else orchestrator
    entries = tuple({"query": q.text, **q.model_dump(exclude={"text"})} for q in queries)
    asked = RunRequest(scenes=tuple(hrefs), queries=entries, out=out, workers=workers, orchestrator=chosen)
    ready = prepared(asked)  # bad input is said in lines, before Prefect wraps it in a traceback
    say(f"{len(hrefs)} scenes of {size} x {size} px, {len(queries)} questions; running ({chosen.value})")
    outcome = run(ready, asked)
    document = score_demo(store, outcome.manifest, seconds=time.perf_counter() - start_s)
    truth, scores = truth_and_scores(store, outcome.manifest)
    write_report(store, outcome.manifest, truth, scores=scores)
    if as_json:
        sys.stdout.write(json.dumps(document, ensure_ascii=False) + "\n")
    else:
        _print(document, out)
    raise typer.Exit(EXIT_CODES[outcome.status.value])


def _print(document: dict[str, object], out: str) -> None:
    from pipeline.storage import Store

    store = Store.at(out)
    typer.echo("")
    typer.echo("  IoU   features  question")
    for query in document["queries"]:  # type: ignore[attr-defined]  # a list, by score_demo
        typer.echo(f"  {query['iou']:.2f}  {query['n_features']:>8}  {query['query']}")
    typer.echo("")
    typer.echo(
        f"gIoU {document['giou']:.2f}, pixel precision {document['precision']:.2f}, "
        f"right about absence {document['no_target_accuracy']:.2f}, in {document['seconds']:.0f} s"
    )
    typer.echo(
        "made by the small bundled models, which know only the drawn world; real imagery wants published weights"
    )
    typer.echo("")
    typer.echo(f"report    {store.href('report.html')}     open it in a browser")
    typer.echo(f"polygons  {store.href('features')}        geopandas.read_parquet(...), QGIS, DuckDB")
    typer.echo(f"masks     {store.href('masks.zarr')}      xarray.open_zarr(.../<scene_id>/<query_id>)")
    typer.echo(f"scores    {store.href('demo.json')}")
    typer.echo("")
    typer.echo('your own  t2s segment SCENE.tif --query "the lake" --out results')
