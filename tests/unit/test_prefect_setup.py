"""What `python -m infra.prefect_setup` takes and refuses; what it does is shown by tests/integration/test_stack.py."""

import sys

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from infra import prefect_setup


@pytest.mark.parametrize("pool", ["t2s-gpu=0", "t2s-gpu=many", "=1", "t2s-gpu=-1"])
def test_what_is_no_pool_is_refused(
    pool: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["prefect_setup", pool])
    with pytest.raises(SystemExit) as ending:
        prefect_setup.main()
    assert ending.value.code == 2
    assert "write e.g. t2s-gpu=1" in capsys.readouterr().err


def test_without_a_server_s_address_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setattr(sys, "argv", ["prefect_setup", "t2s-gpu=1"])
    with pytest.raises(SystemExit) as ending:
        prefect_setup.main()
    assert str(ending.value.code).startswith("PREFECT_API_URL is not set; set it to")


def test_a_server_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:1/api")
    monkeypatch.setattr(prefect_setup, "_PATIENCE_S", 0)
    monkeypatch.setattr(sys, "argv", ["prefect_setup", "t2s-gpu=1"])
    nobody = {PREFECT_API_URL: "http://127.0.0.1:1/api"}  # Prefect reads its environment once, when it is imported
    with pytest.raises(SystemExit) as ending, temporary_settings(nobody):
        prefect_setup.main()
    assert str(ending.value.code).startswith("no Prefect server answers at ")
