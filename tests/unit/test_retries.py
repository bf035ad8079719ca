"""Who waits while a task is tried again is told why."""

from types import SimpleNamespace

import pytest
from prefect.states import Failed

from t2s_core.errors import BadInput
from tasks.retries import retried

TASK_RUN = SimpleNamespace(name="segment alpha")


def may_help(raised: Exception) -> bool:
    found: bool = retried(BadInput)["retry_condition_fn"](None, TASK_RUN, Failed(data=raised))
    return found


def test_what_may_pass_is_tried_again_and_told_in_a_line_without_credentials(caplog: pytest.LogCaptureFixture) -> None:
    assert may_help(OSError("https://user:correcthorse@store/x\nanswers 503"))
    assert caplog.messages == [
        "segment alpha failed and is tried again in 5 s: OSError: https://***@store/x answers 503"
    ]


def test_what_cannot_pass_is_not(caplog: pytest.LogCaptureFixture) -> None:
    assert not may_help(BadInput("tile_px=7 is too small"))
    assert caplog.messages == []
