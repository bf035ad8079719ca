"""Entry point: one Typer app, one place where errors become lines and exit codes."""

import os
import shlex
import sys
from collections.abc import Sequence
from typing import Annotated

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
for panel, commands in {
    "Ask": (demo, plan, segment),
    "Look": (status, report, explain, validate),
    "Take": (restitch, export, latest),
    "Teach": (curate, train, evaluate),
}.items():
    for command in commands:
        app.command(rich_help_panel=panel)(command)
app.add_typer(models, rich_help_panel="Teach")


_INTERRUPTED = 130
_GOES_ON = "what was finished is kept, the same command goes on from there"
_GO_ON = ("demo", "segment", "restitch", "train")
"""Commands that do not repeat what they had finished; the others start anew."""


def _say_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"t2s {version('t2s')}")
        raise typer.Exit


@app.callback()
def _defaults(
    version: Annotated[  # noqa: ARG001 -- its callback does it
        bool, typer.Option("--version", help="Say which t2s this is.", callback=_say_version, is_eager=True)
    ] = False,
) -> None:
    # Both must be set before Prefect is imported. A fresh machine needs 24-28 s to start the temporary server, whose
    # own limit is 20 s; and what we start for a user reports to nobody.
    os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "WARNING")
    if os.environ.get("T2S_LOG") or os.environ.get("T2S_METRICS"):
        from flows.telemetry import start

        start()


def main() -> None:
    """Run the command. A problem that the user can mend is a line each and exit code 2, never a traceback."""
    from flows.voice import say, wants_records
    from t2s_core.errors import BadInput, MachineFault

    def store_errors() -> tuple[type[Exception], ...]:
        from pipeline.storage import store_errors  # only once something has been raised: `t2s --help` is instant

        return store_errors()

    try:
        code = app(prog_name="t2s", standalone_mode=False)
    except typer.TyperException as error:  # of the command line itself
        if line := _usage_problem(error):
            from flows.telemetry import start

            if wants_records():  # no command has begun that would have
                start()
            say(line, "error")
        sys.exit(error.exit_code)
    except BadInput as error:
        for problem in error.problems:
            say(problem, "error")
        sys.exit(2)
    except MachineFault as error:
        say(str(error), "failed")
        sys.exit(1)
    except store_errors() as error:
        from pipeline.texts import one_line

        say(f"{type(error).__name__}: {one_line(error)}; {_GOES_ON}", "failed")
        sys.exit(1)
    if code == _INTERRUPTED:  # Typer's word for Ctrl-C
        from flows.secrets import secrets
        from pipeline.redaction import redacted

        over = "\r" if sys.stderr.isatty() and not wants_records() else ""  # the ^C that the terminal wrote
        say(over + redacted(f"interrupted; {way_on(sys.argv[1:])}", secrets()))
    sys.exit(code or 0)


def way_on(arguments: Sequence[str]) -> str:
    """How to go on after an interruption: the command that was given, without what would throw away its work."""
    kept = [argument for argument in arguments if argument != "--fresh"]
    if any(argument.startswith(("-c", "--config")) for argument in kept):
        kept.append("--no-fresh")  # the file may say otherwise
    command = shlex.join(["t2s", *kept])
    if kept and kept[0] in _GO_ON:
        return f"what was finished is kept. To go on: {command}"
    return f"to start anew: {command}"


def _usage_problem(error: typer.TyperException) -> str:
    """In one line; empty where help has been shown instead."""
    line = " ".join(error.format_message().split()).rstrip(".").replace("Value error, ", "")
    where = getattr(error, "ctx", None)
    return f"{line}; see {where.command_path} --help" if line and where is not None else line


if __name__ == "__main__":
    main()
