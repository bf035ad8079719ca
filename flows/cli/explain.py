"""`t2s explain`."""

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli import completion
from flows.cli import options as o
from flows.voice import say

if TYPE_CHECKING:
    from pipeline.explain import Place


def explain(
    run: o.OfRun,
    scenes: o.ScenesAgain = None,
    at: Annotated[str | None, typer.Option("--at", metavar="LON,LAT", help="A point, in degrees.")] = None,
    feature: Annotated[str | None, typer.Option("--feature", metavar="ID", help="A feature_id of the run.")] = None,
    query: Annotated[
        str | None,
        typer.Option(
            "--query", "-q", help="Id of a query of the run; all by default.", autocompletion=completion.queries
        ),
    ] = None,
    html: Annotated[Path | None, typer.Option("--html", help="Write a page with the pictures to this file.")] = None,
    as_json: o.AsJson = False,
) -> None:
    """Say why something is, or is not, in the masks: every tile result under a point.

    Of each tile over the point and each query: what came of it, the model's reasoning, the boxes and points it placed,
    the segmenter's scores, and the probability at the point. For --html, scenes whose addresses are signed have to be
    given again, for a run keeps no signature.

    Examples:
      t2s explain results --at 13.3939,52.5173

      t2s explain results --feature 425507b4b3b8d2ef --html why.html
    """
    from pipeline.explain import explain as explained
    from pipeline.explain import place_of_feature
    from pipeline.manifest import read_run
    from pipeline.storage import Store
    from t2s_core.errors import BadInput

    if (at is None) == (feature is None):
        raise BadInput("give a point or a feature: --at LON,LAT or --feature ID")
    store = Store.at(run)
    manifest = read_run(store)
    place = _point(at, query) if at is not None else place_of_feature(store, manifest, feature or "")
    found = explained(store, manifest, place)
    if html is not None:
        from pipeline.reporting.explained import page
        from pipeline.signed import signed_addresses

        title = f"t2s explain: {place.lon:.6f}, {place.lat:.6f}"
        html.write_text(page(found, title, signed_addresses(scenes or (), manifest)), encoding="utf-8")
        say(f"page      {html.absolute()}     open it in a browser")
    if as_json:
        document = {"at": [place.lon, place.lat], "tile_results": [item.to_json() for item in found]}
        sys.stdout.write(json.dumps(document, ensure_ascii=False) + "\n")
        return
    from pipeline.reporting.explained import lines

    for line in lines(found):
        typer.echo(line)


def _point(text: str, query: str | None) -> "Place":
    from pipeline.explain import Place
    from t2s_core.errors import BadInput

    number = r"\s*([-+]?\d+(?:\.\d*)?)\s*"
    match = re.fullmatch(f"{number},{number}", text)
    if match is None:
        raise BadInput(f"--at {text!r}: not a longitude and a latitude in degrees; use e.g. 13.39,52.51")
    return Place(float(match[1]), float(match[2]), query)
