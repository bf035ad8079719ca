"""An HTTP proxy on loopback that treats requests as a bad network and a busy server do, by a seed."""

import http.client
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

FAULTS = ("burst", "reset_before", "reset_after", "truncated", "slow", "silent")
SILENT_S = 3.0
"""Longer than the clients of the tests wait."""
_BUSY = b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
_REFUSED = b"<?xml version='1.0'?><Error><Code>InvalidAccessKeyId</Code><Message>No such key.</Message></Error>"


class Proxy:
    """Passes requests on to a server, and spoils some of them."""

    def __init__(self, upstream: str, seed: int, share: float) -> None:
        """Args: a share of the requests to `upstream` meets one of `FAULTS`."""
        parts = urlsplit(upstream)
        assert parts.hostname is not None
        self.upstream = (parts.hostname, parts.port)
        self.share = share
        self.refusing = False
        """While True, no credentials are good enough."""
        self.met: Counter[str] = Counter()
        """How often each fault was met, `passed` for none."""
        self._random, self._lock, self._busy_left = random.Random(seed), threading.Lock(), 0

    def next_fault(self) -> str:
        """What the next request meets."""
        with self._lock:
            fault = "passed"
            if self.refusing:
                fault = "refused"
            elif self._busy_left:
                self._busy_left -= 1
                fault = "burst"
            elif self._random.random() < self.share:
                fault = self._random.choice(FAULTS)
                self._busy_left = self._random.randrange(3) if fault == "burst" else 0
            self.met[fault] += 1
            return fault


@contextmanager
def proxy(upstream: str, seed: int, share: float) -> Iterator[tuple[Proxy, str]]:
    """A proxy and its address."""
    made = Proxy(upstream, seed, share)

    class Handler(_Handler):
        proxy = made

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield made, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: Proxy

    def log_message(self, *_: object) -> None: ...

    def handle(self) -> None:
        try:
            super().handle()
        except ConnectionError:
            self.close_connection = True  # the client gave up first

    def _pass(self) -> None:
        body = self._body()
        fault = self.proxy.next_fault()
        if fault in {"burst", "refused"}:
            status, said = (503, _BUSY) if fault == "burst" else (403, _REFUSED)
            self._answer(status, [("Content-Type", "application/xml")], said)
            return
        if fault == "reset_before":
            self._reset()
            return
        status, headers, answer = self._ask(body)
        if fault == "reset_after":  # done, but nobody is told
            self._reset()
            return
        if fault == "silent":
            time.sleep(SILENT_S)
        self._answer(status, headers, answer, fault=fault)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _pass  # noqa: N815 -- the library's names

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _ask(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection(*self.proxy.upstream, timeout=60)
        headers = {
            k: v for k, v in self.headers.items() if k.lower() not in {"transfer-encoding", "expect", "connection"}
        }
        connection.request(self.command, self.path, body, {**headers, "Content-Length": str(len(body))})
        response = connection.getresponse()
        answer = response.read()
        connection.close()
        return response.status, response.getheaders(), answer

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes, fault: str = "passed") -> None:
        self.send_response_only(status)
        is_head = self.command == "HEAD"
        for name, value in headers:
            if name.lower() not in {"transfer-encoding", "connection"} and (
                is_head or name.lower() != "content-length"
            ):
                self.send_header(name, value)
        if not is_head:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if is_head:
            return
        half = len(body) // 2
        self.wfile.write(body[:half])
        self.wfile.flush()
        if fault == "truncated" and body:
            self._reset()
            return
        if fault == "slow":
            time.sleep(0.2)
        self.wfile.write(body[half:])

    def _reset(self) -> None:
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
