"""A web server on loopback that serves byte ranges, as object stores do."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit


@dataclass
class Server:
    """Serves a folder with byte ranges, and remembers what it was asked for."""

    folder: Path
    url: str = ""
    asked: list[tuple[str, str]] = field(default_factory=list)
    n_bytes: int = 0
    signature: str | None = None
    """What `sig` must be in every address."""

    def forget(self) -> None:
        self.asked, self.n_bytes = [], 0


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, server: Server, *args: Any) -> None:
        self.seen = server
        super().__init__(*args)

    def do_HEAD(self) -> None:
        self._answer(b"")

    def do_GET(self) -> None:
        self._answer(None)

    def _answer(self, body: bytes | None) -> None:
        parts = urlsplit(self.path)
        path = self.seen.folder / parts.path.lstrip("/")
        self.seen.asked.append((self.command, parts.path))
        refused = self.seen.signature is not None and parse_qs(parts.query).get("sig") != [self.seen.signature]
        if refused or not path.is_file():
            self.send_response(403 if refused else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        data = path.read_bytes()
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        start, stop = (int(asked[1]), min(int(asked[2]) + 1, len(data))) if asked else (0, len(data))
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(data)}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", f'"{path.stat().st_mtime_ns}"')
        self.send_header("Content-Length", str(stop - start))
        self.end_headers()
        if body is None:
            self.seen.n_bytes += stop - start
            self.wfile.write(data[start:stop])

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def serving(folder: Path, signature: str | None = None) -> Iterator[Server]:
    """A server of a folder; with a signature, to those who give it."""
    made = Server(folder, signature=signature)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, made)) as listening:
        made.url = f"http://127.0.0.1:{listening.server_port}"
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        try:
            yield made
        finally:
            listening.shutdown()
            thread.join()
