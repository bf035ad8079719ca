"""A loopback server with an OpenAI-compatible face: it answers by what it is asked, and misbehaves on demand."""

import hashlib
import json
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

Fault = Callable[["_Handler"], None]


class CompletionServer:
    """Serves one model until the `with` block ends."""

    def __init__(self, model: str, *, key: str | None = None, **entry: object) -> None:
        """Args: the model's name, the key it wants, and what else `/models` says of it."""
        self.key = key
        self.entry: dict[str, object] = {"id": model, "object": "model", "created": 1, "owned_by": "vllm"} | entry
        self.faults: deque[Fault | None] = deque()
        """What the next requests for a completion meet instead of one; None lets one pass."""
        self.on_models: Fault | None = None
        self.message: dict[str, object] | None = None
        """The message of every completion, instead of one that depends on the question."""
        self.finish_reason, self.usage = "", True
        self.asked: list[dict[str, Any]] = []
        """Bodies of the requests for completions, as they came."""
        self.authorisations: list[str | None] = []
        self.meeting: threading.Barrier | None = None
        """Completions wait here for each other."""
        self.closing = threading.Event()
        self._http = _Http(("127.0.0.1", 0), _Handler)
        self._http.owner = self
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    @property
    def name(self) -> str:
        return f"openai_api:{self.url}#{self.entry['id']}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()


class _Http(ThreadingHTTPServer):
    request_queue_size = 64
    daemon_threads = True
    owner: CompletionServer


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Http

    def do_GET(self) -> None:
        owner = self.server.owner
        owner.authorisations.append(self.headers["Authorization"])
        if owner.on_models is not None:
            owner.on_models(self)
        elif owner.key is not None and self.headers["Authorization"] != f"Bearer {owner.key}":
            status(401, f"Incorrect API key provided: {self.headers['Authorization']}")(self)
        else:
            self.send(200, {"object": "list", "data": [owner.entry]})

    def do_POST(self) -> None:
        owner = self.server.owner
        owner.authorisations.append(self.headers["Authorization"])
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        owner.asked.append(body)
        if owner.meeting is not None:
            try:
                owner.meeting.wait(timeout=30)
            except threading.BrokenBarrierError:  # who asked has gone
                self.close_connection = True
                return
        fault = owner.faults.popleft() if owner.faults else None
        if fault is not None:
            fault(self)
        else:
            self.send(200, completion(owner, body))

    def send(self, code: int, document: object, **headers: str) -> None:
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.send_response(code)
        for header, value in headers.items():
            self.send_header(header.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def completion(owner: CompletionServer, body: dict[str, Any]) -> dict[str, object]:
    """A "token" is a character; the text is a digest of everything that was asked."""
    text = hashlib.sha256(json.dumps(body["messages"]).encode()).hexdigest()[: 8 + len(body["messages"][1]) % 24]
    cut = text[: body["max_tokens"]]
    reason = owner.finish_reason or ("length" if len(cut) < len(text) else "stop")
    message = {"role": "assistant", "content": cut} if owner.message is None else owner.message
    usage = {"usage": {"prompt_tokens": 5, "completion_tokens": len(cut)}} if owner.usage else {}
    return {"id": "c", "choices": [{"index": 0, "message": message, "finish_reason": reason}], **usage}


def status(code: int, message: object = "not today", **headers: str) -> Fault:
    """A refusal as OpenAI words it."""
    return lambda handler: handler.send(code, {"error": {"message": message, "type": "x"}}, **headers)


def body(data: bytes) -> Fault:
    return lambda handler: handler.send(200, data)


def hang(handler: _Handler) -> None:
    handler.server.owner.closing.wait(30)
    handler.close_connection = True


def reset(handler: _Handler) -> None:
    """The connection dies as with a killed server: with a RST."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.close_connection = True
    handler.connection.close()
    handler.rfile = handler.wfile = open("/dev/null", "r+b")  # noqa: PTH123, SIM115 -- what is flushed afterwards goes nowhere


def truncated(handler: _Handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"choices": [')
    handler.close_connection = True


def huge(handler: _Handler) -> None:
    """Sixty-four MiB, unless the client has enough."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(64 * 2**20))
    handler.end_headers()
    handler.close_connection = True
    try:
        for _ in range(64):
            handler.wfile.write(b" " * 2**20)
    except OSError:
        handler.server.owner.asked.append({"hung_up": True})
