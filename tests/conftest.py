"""Fixtures that many tests share."""

import logging
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Laws are about results. How fast a busy machine checks them is nobody's law.
settings.register_profile("t2s", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("t2s")


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """What models were measured to take is kept per user; each test keeps its own, child processes included."""
    monkeypatch.setenv("T2S_CACHE", str(tmp_path_factory.getbasetemp() / f"cache-{uuid.uuid4().hex}"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real GeoTIFFs that lie beside some checkouts; a plain clone has none."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the folder of real rasters is not beside this checkout")
    return folder


@pytest.fixture
def logs_of_this_process() -> Iterator[None]:
    """As they were: what a test does to logs it does to tests that follow in this process, too."""
    loggers = [logging.getLogger(), *map(logging.getLogger, list(logging.root.manager.loggerDict))]
    before = [(logger, list(logger.handlers), logger.propagate, logger.level) for logger in loggers]
    yield
    for logger, handlers, propagate, level in before:
        logger.handlers[:] = handlers
        logger.propagate = propagate
        logger.setLevel(level)
