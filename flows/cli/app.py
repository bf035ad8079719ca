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

    def said(text: str) -> str:
        from flows.secrets import secrets
        from pipeline.redaction import redacted

        return redacted(text, secrets())

    try:
        app()
    except BadInput as error:
        for problem in error.problems:
            print(f"error: {said(problem)}", file=sys.stderr)  # noqa: T201 -- the command's own voice
        sys.exit(2)
    except MachineFault as error:
        print(f"failed: {said(str(error))}", file=sys.stderr)  # noqa: T201
        sys.exit(1)
    except store_errors() as error:
        from pipeline.texts import one_line

        reason = f"{type(error).__name__}: {one_line(error)}"
        way_out = "what was finished is kept, the same command goes on from there"
        print(f"failed: {said(reason)}; {way_out}", file=sys.stderr)  # noqa: T201
        sys.exit(1)
    except KeyboardInterrupt:
        print("interrupted; what was finished is kept, the same command goes on from there", file=sys.stderr)  # noqa: T201
        sys.exit(130)


if __name__ == "__main__":
    main()
