"""The page of commands is what the commands say."""

from collections.abc import Iterator
from typing import Any

import pytest
import typer
from cli_reference import PAGE, reference

from flows.cli.app import app


def test_the_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == reference(), "it is not; `make docs-reference` writes it anew"


def test_every_option_is_on_it() -> None:
    text = reference()
    for path, command in commands(typer.main.get_command(app)):
        section = text.split(f"\n## {path}\n")[1].split("\n## ")[0]
        assert all(name in section for p in command.params if p.name != "help" for name in p.opts if name[0] == "-")


def test_terminals_and_machines_do_not_change_it(monkeypatch: pytest.MonkeyPatch) -> None:
    text = reference()
    for name, value in (
        ("COLUMNS", "40"),
        ("FORCE_COLOR", "1"),
        ("T2S_REGISTRY", "/elsewhere"),
        ("HOME", "/elsewhere"),
    ):
        monkeypatch.setenv(name, value)
    assert reference() == text
    assert "\x1b" not in text
    assert "/elsewhere" not in text


def commands(group: Any, path: str = "t2s") -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        yield f"{path} {name}", command
        if hasattr(command, "commands"):
            yield from commands(command, f"{path} {name}")
