"""Entry point: one Typer app, one place where errors become lines and exit codes."""

import os
import sys

import typer

from flows.cli.curate import curate
from flows.cli.demo import demo
from flows.cli.evaluate import evaluate
from flows.cli.explain import explain
from flows.cli.export import export
from flows.cli.latest import latest
from flows.cli.models import models
from flows.cli.plan import plan
from flows.cli.report import report
from flows.cli.restitch import restitch
from flows.cli.segment import segment
from flows.cli.status import status
from flows.cli.train import train
from flows.cli.validate import validate

app = typer.Typer(
    name="t2s",
    help="Ask plain-language questions of whole regions of imagery. "
    "Exit codes: 0 success, 1 failed, 2 bad input, 3 partial.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(demo)
app.command()(segment)
app.command()(plan)
app.command()(status)
app.command()(report)
app.command()(explain)
app.command()(validate)
app.command()(export)
app.command()(restitch)
app.command()(latest)
app.add_typer(models)
app.command()(train)
app.command()(evaluate)
app.command()(curate)


@app.callback()
def _defaults() -> None:
    # Both must be set before Prefect is imported. A fresh machine needs 24-28 s to start the temporary server, whose
    # own limit is 20 s; and what we start for a user reports to nobody.
    os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "WARNING")
    if os.environ.get("T2S_LOG") or os.environ.get("T2S_METRICS"):
        from flows.telemetry import start

        start()


def main() -> None:
    """Run the command. A problem that the user can mend is a line each and exit code 2, never a traceback."""
    from t2s_core.errors import BadInput, MachineFault

    def store_errors() -> tuple[type[Exception], ...]:
        from pipeline.storage import store_errors  # only once something has been raised: `t2s --help` is instant

        return store_errors()

    try:
        _run()
    except BadInput as error:
        from flows.voice import say

        for problem in error.problems:
            say(problem, "error")
        sys.exit(2)
    except MachineFault as error:
        from flows.voice import say

        say(str(error), "failed")
        sys.exit(1)
    except store_errors() as error:
        from flows.voice import say
        from pipeline.texts import one_line

        say(f"{type(error).__name__}: {one_line(error)}; {_GOES_ON}", "failed")
        sys.exit(1)
    except KeyboardInterrupt:
        from flows.voice import say

        say(f"interrupted; {_GOES_ON}")
        sys.exit(130)


def _run() -> None:
    if os.environ.get("T2S_LOG") != "json":
        app()
        return
    try:
        code = app(standalone_mode=False)
    except typer.TyperException as error:  # an option that there is not; Typer's own page is for people
        from flows.telemetry import start
        from flows.voice import say

        start()
        say(error.format_message(), "error")
        sys.exit(error.exit_code)
    sys.exit(code or 0)


_GOES_ON = "what was finished is kept, the same command goes on from there"


if __name__ == "__main__":
    main()
