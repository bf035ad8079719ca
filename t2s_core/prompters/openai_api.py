"""Any OpenAI-compatible server (vLLM, SGLang, `transformers serve`) as a prompter.

Its replies are those of `qwen_vl` as far as the server computes alike: the same messages, the same squashed image as a
lossless PNG, greedy decoding. How the differences of servers are met:

- **Image before text.** All queries of a tile share what precedes them, and the server's prefix cache serves it. Every
  tile's first query is sent before any tile's second. A sibling does not wait for that one's reply: servers publish a
  prefix when it is computed, long before the reply is written, and would idle meanwhile.
- **End.** No stop string is sent: servers cut it off, and then a closed answer looks like an open one. What follows
  `</answer>` is dropped here, as `qwen_vl` never writes it, and a reply with `</answer>` in it is not truncated.
- **Thought.** Servers that parse reasoning out of a reply give it in a field of its own; it is put back in its tags.
- **Outages.** A call waits for the server with all patience, but what failed is tried just once when it is asked again
  by itself, and after five failed calls in a row nothing is waited for until the server answers.
- **Penalties.** Published generation configs ask for a repetition penalty. `transformers serve` reads a
  `frequency_penalty` of 0 as none; vLLM and SGLang take a field of their own, which other servers refuse.
"""

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from functools import partial
from itertools import zip_longest
from threading import Event
from typing import Self

from PIL import Image as PillowImage
from pydantic import BaseModel, Field, ValidationError

from t2s_core.errors import MachineFault
from t2s_core.ports import Image, PromptRequest, RawReply
from t2s_core.profiles import PrompterProfile
from t2s_core.prompters.chat import Message, chat_messages
from t2s_core.prompters.openai_model import ServedModel, first_fault
from t2s_core.prompters.openai_server import Patience, Server, environment_key

CONCURRENCY = 16
MAX_FAILED_CALLS = 5
"""In a row, about a minute each where the server is gone: it may start anew meanwhile, but must not hold up a run."""
_COMPLETIONS = "/chat/completions"
_END = "</answer>"
_BROKEN = ("abort", "error")
"""Reasons for which vLLM and SGLang end a reply that they could not finish."""


class _Message(BaseModel):
    content: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    """The older name of `reasoning`."""
    tool_calls: list[object] | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Usage(BaseModel):
    completion_tokens: int | None = Field(default=None, ge=0)


class _Completion(BaseModel):
    choices: list[_Choice] = Field(min_length=1)
    usage: _Usage | None = None


class OpenAiPrompter:
    """One model of one server. One instance per worker process, never pickled, one thread at a time."""

    def __init__(
        self,
        server: Server,
        served: ServedModel,
        *,
        profile: PrompterProfile,
        version: str,
        penalty: Mapping[str, object],
        concurrency: int = CONCURRENCY,
    ) -> None:
        """Wrap a server that is there.

        Args:
            server: With at least `concurrency` connections.
            served: Whom to ask for.
            profile: How to ask it and how to read it.
            version: Names it in results.
            penalty: Fields that switch this server's repetition penalty off.
            concurrency: Requests in flight at most.

        """
        self.profile = profile
        self.version = version
        self._server, self._served = server, served
        self._penalty, self._concurrency = penalty, concurrency
        self._failed: set[tuple[str, str]] = set()  # (key, query) of the last call that failed patiently
        self._n_failed_calls = 0

    @classmethod
    def load(
        cls,
        served: ServedModel,
        *,
        profile: PrompterProfile,
        custom: str = "",
        patience: Patience | None = None,
        concurrency: int = CONCURRENCY,
    ) -> Self:
        """Ask the server what it serves. The key is read from this machine's environment.

        Args:
            served: As `find_served` found it.
            profile: The served model's, or with a template of the user's own.
            custom: What that template adds to the version.
            patience: Other limits than the usual.
            concurrency: Requests in flight at most.

        Raises:
            BadInput: Wrong key, or the server does not serve the model.
            MachineFault: The server does not answer.

        """
        server = Server(served.url, key=environment_key(), patience=patience or Patience(), connections=concurrency)
        listing = served.listing(server)
        return cls(
            server,
            served,
            profile=profile,
            version=served.version(listing) + custom,
            penalty={"repetition_penalty": 1.0} if listing.software else {},
            concurrency=concurrency,
        )

    def reply(self, requests: Sequence[PromptRequest]) -> list[RawReply]:
        """One reply per request, in order. An image is encoded once per distinct key.

        Raises:
            MachineFault: A request had no answer; those not yet sent are not sent any more.
            BadInput: The key is wrong, or the model is not served any more.

        """
        asked = {(request.key, request.query) for request in requests}
        patiently = self._n_failed_calls < MAX_FAILED_CALLS and not asked <= self._failed
        try:
            replies = self._replies(requests, patiently=patiently)
        except MachineFault:
            if patiently:
                self._failed, self._n_failed_calls = asked, self._n_failed_calls + 1
            raise
        self._failed, self._n_failed_calls = set(), 0
        return replies

    def _replies(self, requests: Sequence[PromptRequest], *, patiently: bool) -> list[RawReply]:
        images = {request.key: request.image for request in reversed(requests)}
        stop = Event()
        ask = partial(self._one, stop=stop, patiently=patiently)
        with ThreadPoolExecutor(self._concurrency, thread_name_prefix="openai_api") as pool:
            try:
                urls = dict(zip(images, pool.map(self._data_url, images.values()), strict=True))
                futures = {
                    index: pool.submit(ask, requests[index].query, urls[requests[index].key])
                    for index in _leaders_first(requests)
                }
                done, _ = wait(futures.values(), return_when=FIRST_EXCEPTION)
                for fault in filter(None, (future.exception() for future in done)):
                    raise fault
            finally:
                stop.set()
                pool.shutdown(cancel_futures=True)
        return [futures[index].result() for index in range(len(requests))]

    def _data_url(self, image: Image) -> str:
        side = self.profile.model_px
        squashed = PillowImage.fromarray(image).resize((side, side), PillowImage.Resampling.LANCZOS)
        file = io.BytesIO()
        squashed.save(file, "PNG", compress_level=1)  # lossless at any level; the network is faster than deflate
        return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"

    def _one(self, query: str, image_url: str, *, stop: Event, patiently: bool) -> RawReply:
        document: dict[str, object] = {
            "model": self._served.model,
            "messages": self._messages(query, image_url),
            "max_tokens": self.profile.max_new_tokens,
            "temperature": 0,
            "frequency_penalty": 0,
            **self._penalty,
        }
        answer = self._server.post(_COMPLETIONS, document, stop, patiently=patiently)
        try:
            return self._raw(_Completion.model_validate_json(answer))
        except ValidationError as error:
            raise MachineFault(f"{self._served.url}{_COMPLETIONS}: no completion ({first_fault(error)})") from error

    def _messages(self, query: str, image_url: str) -> list[Message]:
        messages = chat_messages(self.profile.template, query, list(self._served.special_texts))
        for message in messages:
            if isinstance(message["content"], list):
                message["content"] = [
                    {"type": "image_url", "image_url": {"url": image_url}} if part["type"] == "image" else part
                    for part in message["content"]
                ]
        return messages

    def _raw(self, completion: _Completion) -> RawReply:
        choice = completion.choices[0]
        if choice.finish_reason in _BROKEN:
            raise MachineFault(
                f"{self._served.url}{_COMPLETIONS}: the server ended a reply with {choice.finish_reason!r}"
            )
        text, closed, _ = self._text(choice.message).partition(_END)
        n_tokens = completion.usage.completion_tokens if completion.usage is not None else None
        return RawReply(
            text + closed, truncated=choice.finish_reason == "length" and not closed, n_tokens=n_tokens or 0
        )

    def _text(self, message: _Message) -> str:
        """The reply as the model wrote it, whatever the server made of it."""
        thought = message.reasoning if message.reasoning is not None else message.reasoning_content
        content = message.content or ""
        if thought is not None:
            # An unfinished thought has nothing behind it; closing it would make another reply of it.
            return f"<think>{thought}</think>{content}" if content else f"<think>{thought}"
        if message.content is None and not message.tool_calls:  # a call of a tool that nobody offered is a bad answer
            raise MachineFault(f"{self._served.url}{_COMPLETIONS}: choices.0.message holds no content")
        return content


def _leaders_first(requests: Sequence[PromptRequest]) -> Iterator[int]:
    """Places of the requests: the first of every key, then the second of every key, and so on."""
    by_key: dict[str, list[int]] = {}
    for index, request in enumerate(requests):
        by_key.setdefault(request.key, []).append(index)
    for turn in zip_longest(*by_key.values()):
        yield from (index for index in turn if index is not None)
