"""`t2s report`."""

import json
import sys

import typer

from flows.cli import options as o


def report(
    run: o.OfRun,
    scenes: o.ScenesAgain = None,
    as_json: o.AsJson = False,
) -> None:
    """Write a run's report.html anew, with pictures of all scenes, however long those take to decode.

    Scenes whose addresses are signed have to be given again, for a run keeps no signature.

    Examples:
      t2s report results

      t2s report results "https://example.org/scene.tif?sig=..."
    """
    from pipeline.manifest import RunStatus, read_run
    from pipeline.report import NAME, write_report
    from pipeline.signed import signed_addresses
    from pipeline.storage import Store
    from pipeline.truth import truth_and_scores
    from t2s_core.errors import BadInput

    store = Store.at(run)
    manifest = read_run(store)
    if manifest["status"] == RunStatus.RUNNING or "error" in manifest:  # then mosaics may be missing
        raise BadInput(f"{store.url}: the run is {manifest['status']}; it has a report once it has come to its end")
    truth, scores = truth_and_scores(store, manifest)
    signed = signed_addresses(scenes or (), manifest)
    write_report(store, manifest, truth, scores=scores, all_pictures=True, signed=signed)
    if as_json:
        sys.stdout.write(json.dumps({"href": store.href(NAME)}) + "\n")
    else:
        typer.echo(f"report    {store.href(NAME)}     open it in a browser")
