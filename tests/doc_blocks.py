"""Code blocks of our pages, and a folder in which they run as a reader would run them.

Right above a block an HTML comment may say what is special about it:

- `<!-- not run: WHY -->` where it needs what no test machine has, or takes hours;
- `<!-- file: NAME -->` where the block is a file that later blocks of the page read. Its name says what it must hold.

`sh` runs in bash, `python` in this process, `sql` in DuckDB; `yaml` and `json` parse; `text` is no code.
"""

import json
import os
import re
import shlex
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import duckdb
import pytest
import yaml
from processes import forked
from workers_here import Here

from flows.run_file import requested
from pipeline.queries import parse_queries
from pipeline.training import read_settings


def _run_file(path: Path) -> None:
    """Raises `BadInput` with all that is wrong with it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BUCKET", "bucket")  # the pages' example declares it
        requested(str(path))


ROOT = Path(__file__).resolve().parents[1]
LANGUAGES = ("sh", "python", "sql", "yaml", "json", "text")
READERS: Mapping[str, Callable[[Path], object]] = {
    "settings.yaml": read_settings,
    "questions.yaml": lambda path: parse_queries([], path),
    "run.yaml": _run_file,
}
"""How the files that pages show are read by what they are for. A name that is not here only has to parse."""

_COMMENT = re.compile(r"<!-- (not run|file): (.*?) -->")
_FENCE = re.compile(r"^```(.*)$")
_CLIENT = """\
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as s:
    s.connect(os.environ["T2S_SERVER"])
    s.sendall(json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode() + b"\\n")
    code, out, err = json.loads(b"".join(iter(lambda: s.recv(65536), b"")))
sys.stdout.write(out)
sys.stderr.write(err)
sys.exit(code)
"""


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block."""

    page: str
    line: int
    language: str
    code: str
    not_run: str | None
    """Why it does not run; None where it does."""
    file: str | None


def pages() -> list[str]:
    """README and everything below docs/, by their paths in the repository."""
    return ["README.md", *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md"))]


def blocks(page: str, text: str) -> list[Block]:
    """The blocks of a page, in their order. Raises `ValueError` on a fence that is never closed."""
    lines, found, i = text.splitlines(), [], 0
    while i < len(lines):
        opening = _FENCE.match(lines[i])
        if opening is None:
            i += 1
            continue
        end = next((j for j in range(i + 1, len(lines)) if lines[j] == "```"), None)
        if end is None:
            raise ValueError(f"{page}:{i + 1}: this block has no end")
        marks = dict(_COMMENT.findall(lines[i - 1])) if i else {}
        code = "\n".join(lines[i + 1 : end]) + "\n"
        found.append(Block(page, i + 1, opening[1], code, marks.get("not run"), marks.get("file")))
        i = end + 1
    return found


def run_block(block: Block, folder: Path, environment: Mapping[str, str]) -> None:
    """Run one block in a folder. Raises what is wrong with it."""
    match block.language:
        case "sh":
            _bash(block, folder, environment)
        case "python":
            with _within(folder):
                _python(block.code)
        case "sql":
            with _within(folder):
                _sql(block.code)
        case "yaml":
            yaml.safe_load(block.code)
        case "json":
            json.loads(block.code)
    if block.file:
        (folder / block.file).write_text(block.code, encoding="utf-8")
        READERS.get(block.file, lambda _: None)(folder / block.file)


def _bash(block: Block, folder: Path, environment: Mapping[str, str]) -> None:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block.code],
        cwd=folder, env=dict(environment), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    if done.returncode:
        raise AssertionError(f"{block.page}:{block.line}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}")


@contextmanager
def _within(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def _python(code: str) -> None:
    exec(compile(code, "docs", "exec"), {})  # noqa: S102 -- our own pages


def _sql(code: str) -> None:
    spec = find_spec("duckdb_ext")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    connection = duckdb.connect(config={"autoinstall_known_extensions": "false"})
    connection.execute("SET extension_directory = ?", [str(Path(spec.submodule_search_locations[0], "extensions"))])
    for statement in filter(str.strip, code.split(";")):
        rows = connection.execute(statement).fetchall()
        assert rows or statement.strip().startswith("LOAD"), f"no rows: {statement}"


@contextmanager
def commands(folder: Path) -> Iterator[dict[str, str]]:
    """An environment in which `t2s` is the command: each call a process that has imported everything already."""
    programs = folder / "bin"
    programs.mkdir(parents=True)
    client = programs / "client.py"
    client.write_text(_CLIENT)
    script = programs / "t2s"
    script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -S -E {shlex.quote(str(client))} "$@"\n')
    script.chmod(0o755)
    path = os.pathsep.join([str(programs), str(Path(sys.executable).parent), os.environ["PATH"]])
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "socket"))
        server.listen()
        threading.Thread(target=_serve, args=(server, folder), daemon=True).start()
        try:
            yield {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "T2S_SERVER": str(folder / "socket")}
        finally:
            server.shutdown(socket.SHUT_RDWR)


def _serve(server: socket.socket, folder: Path) -> None:
    out, err = folder / "stdout", folder / "stderr"
    while True:
        try:
            connection, _ = server.accept()
        except OSError:  # the end of `commands`
            return
        with connection, connection.makefile("rb") as request:
            out.write_bytes(b"")
            err.write_bytes(b"")
            process = forked(_command, *json.loads(request.readline()), str(out), str(err))
            process.join()
            connection.sendall(json.dumps([process.exitcode, out.read_text(), err.read_text()]).encode())


def _command(arguments: list[str], folder: str, environment: dict[str, str], out: str, err: str) -> None:
    """`t2s`, its workers being this process: what a cluster does has tests of its own."""
    import flows.run
    import flows.workers
    from flows.cli.app import main

    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    for number, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND), number)
    for module in (flows.run, flows.workers):  # the second is asked by commands that import it late
        module.WorkersOnDemand = Here  # type: ignore[attr-defined]
    sys.argv = ["t2s", *arguments]
    main()
