"""`make docs` is strict: what leads nowhere is an error."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def build(folder: Path, page: str) -> subprocess.CompletedProcess[str]:
    """Our site with one page in it, built as `make docs` does."""
    shutil.copy(ROOT / "mkdocs.yml", folder)
    (folder / "docs").mkdir()
    (folder / "docs/index.md").write_text(page)
    recipe = re.search(
        r"^docs: .*\n\t(?:\S+=\S+ )?\$\(BIN\)/mkdocs ([^#\n]*)", (ROOT / "Makefile").read_text(), re.MULTILINE
    )
    assert recipe is not None
    command = [sys.executable, "-m", "mkdocs", *recipe[1].split()]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_a_good_page_is_built(tmp_path: Path) -> None:
    done = build(tmp_path, "# One\n\n[here](#one)\n")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "build/site/index.html").exists()


@pytest.mark.parametrize("link", ["nowhere.md", "index.md#nowhere", "#nowhere", "/index.md", "../README.md"])
def test_a_broken_link_or_anchor_is_an_error(tmp_path: Path, link: str) -> None:
    assert build(tmp_path, f"# One\n\n[there]({link})\n").returncode == 1


def test_the_site_asks_nobody_for_anything(tmp_path: Path) -> None:
    assert build(tmp_path, "# One\n\nText.\n").returncode == 0
    page = (tmp_path / "build/site/index.html").read_text()
    assert re.findall(r"""<(?:script|link|img)[^>]*(?:src|href)=["']?https?:""", page) == []
