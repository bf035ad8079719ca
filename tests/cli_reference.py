"""docs/reference/cli.md, made from the commands: `make docs-reference` writes it, a test holds it against the code."""

import inspect
import re
import sys
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any, get_args, get_origin

import typer

from flows.cli.app import app

PAGE = Path(__file__).resolve().parents[1] / "docs/reference/cli.md"
HEAD = """# The command line

Made from the code by `make docs-reference`; `t2s COMMAND --help` says the same. Exit codes of every command: 0 success,
1 failed, 2 bad input or usage, 3 partial. With `--json`, stdout carries one JSON document and nothing else.
"""
_KINDS = {str: "text", int: "whole number", float: "number", Path: "path"}


def reference() -> str:
    """The page, the same on every machine and terminal."""
    root: Any = typer.main.get_command(app)
    return "\n".join([HEAD, *_contents(root), *(line for path, c in _commands(root) for line in _section(path, c))])


def _commands(group: Any, path: str = "t2s") -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if command.hidden:
            continue
        yield f"{path} {name}", command
        if hasattr(command, "commands"):
            yield from _commands(command, f"{path} {name}")


def _contents(root: Any) -> list[str]:
    rows = [f"| [`{path}`](#{path.replace(' ', '-')}) | {_cell(_first(c))} |" for path, c in _commands(root)]
    return ["| command | what it does |", "|---|---|", *rows, ""]


def _section(path: str, command: Any) -> list[str]:
    help_ = inspect.cleandoc(command.help)
    text, examples, *_ = [*re.split(r"^Examples?:$", help_, flags=re.MULTILINE), ""]
    lines = [f"## {path}", "", *(" ".join(paragraph.split()) + "\n" for paragraph in text.strip().split("\n\n"))]
    if examples.strip():
        # Shown, not run: their files are anybody's. The other pages run what they say of a command.
        lines += ["```text", *(line.strip() for line in examples.splitlines() if line.strip()), "```", ""]
    rows = [_row(parameter) for parameter in command.params if not parameter.hidden and parameter.name != "help"]
    if rows:
        lines += ["| argument or option | value | default | what it is |", "|---|---|---|---|", *rows, ""]
    return lines


def _row(parameter: Any) -> str:
    argument = parameter.param_type_name == "argument"
    name = parameter.metavar or parameter.name.upper() if argument else ", ".join(parameter.opts)
    default = "required" if parameter.required else _default(parameter)
    said = [parameter.help or "", f"Also by the environment: `{parameter.envvar}`." if parameter.envvar else ""]
    return f"| `{name}` | {_value(parameter)} | {default} | {_cell(' '.join(filter(None, said)))} |"


def _default(parameter: Any) -> str:
    default = parameter.default.value if isinstance(parameter.default, Enum) else parameter.default
    return "" if default is None or default is False else f"`{default}`"


def _value(parameter: Any) -> str:
    kind = parameter.type_descriptor.annotation
    if kind is bool:
        return "flag"
    many = get_origin(kind) is list
    one = get_args(kind)[0] if many else kind
    name = ", ".join(f"`{m.value}`" for m in one) if issubclass(one, Enum) else _KINDS[one]
    bounds = (("from", parameter.min), ("to", parameter.max))
    limits = [f"{word} {bound}" for word, bound in bounds if bound is not None]
    return " ".join([name, *limits, *(["(repeat for more)"] if many else [])])


def _first(command: Any) -> str:
    return " ".join(inspect.cleandoc(command.help).split("\n\n")[0].split())


def _cell(text: str) -> str:
    """Text of a table's cell; what is in back quotes stands as it is."""
    parts = text.split("`")
    return "`".join(re.sub(r"([|<>*\[\]])", r"\\\1", part) if i % 2 == 0 else part for i, part in enumerate(parts))


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8")
    sys.stdout.write(f"{PAGE.name} written\n")
