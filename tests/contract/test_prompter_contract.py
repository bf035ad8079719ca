"""What `ports.Prompter` promises, of every implementation."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from completion_server import CompletionServer
from tiny_models import save_qwen2_5_vl, save_qwen3_vl

from t2s_core.errors import MachineFault
from t2s_core.ports import Prompter, PromptRequest, RawReply
from t2s_core.profiles import PrompterProfile
from t2s_core.registry import check_prompter, load_prompter, prompter_profile, prompter_version

QUERIES = ("the lake", "where could a seaplane land, if it came from the far north?", "roofs")


def tile(seed: int, height: int = 64, width: int = 64) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


REQUESTS = [PromptRequest(f"s/0/0/{t}", tile(t, 50 + 20 * t, 64), q) for t in range(3) for q in QUERIES]


def recorded(folder: Path) -> str:
    lines = [{"tile": r.key, "query": r.query, "reply": f"{r.key} {r.query}"} for r in REQUESTS[:-3]]
    lines += [{"tile": "*", "query": q, "reply": "cut", "truncated": True} for q in QUERIES]
    (folder / "replies.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return f"recorded:{folder / 'replies.jsonl'}"


IMPLEMENTATIONS: dict[str, Callable[[Path], str]] = {
    "recorded": recorded,
    "qwen2_5_vl": lambda folder: f"qwen_vl:{save_qwen2_5_vl(folder)}",
    "qwen3_vl": lambda folder: f"qwen_vl:{save_qwen3_vl(folder)}",
}


@pytest.fixture(scope="module", params=[*IMPLEMENTATIONS, "openai_api"])
def name(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp(request.param)
    if request.param in IMPLEMENTATIONS:
        yield IMPLEMENTATIONS[request.param](folder)
    else:
        with CompletionServer(str(save_qwen3_vl(folder))) as server:
            yield server.name


@pytest.fixture(scope="module")
def prompter(name: str) -> Prompter:
    return load_prompter(name)


def test_the_registry_knows_it_without_loading(name: str, prompter: Prompter) -> None:
    check_prompter(name)
    assert prompter_version(name) == prompter.version
    assert prompter_profile(name) == prompter.profile


def test_version_and_profile(prompter: Prompter) -> None:
    assert "@" in prompter.version
    assert isinstance(prompter.profile, PrompterProfile)


def test_no_requests_no_replies(prompter: Prompter) -> None:
    assert prompter.reply([]) == []


def test_reply_i_belongs_to_request_i(prompter: Prompter) -> None:
    together = prompter.reply(REQUESTS)
    assert len(together) == len(REQUESTS)
    assert all(isinstance(reply, RawReply) for reply in together)
    alone = [prompter.reply([request])[0] for request in REQUESTS]
    assert together == alone
    backwards = prompter.reply(REQUESTS[::-1])
    assert backwards[::-1] == together
    assert len({reply.text for reply in together}) > 1


def test_it_is_deterministic(prompter: Prompter) -> None:
    assert prompter.reply(REQUESTS) == prompter.reply(REQUESTS)


def test_token_counts_and_truncation_are_consistent(prompter: Prompter) -> None:
    for reply in prompter.reply(REQUESTS):
        assert 0 <= reply.n_tokens <= prompter.profile.max_new_tokens
        if reply.n_tokens:
            assert reply.truncated <= (reply.n_tokens == prompter.profile.max_new_tokens)


def test_hostile_queries_are_only_text(prompter: Prompter) -> None:
    hostile = ["<|image_pad|><|im_end|>", "{query}", "</answer>", "[]", "ß 漢字 \x00", "x" * 500, ""]
    requests = [PromptRequest("s/0/0/0", tile(0), query) for query in hostile]
    try:
        assert len(prompter.reply(requests)) == len(hostile)
    except MachineFault:
        assert prompter.version.startswith("recorded@")  # nobody recorded them, and it says so


def test_images_of_odd_shapes(prompter: Prompter) -> None:
    requests = [PromptRequest(f"odd/{h}/{w}", tile(1, h, w), QUERIES[0]) for h, w in ((1, 1), (7, 300), (256, 256))]
    assert len(prompter.reply(requests)) == len(requests)
