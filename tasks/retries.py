"""How tasks are tried again. What they do may be repeated, so a retry costs only what was not finished."""

import logging
from typing import Any

from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State

from pipeline.texts import one_line

log = logging.getLogger(__name__)

_DELAY_S = 5


def retried(*unless: type[Exception]) -> dict[str, Any]:
    """Options of a task that is tried once more, but not after these exceptions: it would come to them again.

    Prefect caches nothing: it would not notice that what a task reads has changed under the same name.
    """

    def may_help(task: Any, task_run: Any, state: State[Any]) -> bool:  # noqa: ANN401, ARG001 -- as Prefect calls it
        raised = state.data
        if isinstance(raised, unless):
            return False
        what = (task_run.name, _DELAY_S, type(raised).__name__, one_line(raised))
        log.warning("%s failed and is tried again in %s s: %s: %s", *what)
        return True

    return {
        "cache_policy": NO_CACHE,
        "persist_result": False,
        "retries": 1,
        "retry_delay_seconds": _DELAY_S,
        "retry_condition_fn": may_help,
    }
