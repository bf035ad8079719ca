"""`t2s report`."""

from typing import Annotated

import typer


def report(
    run: Annotated[str, typer.Argument(metavar="OUT", help="Directory or URL of a run.", show_default=False)],
) -> None:
    """Write a run's report.html anew, with pictures of all scenes, however long those take to decode.

    Example:
      t2s report results
    """
    from pipeline.manifest import read_run
    from pipeline.report import NAME, write_report
    from pipeline.storage import Store
    from pipeline.truth import truth_and_scores

    store = Store.at(run)
    manifest = read_run(store)
    truth, scores = truth_and_scores(store, manifest)
    write_report(store, manifest, truth, scores=scores, all_pictures=True)
    typer.echo(f"report    {store.href(NAME)}     open it in a browser")
