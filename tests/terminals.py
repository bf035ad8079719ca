"""A terminal to run commands in, and what its screen shows."""

import fcntl
import os
import re
import select
import struct
import sys
import termios
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess

import pyte
from processes import forked
from workers_here import Here


@dataclass
class Terminal:
    """A command on a screen of its own, in a session of its own: Ctrl-C goes to all of its processes."""

    process: BaseProcess
    fd: int
    screen: pyte.Screen
    stream: pyte.ByteStream
    written: bytearray = field(default_factory=bytearray)
    """All that the command wrote, stdout and stderr."""

    def see(self, until: Callable[[str], bool], timeout_s: float = 120) -> str:
        """Look until the screen shows something, or the command ends; returns the screen."""
        end_s = time.monotonic() + timeout_s
        while not until(self.shown):
            if time.monotonic() > end_s:
                raise TimeoutError(f"after {timeout_s} s the screen shows\n{self.shown}")
            if not select.select([self.fd], [], [], 0.1)[0]:
                if self.process.exitcode is not None:
                    break
                continue
            data = os.read(self.fd, 65536)
            self.written += data
            self.stream.feed(data)
        return self.shown

    def press(self, keys: bytes) -> None:
        """As a person would; b"\\x03" is Ctrl-C."""
        os.write(self.fd, keys)

    def end(self, timeout_s: float = 120) -> int:
        """The exit code."""
        self.see(lambda _: False, timeout_s)
        self.process.join(timeout_s)
        assert self.process.exitcode is not None, self.shown
        return self.process.exitcode

    @property
    def shown(self) -> str:
        """The screen's lines, without what is empty at their ends."""
        return "\n".join(line.rstrip() for line in self.screen.display).rstrip()

    @property
    def colours(self) -> list[str]:
        """Escape sequences that choose a colour."""
        sequences = re.findall(r"\x1b\[([0-9;]*)m", self.written.decode())
        return [s for s in sequences if any(30 <= int(n) <= 49 or 90 <= int(n) <= 107 for n in s.split(";") if n)]


@contextmanager
def in_terminal(
    arguments: Sequence[object],
    environment: Mapping[str, str] | None = None,
    *,
    columns: int = 80,
    here: bool = True,
    program: str = "t2s",
) -> Iterator[Terminal]:
    """A program in a terminal of 24 lines; it is killed at the end. `here`: the workers of `t2s` are itself."""
    ours, theirs = os.openpty()
    fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    ambient = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "LINES"}}  # of another one
    given = {**ambient, "TERM": "xterm-256color", **(environment or {})}
    process = forked(_command, program, [str(a) for a in arguments], os.ttyname(theirs), given, here)
    screen = pyte.Screen(columns, 24)
    try:
        yield Terminal(process, ours, screen, pyte.ByteStream(screen))
    finally:
        process.kill()
        process.join()
        os.close(ours)
        os.close(theirs)


def _command(program: str, arguments: list[str], terminal: str, environment: dict[str, str], here: bool) -> None:
    os.setsid()
    file = os.open(terminal, os.O_RDWR)  # of a session without a terminal it becomes the terminal
    for number in range(3):
        os.dup2(file, number)
    os.environ.clear()
    os.environ.update(environment)
    if program != "t2s":
        os.execvp(program, [program, *arguments])  # noqa: S606 -- a shell itself
    import flows.run
    import flows.workers
    from flows.cli.app import main

    if here:
        for module in (flows.run, flows.workers):  # the second is asked by commands that import it late
            module.WorkersOnDemand = Here  # type: ignore[attr-defined]
    sys.argv = ["t2s", *arguments]
    main()
