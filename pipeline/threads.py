"""Work ahead and behind, on one thread each, so that what feeds the models or stores their answers holds up neither."""

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


@contextmanager
def ahead(items: Generator[T, None, None], n: int) -> Iterator[Iterator[T]]:
    """What a generator yields, made on a thread of its own, at most `n` items before they are asked for.

    The generator runs from its first line to its last on that one thread: what it opens never crosses to another. At
    the end of the block it is closed there, however far it came. What it raises is raised where the item is asked for.
    The thread goes on to serve the calling thread, with which it ends: opening a raster on a new one takes ten times as
    long, for PROJ opens its database for each.
    """
    pool, context = _of_this_thread(), copy_context()  # what is logged there is about the same run and scene
    pending: deque[Future[list[T]]] = deque(pool.submit(context.run, _next, items) for _ in range(n))

    def made() -> Iterator[T]:
        while item := pending.popleft().result():
            pending.append(pool.submit(context.run, _next, items))
            yield item[0]

    try:
        yield made()
    finally:
        for future in pending:
            future.cancel()
        pool.submit(context.run, items.close).result()


@contextmanager
def behind(function: Callable[[T], R], n: int) -> Iterator[Callable[[T], Future[R]]]:
    """`function`, called in order on a thread of its own; who calls waits only where `n` calls are unfinished.

    It raises what an earlier call raised; so does the end of the block, which waits for all calls. Where the block
    itself raises, what was handed over is still finished: it is work that is done, and would be lost.
    """
    context = copy_context()
    with ThreadPoolExecutor(1, "behind") as pool:
        pending: deque[Future[R]] = deque()

        def call(item: T) -> Future[R]:
            while len(pending) >= n or (pending and pending[0].done()):
                pending.popleft().result()
            pending.append(pool.submit(context.run, function, item))
            return pending[-1]

        yield call
        for future in pending:
            future.result()


_LASTING = threading.local()


def _of_this_thread() -> ThreadPoolExecutor:
    """The calling thread's own pool of one thread. It is collected with the calling thread, and then ends its own."""
    try:
        pool: ThreadPoolExecutor = _LASTING.ahead
    except AttributeError:
        pool = _LASTING.ahead = ThreadPoolExecutor(1, "ahead")
    return pool


def _next(items: Iterator[T]) -> list[T]:
    """The next item; nothing at the end, for a future cannot hold a `StopIteration`."""
    return list(islice(items, 1))
