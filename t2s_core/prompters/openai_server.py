"""HTTP with one OpenAI-compatible server: bounded in time and memory, patient, and silent about the key.

- What may pass is tried again, with growing, jittered pauses: broken connections, timeouts, 408, 409, 429, 5xx.
  `Retry-After` is kept to, up to a bound.
- Redirects are never followed: they would carry the key to whoever is named.
- No error holds the key, not even where the server's own message repeats it.
"""

import email.utils
import json
import os
import random
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from t2s_core.errors import BadInput, MachineFault

if TYPE_CHECKING:
    import httpx2

KEY_VARIABLE = "T2S_OPENAI_API_KEY"
MAX_BODY_BYTES = 4 * 2**20
"""Of a server's answer. 1,024 tokens are about 4,000 characters."""
_MAX_ERROR_BYTES = 64 * 2**10
_MAX_MESSAGE_CHARS = 300
_OK, _REDIRECTS, _REFUSALS = range(200, 300), range(300, 400), range(400, 500)
_WRONG_KEY, _UNKNOWN, _PASSING = (401, 403), 404, (408, 409, 429)
_KEY_TEXT = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")  # printable ASCII; quotes and backslashes would hide it in JSON
_ADDRESS = re.compile(r"[^\s\x00-\x1f\x7f]+")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for a server, and how often to ask again. All times in seconds."""

    attempts: int = 8
    first_pause_s: float = 0.5
    """Doubled after each attempt; a random half of it is left out, so that workers do not come back in step."""
    longest_pause_s: float = 30.0
    longest_retry_after_s: float = 60.0
    """A server that asks for more is asked again after this."""
    connect_s: float = 10.0
    read_s: float = 300.0
    """Without a byte. A reply comes whole, so this bounds its time in the server's queue and its generation."""
    total_s: float = 900.0
    """Of one request with all its attempts and pauses."""

    def pause_s(self, attempt: int, retry_after_s: float | None) -> float:
        """Seconds to wait after the `attempt`-th failure, counted from 1."""
        grown_s = min(self.first_pause_s * 2.0 ** (attempt - 1), self.longest_pause_s)
        jittered_s = random.uniform(grown_s / 2, grown_s)
        if retry_after_s is None:
            return jittered_s
        # the jitter on top: everybody was told the same second
        return min(retry_after_s, self.longest_retry_after_s) + jittered_s - grown_s / 2


BRISK = Patience(attempts=1, connect_s=3.0, read_s=10.0, total_s=10.0)
"""Before a run: who is not there now should be reported now."""


class _Passing(Exception):
    """A fault that may pass."""

    def __init__(self, reason: str, retry_after_s: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


class Server:
    """One server. `get` and `post` may be called from several threads at once."""

    def __init__(
        self,
        url: str,
        *,
        key: str | None,
        patience: Patience,
        connections: int = 1,
        pause: Callable[[threading.Event, float], bool] = threading.Event.wait,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Connect to nobody yet.

        Args:
            url: As `checked_url` gives it.
            key: Sent as a bearer token; None for a server that wants none.
            patience: Limits.
            connections: At most so many at once.
            pause: Waits so many seconds, or until the event is set; says whether it is.
            clock: Monotonic seconds.

        Raises:
            BadInput: The address cannot be one.

        """
        import httpx2  # here, because naming a model should not cost its import

        self.url = url
        self._patience, self._pause, self._clock = patience, pause, clock
        # a closure: the key is no attribute, so that nothing that prints an object prints it
        self._hush = (lambda text: text.replace(key, "***")) if key else str
        try:
            self._client = httpx2.Client(
                base_url=url,
                headers={"Authorization": f"Bearer {key}"} if key else {},
                follow_redirects=False,
                limits=httpx2.Limits(max_connections=connections, max_keepalive_connections=connections),
            )
        except httpx2.InvalidURL as error:
            raise BadInput(f"{url}: no address of a server ({error}); write e.g. http://gpu7:8000/v1") from error

    def __enter__(self) -> Self:
        """Close the connections at the end."""
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def get(self, path: str) -> bytes:
        """The body of a GET. Raises as `post` does."""
        return self._ask("GET", path, None, threading.Event(), self._patience.attempts)

    def post(self, path: str, document: dict[str, object], stop: threading.Event, *, patiently: bool = True) -> bytes:
        """The body of the answer to a JSON document.

        Args:
            path: Below the server's address, with its leading slash.
            document: The request.
            stop: Once set, a pending pause ends and there is no further attempt.
            patiently: Whether there is a second attempt at all.

        Raises:
            BadInput: Wrong key, unknown model or path, or a redirect: every other request would end likewise.
            MachineFault: No answer although asked again, or one that is no answer.

        """
        attempts = self._patience.attempts if patiently else 1
        return self._ask("POST", path, json.dumps(document).encode(), stop, attempts)

    def _ask(self, method: str, path: str, body: bytes | None, stop: threading.Event, attempts: int) -> bytes:
        end_s = self._clock() + self._patience.total_s
        attempt = 0
        while True:
            attempt += 1
            try:
                return self._once(method, path, body, end_s)
            except _Passing as fault:
                pause_s = self._patience.pause_s(attempt, fault.retry_after_s)
                if attempt < attempts and self._clock() + pause_s < end_s and not self._pause(stop, pause_s):
                    continue
                tried = "1 attempt" if attempt == 1 else f"{attempt} attempts"
                raise MachineFault(
                    f"{self.url}{path}: {fault} (after {tried}); does the server run, and is it overloaded?"
                ) from fault

    def _once(self, method: str, path: str, body: bytes | None, end_s: float) -> bytes:
        import httpx2

        left_s = max(end_s - self._clock(), 0.001)
        read_s, connect_s = min(self._patience.read_s, left_s), min(self._patience.connect_s, left_s)
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}  # a body's size is what it says
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            with self._client.stream(
                method, path, content=body, headers=headers, timeout=httpx2.Timeout(read_s, connect=connect_s)
            ) as response:
                if response.status_code in _OK:
                    return self._body(response, path, end_s)
                raise self._refusal(response, path, end_s)
        except httpx2.TimeoutException as error:
            waited = f"connection within {connect_s:g} s" if _connecting(error) else f"byte within {read_s:g} s"
            raise _Passing(f"no {waited}") from error
        except httpx2.TransportError as error:
            raise _Passing(_one_line(str(error)) or type(error).__name__) from error
        except httpx2.DecodingError as error:
            raise MachineFault(
                f"{self.url}{path}: an answer that cannot be decoded ({_one_line(str(error))})"
            ) from error

    def _body(self, response: "httpx2.Response", path: str, end_s: float) -> bytes:
        data = bytearray()
        for chunk in response.iter_bytes():
            data += chunk
            if len(data) > MAX_BODY_BYTES:
                raise MachineFault(
                    f"{self.url}{path}: the answer is larger than {MAX_BODY_BYTES // 2**20} MiB, as no model's is; "
                    "is this the address of an OpenAI-compatible server?"
                )
            if self._clock() > end_s:
                raise _Passing(f"no whole answer within {self._patience.total_s:g} s")
        return bytes(data)

    def _refusal(self, response: "httpx2.Response", path: str, end_s: float) -> Exception:
        """What to raise for a status that is no success."""
        status, where = response.status_code, f"{self.url}{path}: HTTP {response.status_code}"
        if status in _REDIRECTS:
            target = urlsplit(response.headers.get("location", ""))
            to = f" to {target.scheme}://{target.hostname}{target.path}" if target.hostname else ""
            return BadInput(self._hush(f"{where}: redirects{to}, which is not followed; name the final address"))
        message = self._message(response, end_s)
        if status in _PASSING or status not in _REFUSALS:
            return _Passing(f"HTTP {status}: {message}", _retry_after_s(response.headers.get("retry-after")))
        if status in _WRONG_KEY:
            return BadInput(f"{where}: {message}; set {KEY_VARIABLE} to a key that this server takes")
        if status == _UNKNOWN:
            return BadInput(
                f"{where}: {message}; is the model served by this name (GET {self.url}/models lists them), "
                "and does the address end as the server's does, often with /v1?"
            )
        return MachineFault(f"{where}: {message}; the server refuses this request, so look at its limits and its log")

    def _message(self, response: "httpx2.Response", end_s: float) -> str:
        """What the server says is wrong: one short line without the key."""
        data = bytearray()
        for chunk in response.iter_bytes():
            data += chunk
            if len(data) > _MAX_ERROR_BYTES or self._clock() > end_s:
                break
        text = bytes(data[:_MAX_ERROR_BYTES]).decode(errors="replace")
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            found = text
        for name in ("error", "message", "detail"):  # OpenAI nests the second in the first; FastAPI says the third
            if isinstance(found, dict) and found.get(name):
                found = found[name]
        return _one_line(self._hush(found if isinstance(found, str) else json.dumps(found))) or "no reason given"


def checked_url(url: str) -> str:
    """The address without its trailing slash.

    Raises:
        BadInput: It is none, or holds a secret, which is not repeated: names are written into results and logs.

    """
    example = "write e.g. openai_api:http://gpu7:8000/v1#MODEL"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise BadInput(f"openai_api: the address is no URL ({error}); {example}") from error
    if "@" in parts.netloc or parts.query or "?" in url:
        raise BadInput(
            f"openai_api: the address of {parts.hostname} holds a user, a password or a query, and names are "
            f"written into results; leave them out and set {KEY_VARIABLE}"
        )
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0 or not _ADDRESS.fullmatch(url):
        raise BadInput(f"openai_api: {url!r} is no http(s) address of a server; {example}")
    return url.rstrip("/")


def environment_key() -> str | None:
    """The key of this machine's environment. Raises `BadInput`, without the key, where no header could carry it."""
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if key and not _KEY_TEXT.fullmatch(key):
        raise BadInput(
            f"{KEY_VARIABLE} holds blanks, quotes or characters other than ASCII, which no key has; set it anew"
        )
    return key or None


def _connecting(error: "httpx2.TimeoutException") -> bool:
    import httpx2

    return isinstance(error, httpx2.ConnectTimeout | httpx2.PoolTimeout)


def _retry_after_s(value: str | None) -> float | None:
    """Seconds from a number or an HTTP date; None where there is neither."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        until = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (until.replace(tzinfo=until.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


def _one_line(text: str) -> str:
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= _MAX_MESSAGE_CHARS else f"{line[:_MAX_MESSAGE_CHARS]}..."
