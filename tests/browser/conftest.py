"""A headless Chromium of the system, by Playwright, that can reach nothing but files."""

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from browsers import Opened

WITH_BROWSER = "T2S_TEST_BROWSER"
"""Set where these tests must not skip, as in CI."""


@pytest.fixture(
    scope="module"
)  # while it is open an event loop runs in this thread, which Prefect would take for its own
def chromium() -> Iterator[Any]:
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        _without(f"playwright is not installed ({error})")
    executable = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if executable is None:
        _without("there is no Chromium here; on Debian: apt-get install chromium")
    with sync_playwright() as playwright:
        # Containers give no user namespaces, which Chromium's own sandbox needs; the pages are our own.
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(chromium: Any) -> Iterator[Opened]:
    context = chromium.new_context(viewport={"width": 1400, "height": 900}, offline=True)
    yield Opened(context.new_page())
    context.close()


def _without(reason: str) -> None:
    if os.environ.get(WITH_BROWSER):
        pytest.fail(f"{WITH_BROWSER} is set, and {reason}")
    pytest.skip(reason)
