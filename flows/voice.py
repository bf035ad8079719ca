"""What a command says on stderr: lines for a person, or records where `T2S_LOG=json` asks for them."""

import logging
import os
import sys
from typing import Literal

from pipeline.logs import about

log = logging.getLogger(__name__)

Kind = Literal["", "error", "failed"]
"""`error`: somebody can mend what was asked; `failed`: a machine did."""


def wants_records() -> bool:
    """Whether what is said is for a program."""
    return os.environ.get("T2S_LOG") == "json"


def answer(text: str) -> None:
    """How a run ended, for a person on stdout, for a program as a record."""
    if wants_records():
        say(text)
    else:
        print(text)  # noqa: T201 -- what the command was asked for


def say(text: str, kind: Kind = "", **facts: str) -> None:
    """Without credentials. `facts`: what it is about, keys of `pipeline.logs.FACTS`; the text says that too."""
    if wants_records():
        with about(**facts):
            log.log(logging.ERROR if kind else logging.INFO, "%s", text)
        return
    if kind:  # of what strangers' files and servers say; what is said else is ours
        from flows.secrets import secrets
        from pipeline.redaction import redacted

        text = f"{kind}: {redacted(text, secrets())}"
    print(text, file=sys.stderr, flush=True)  # noqa: T201 -- the command's own voice
