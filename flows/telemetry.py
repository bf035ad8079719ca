"""Logs and metrics of the command and of its workers, as the environment asks for them.

`T2S_LOG=json`: a record a line on stderr, here and on every worker. `T2S_METRICS=[HOST:]PORT`: this process's counters
at `http://HOST:PORT/metrics`, on loopback where no host is named; workers show theirs on Dask's own endpoint.
"""

import logging
import os
import sys
from types import TracebackType
from typing import Any

from distributed import Client, WorkerPlugin

from flows.secrets import secrets
from pipeline.logs import log_json
from t2s_core.errors import BadInput

log = logging.getLogger(__name__)


def start() -> None:
    """Raises `BadInput` where the environment asks for what is not there."""
    if _wants_json():
        log_json(secrets=secrets())
        logging.captureWarnings(capture=True)
        sys.excepthook = _logged
    asked = os.environ.get("T2S_METRICS")
    if asked:
        _serve(asked)


def take_over() -> None:
    """Again, once libraries are imported that set up logs of their own: Prefect, distributed."""
    if _wants_json():
        log_json(secrets=secrets())


def watch(client: Client) -> None:
    """Workers of a cluster log as this process does, those that join later too."""
    if _wants_json():
        take_over()
        client.register_plugin(WorkerLogs(), name="t2s-logs")


class WorkerLogs(WorkerPlugin):
    """Sets up the logs of a worker process."""

    idempotent = True

    def setup(self, worker: Any) -> None:  # noqa: ANN401
        """See `WorkerPlugin.setup`."""
        log_json(secrets=secrets(), facts={"worker": str(worker.name)})


def _wants_json() -> bool:
    asked = os.environ.get("T2S_LOG", "")
    if asked not in {"", "json"}:
        raise BadInput(f"T2S_LOG={asked!r} is no kind of log; use json, or leave it out")
    return asked == "json"


def _logged(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Of what nobody caught: a fault of ours."""
    log.critical("ended by a fault of its own: %s", kind.__name__, exc_info=(kind, error, trace))


def _serve(asked: str) -> None:
    from prometheus_client import start_http_server

    host, _, port = asked.rpartition(":")
    try:
        start_http_server(int(port), addr=host or "127.0.0.1")
    except (OSError, ValueError, OverflowError) as error:
        raise BadInput(f"T2S_METRICS={asked!r}: {error}; use a free port, e.g. 9100 or 0.0.0.0:9100") from error
