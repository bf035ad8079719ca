"""Which processes hear Ctrl-C. A terminal sends it to all that belong to a command, helpers included."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.resource_tracker import ensure_running


@contextmanager
def deaf_to_ctrl_c() -> Iterator[None]:
    """What this thread starts within, threads and processes and theirs in turn, never hears Ctrl-C.

    The command does, and ends them: by themselves they would die of it with a traceback each, before it can.
    """
    ensure_running()  # multiprocessing's own helper: where it is started, signals are unblocked
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
