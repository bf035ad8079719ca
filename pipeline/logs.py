"""Logs as JSON, a record a line, each with the run, scene, stage, tile and batch that it is about.

Where that is comes from the context, so that a warning of any library below says it too.
"""

import json
import logging
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, TextIO

from pipeline.redaction import redacted

FACTS = ("run", "scene", "stage", "batch", "tile", "query", "worker")
"""Keys of a record beside time, level, logger and message; left out where they are not known."""
LOGGERS = ("pipeline", "flows", "tasks", "infra", "t2s_core")
"""Ours. Of all others warnings and errors are kept."""

_ABOUT: ContextVar[Mapping[str, str]] = ContextVar("t2s_about", default={})  # noqa: B039 -- never changed, only replaced


@contextmanager
def about(**facts: str) -> Iterator[None]:
    """What is logged in this context is about these: keys of `FACTS`."""
    token = _ABOUT.set({**_ABOUT.get(), **facts})
    try:
        yield
    finally:
        _ABOUT.reset(token)


class JsonLines(logging.Formatter):
    """A record as one line of JSON, without credentials."""

    def __init__(self, secrets: Sequence[str] = (), facts: Mapping[str, str] | None = None) -> None:
        """`secrets`: see `redacted`. `facts`: of every record of this process."""
        super().__init__()
        self._secrets, self._facts = secrets, facts or {}

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter.format`."""
        of_record = {name: getattr(record, name) for name in (*FACTS, "numbers") if hasattr(record, name)}
        said = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            **self._facts,
            **_ABOUT.get(),
            **of_record,
            "message": record.getMessage(),
        }
        if record.exc_info:
            said["error"] = "".join(traceback.format_exception(*record.exc_info))
        return json.dumps(self._clean(said), ensure_ascii=False, default=str)

    def _clean(self, value: Any) -> Any:  # noqa: ANN401 -- whatever JSON holds
        if isinstance(value, Mapping):
            return {key: self._clean(of_key) for key, of_key in value.items()}
        return redacted(value, self._secrets) if isinstance(value, str) else value


def log_json(
    stream: TextIO | None = None, *, secrets: Sequence[str] = (), facts: Mapping[str, str] | None = None
) -> logging.Handler:
    """From now on this process logs JSON lines to a stream, stderr by default. Called again, the last call holds.

    What other libraries set up to write to a terminal is taken away, as far as they are imported by now.
    """
    handler = _Json(sys.stderr if stream is None else stream)
    handler.setFormatter(JsonLines(secrets, facts))
    root = logging.getLogger()
    known = [logging.getLogger(name) for name in list(root.manager.loggerDict)]
    for logger in (root, *known):
        shown = [it for it in logger.handlers if isinstance(it, _Json) or _is_of_a_terminal(it)]
        for earlier in shown:
            logger.removeHandler(earlier)
            logger.propagate = True  # a logger that showed its records itself kept them from root's handlers
    root.addHandler(handler)
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.INFO)
    return handler


def _is_of_a_terminal(handler: logging.Handler) -> bool:
    streams = (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__)
    return isinstance(handler, logging.StreamHandler) and handler.stream in streams


class _Json(logging.StreamHandler[TextIO]):
    """Ours, to be told from others."""
