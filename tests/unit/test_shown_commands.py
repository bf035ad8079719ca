"""Commands that pages and `--help` show but no test runs: each is at least one that t2s takes."""

import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from doc_blocks import ROOT, blocks, pages

from flows.cli.app import app


def shown() -> Iterator[Any]:
    """(words after `t2s`) of every shown command that `test_doc_blocks` does not run."""
    for page in pages():
        for block in blocks(page, (ROOT / page).read_text(encoding="utf-8")):
            if block.language != "text" and block.not_run is None:
                continue
            for line in block.code.replace("\\\n", " ").splitlines():
                words = re.match(r"(?:t2s|.*-m flows\.cli\.app) (.*)", line)
                if words is not None:
                    yield pytest.param(shlex.split(words[1], comments=True), id=f"{page}:{block.line} {words[1][:40]}")


@pytest.mark.parametrize("words", list(shown()))
def test_it_is_one_that_t2s_takes(words: list[str]) -> None:
    command: Any = typer.main.get_command(app)
    if words[0].startswith("--"):  # of `t2s` itself
        assert words[0] in [name for option in command.params for name in option.opts]
        return
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
        if words[:1] == ["--help"]:
            return
    command.make_context("t2s", words)  # raises on an option that is not there, or a value of another kind


def test_there_are_some() -> None:
    assert len(list(shown())) > 20
