"""How tasks are tried again. What they do may be repeated, so a retry costs only what was not finished."""

from typing import Any

from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State


def retried(*unless: type[Exception]) -> dict[str, Any]:
    """Options of a task that is tried once more, but not after these exceptions: it would come to them again.

    Prefect caches nothing: it would not notice that what a task reads has changed under the same name.
    """

    def may_help(task: Any, task_run: Any, state: State[Any]) -> bool:  # noqa: ANN401, ARG001 -- as Prefect calls it
        return not isinstance(state.data, unless)  # what the task raised

    return {
        "cache_policy": NO_CACHE,
        "persist_result": False,
        "retries": 1,
        "retry_delay_seconds": 5,
        "retry_condition_fn": may_help,
    }
