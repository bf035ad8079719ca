from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_models import save_qwen2_5_vl, save_qwen3_vl
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForImageTextToText, AutoProcessor

from t2s_core.errors import BadInput, MachineFault
from t2s_core.ports import PromptRequest
from t2s_core.prompters.prefix import image_positions
from t2s_core.prompters.qwen_vl import QwenVlPrompter
from t2s_core.prompters.rows import FixedRows, Rows
from t2s_core.registry import load_prompter, prompter_profile
from t2s_core.world.samples import samples

QUERIES = ["the lake", "where could a seaplane land, if it came from the far north?", "a", "roofs of red tiles"]


def images(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(7)
    return [rng.integers(0, 256, (40 + 30 * i, 64, 3), dtype=np.uint8) for i in range(count)]


REQUESTS = [PromptRequest(f"s/0/0/{i}", image, q) for i, image in enumerate(images(3)) for q in QUERIES]


@pytest.fixture(scope="module", params=[save_qwen2_5_vl, save_qwen3_vl])
def directory(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    save: Callable[..., Path] = request.param
    return save(tmp_path_factory.mktemp("qwen"))


@pytest.fixture(scope="module")
def prompter(directory: Path) -> QwenVlPrompter:
    loaded = load_prompter(f"qwen_vl:{directory}")
    assert isinstance(loaded, QwenVlPrompter)
    return loaded


def test_replies_are_those_of_plain_generate(directory: Path, prompter: QwenVlPrompter) -> None:
    """The oracle shares nothing with ours: one question at a time, transformers' own processor, positions and loop."""
    model = AutoModelForImageTextToText.from_pretrained(directory, dtype=torch.float32).eval()
    processor = AutoProcessor.from_pretrained(directory)
    template = prompter.profile.template
    expected = []
    for request in REQUESTS:
        side = prompter.profile.model_px
        squashed = Image.fromarray(request.image).resize((side, side), Image.Resampling.LANCZOS)
        messages = [
            {"role": "system", "content": template.system},
            {
                "role": "user",
                "content": [{"type": "image"}, {"type": "text", "text": template.user_text(request.query)}],
            },
        ]
        text = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        inputs = processor(text=[text], images=[squashed], do_resize=False, return_tensors="pt")
        ids = model.generate(**inputs, do_sample=False, max_new_tokens=prompter.profile.max_new_tokens)
        new = ids[0, inputs["input_ids"].shape[1] :].tolist()
        while new and new[-1] == processor.tokenizer.eos_token_id:
            new.pop()
        expected.append(processor.tokenizer.decode(new, skip_special_tokens=False))
    assert [reply.text for reply in prompter.reply(REQUESTS)] == expected
    assert len(set(expected)) > len(REQUESTS) // 2  # random weights, yet they look and read


def test_the_image_is_computed_once_for_all_its_questions(prompter: QwenVlPrompter) -> None:
    seen = []
    visual = prompter._model.model.visual
    handle = visual.register_forward_hook(lambda _m, _a, kwargs, _o: seen.append(kwargs["grid_thw"]), with_kwargs=True)
    prompter.reply(REQUESTS)
    handle.remove()
    assert sum(len(grid) for grid in seen) == 3


def test_batches_of_any_size_give_the_same_replies(prompter: QwenVlPrompter) -> None:
    whole = prompter.reply(REQUESTS)
    for images_per_batch, rows_per_batch in ((1, 1), (2, 3), (1, 2)):
        small = QwenVlPrompter(
            prompter._model,
            prompter._processor,
            profile=prompter.profile,
            version="v",
            images_per_batch=images_per_batch,
            rows_per_batch=rows_per_batch,
        )
        assert small.reply(REQUESTS) == whole


def test_a_reply_ends_with_its_answer_or_an_end_token(prompter: QwenVlPrompter) -> None:
    def ids(text: str) -> list[int]:
        return list(prompter._tokenizer(text, add_special_tokens=False)["input_ids"])

    assert prompter._stops(ids("<answer>[]</answer>"))
    assert not prompter._stops(ids("[]</answer>\n"))  # it ended before, and is asked after each token
    assert prompter._stops(ids("well<|im_end|>"))
    assert not prompter._stops(ids("<answer>[]</answer"))
    assert not prompter._stops(ids("</think>"))


def test_truncation_is_told_from_an_end(directory: Path, prompter: QwenVlPrompter) -> None:
    limited = prompter.profile.model_copy(update={"max_new_tokens": 3})
    short = QwenVlPrompter(prompter._model, prompter._processor, profile=limited, version="v").reply(REQUESTS)
    full = prompter.reply(REQUESTS)
    for a, b in zip(short, full, strict=True):
        assert a.n_tokens <= 3
        assert a.truncated == (b.n_tokens > 3)


def test_rows_that_end_early_do_not_disturb_the_others(
    prompter: QwenVlPrompter, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = [reply.text for reply in prompter.reply(REQUESTS)]
    stopping = {reply[: 2 + i] for i, reply in enumerate(whole)}
    monkeypatch.setattr(prompter, "_stops", lambda ids: prompter._text(ids) in stopping)
    for text, reply in zip(whole, prompter.reply(REQUESTS), strict=True):
        assert text.startswith(reply.text)
        assert reply.truncated == (reply.text not in stopping)


def test_broken_logits_are_a_machine_fault(directory: Path) -> None:
    broken = load_prompter(f"qwen_vl:{directory}")
    assert isinstance(broken, QwenVlPrompter)
    broken._model.lm_head.weight.data[3] = float("nan")
    with pytest.raises(MachineFault, match="not finite"):
        broken.reply(REQUESTS[:1])


def test_what_cannot_work_is_bad_input(directory: Path, prompter: QwenVlPrompter, tmp_path: Path) -> None:
    profile = prompter_profile(f"qwen_vl:{directory}")
    with pytest.raises(BadInput, match="16 px patches"):
        QwenVlPrompter(
            prompter._model, prompter._processor, profile=profile.model_copy(update={"model_px": 65}), version="v"
        )
    with pytest.raises(BadInput, match="cannot be loaded"):
        QwenVlPrompter.load(tmp_path, profile=profile, version="v")
    with pytest.raises(BadInput, match="CUDA"):
        QwenVlPrompter.load(directory, profile=profile, version="v", device="cuda:99")
    with pytest.raises(BadInput, match="device"):
        QwenVlPrompter.load(directory, profile=profile, version="v", device="abacus")


def test_missing_weights_are_not_replaced_by_random_ones(directory: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    for path in directory.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    weights = load_file(tmp_path / "model.safetensors")
    del weights[next(key for key in weights if "mlp" in key)]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BadInput, match="lacks the weights"):
        load_prompter(f"qwen_vl:{tmp_path}")


def test_image_positions() -> None:
    positions, after = image_positions(2, (2, 3))
    assert positions.tolist() == [[2, 2, 2, 2, 2, 2], [2, 2, 2, 3, 3, 3], [2, 3, 4, 2, 3, 4]]
    assert after == 5


def refuse_more_than(most: int, model: object, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Memory runs out wherever more rows go through the model; the numbers of rows tried."""
    tried, forward = [], model.forward  # type: ignore[attr-defined]

    def limited(*args: object, **inputs: object) -> object:
        tried.append(inputs["input_ids"].shape[0])  # type: ignore[attr-defined]
        if tried[-1] > most:
            raise RuntimeError(
                "[enforce fail at alloc_cpu.cpp] . DefaultCPUAllocator: can't allocate memory: you tried"
            )
        return forward(*args, **inputs)

    monkeypatch.setattr(model, "forward", limited)
    return tried


def test_where_memory_runs_out_batches_halve_and_stay_small(
    prompter: QwenVlPrompter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def prompting(images_per_batch: int, rows_per_batch: int) -> QwenVlPrompter:
        return QwenVlPrompter(
            prompter._model,
            prompter._processor,
            profile=prompter.profile,
            version="v",
            images_per_batch=images_per_batch,
            rows_per_batch=rows_per_batch,
        )

    small = prompting(2, 3).reply(REQUESTS)
    tried = refuse_more_than(3, prompter._model, monkeypatch)
    short = prompting(8, 12)
    assert short.reply(REQUESTS) == small
    assert (short._images_per_batch.size, short._rows_per_batch.size) == (8, 3)
    assert max(tried) == 12
    tried.clear()
    assert short.reply(REQUESTS) == small
    assert max(tried) == 3
    refuse_more_than(0, prompter._model, monkeypatch)
    with pytest.raises(MachineFault, match=r"can't allocate memory.* GiB free"):
        short.reply(REQUESTS)


def test_replies_depend_on_no_order(prompter: QwenVlPrompter, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the bit: what goes through the model is the same, whatever the order of the requests."""
    seen: list[torch.Tensor] = []
    handle = prompter._model.register_forward_hook(lambda _m, _i, output: seen.append(output.logits.clone()))
    passes = []
    for requests in (REQUESTS, REQUESTS, REQUESTS[::-1], REQUESTS[5:] + REQUESTS[:5]):
        seen.clear()
        by_request = dict(zip([(r.key, r.query) for r in requests], prompter.reply(requests), strict=True))
        passes.append((by_request, list(seen)))
    handle.remove()
    first, logits = passes[0]
    for other, other_logits in passes[1:]:
        assert other == first
        assert len(other_logits) == len(logits)
        assert all(torch.equal(a, b) for a, b in zip(logits, other_logits, strict=True))


def test_logits_differ_by_rounding_only_between_batch_sizes(prompter: QwenVlPrompter) -> None:
    """Within 1e-4 (measured: 5e-6, of logits up to 8): sums are taken in another order."""

    def first_logits(rows: int) -> torch.Tensor:
        head, suffixes = prompter._tokens(QUERIES)
        prefix = prompter._prefix([REQUESTS[0].image], prompter._head(head))
        parts = [suffixes[i : i + rows] for i in range(0, len(suffixes), rows)]
        with torch.inference_mode():
            return torch.cat([Rows(prompter._model, prefix, [0] * len(p), p, 0).logits for p in parts])

    whole = first_logits(len(QUERIES))
    assert whole.abs().max() > 1
    for rows in (1, 2, 3):
        torch.testing.assert_close(first_logits(rows), whole, atol=1e-4, rtol=0)


def test_the_text_before_images_is_computed_once(prompter: QwenVlPrompter) -> None:
    fresh = QwenVlPrompter(prompter._model, prompter._processor, profile=prompter.profile, version="v")
    lengths: list[tuple[int, ...]] = []
    handle = fresh._model.register_forward_pre_hook(
        lambda _m, _a, inputs: lengths.append(tuple(inputs["input_ids"].shape)), with_kwargs=True
    )
    for _ in range(2):
        fresh.reply(REQUESTS)
    handle.remove()
    n_head = len(fresh._tokens(QUERIES)[0])
    assert [shape for shape in lengths if shape[1] == n_head] == [(1, n_head)]
    assert lengths.count((3, 16)) == 2  # the images, 4 x 4 merged patches each: without the text


def test_a_model_in_training_is_asked_with_the_weights_it_has_now(directory: Path) -> None:
    training = load_prompter(f"qwen_vl:{directory}")
    assert isinstance(training, QwenVlPrompter)
    training._model.requires_grad_(requires_grad=True)
    before = training.reply(REQUESTS[:4])
    with torch.no_grad():
        for weights in training._model.model.language_model.parameters():
            weights.data.mul_(1.5)
    fresh = QwenVlPrompter(training._model, training._processor, profile=training.profile, version="v")
    assert training.reply(REQUESTS[:4]) == fresh.reply(REQUESTS[:4])
    ids, _ = training._tokens(QUERIES)
    for (keys, _), (fresh_keys, _) in zip(training._head(ids), fresh._head(ids), strict=True):
        torch.testing.assert_close(keys, fresh_keys)
    assert training.reply(REQUESTS[:4]) != before


def test_a_prefix_is_the_memory_of_text_and_image_read_in_one_pass(prompter: QwenVlPrompter) -> None:
    """Within 1e-4: with earlier keys, attention takes another kernel."""
    head, _ = prompter._tokens(QUERIES)
    image = Image.fromarray(REQUESTS[0].image).resize((64, 64), Image.Resampling.LANCZOS)
    features = prompter._processor.image_processor(images=[image], do_resize=False, return_tensors="pt")
    positions, after = image_positions(len(head), (4, 4))
    with torch.inference_mode():
        prefix = prompter._prefix([REQUESTS[0].image], prompter._head(head))
        whole = prompter._model(
            input_ids=torch.tensor([[*head, *[prompter._image_id] * 16]]),
            position_ids=torch.cat([torch.arange(len(head)).expand(3, -1), positions], dim=1)[:, None],
            use_cache=True,
            **features,
        ).past_key_values
    assert prefix.next_position == after
    for (keys, values), layer in zip(prefix.layers, whole.layers, strict=True):
        torch.testing.assert_close(keys, layer.keys, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(values, layer.values, atol=1e-4, rtol=1e-4)


def test_long_replies_outgrow_the_room_taken_for_them(prompter: QwenVlPrompter) -> None:
    long = prompter.profile.model_copy(update={"max_new_tokens": 150})
    replies = [
        QwenVlPrompter(prompter._model, prompter._processor, profile=long, version="v", rows_per_batch=rows).reply(
            REQUESTS[:4]
        )
        for rows in (1, 4)
    ]
    assert replies[0] == replies[1]
    assert max(reply.n_tokens for reply in replies[0]) > 128


def test_the_bundled_prompter_says_the_same_at_every_batch_size() -> None:
    bundled = load_prompter("bundled")
    assert isinstance(bundled, QwenVlPrompter)
    asked = list(samples("val", 8, 0.25))
    requests = [
        PromptRequest(str(n), one.image, other.query.text) for n, one in enumerate(asked) for other in asked[:3]
    ]
    one_by_one = QwenVlPrompter(
        bundled._model, bundled._processor, profile=bundled.profile, version="v", images_per_batch=1, rows_per_batch=1
    )
    assert one_by_one.reply(requests) == bundled.reply(requests)


def test_fixed_rows_say_the_same_however_rows_end_and_room_runs_out(
    prompter: QwenVlPrompter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def prompting(*, graphs: bool) -> QwenVlPrompter:
        profile = prompter.profile.model_copy(update={"max_new_tokens": 150})
        made = QwenVlPrompter(prompter._model, prompter._processor, profile=profile, version="v", graphs=graphs)
        monkeypatch.setattr(made, "_stops", lambda ids: len(ids) >= 20 + 13 * (sum(ids[:5]) % 10))
        return made

    want = prompting(graphs=False).reply(REQUESTS)
    monkeypatch.setattr(FixedRows, "_room", 40)
    assert prompting(graphs=True).reply(REQUESTS) == want
    assert len({reply.n_tokens for reply in want}) > 3
    assert max(reply.n_tokens for reply in want) > 70


def test_a_step_of_fixed_rows_asks_nothing_of_the_host_and_moves_no_tensor(prompter: QwenVlPrompter) -> None:
    """Else a GPU could not replay it."""
    head, suffixes = prompter._tokens(QUERIES)
    rows_per_step: list[list[str]] = []

    class Noted(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            rows_per_step[-1].append(str(func))
            return func(*args, **(kwargs or {}))

    with torch.inference_mode():
        prefix = prompter._prefix([REQUESTS[0].image], prompter._head(head))
        rows = FixedRows(prompter._model, prefix, [0] * len(QUERIES), suffixes, 0)
        rows.advance()
        held = (rows._token, rows._said, rows._position, rows._seen, rows._at, *(layer._keys for layer in rows._layers))
        places = [tensor.data_ptr() for tensor in held]
        for _ in range(2):
            rows_per_step.append([])
            with Noted():
                rows._run()
    assert [tensor.data_ptr() for tensor in held] == places
    assert rows_per_step[0] == rows_per_step[1]
    assert "aten.index_copy_.default" in rows_per_step[0]
    for asking in ("_local_scalar_dense", "lift_fresh", "nonzero", "is_nonzero", "equal.default"):
        assert not [op for op in rows_per_step[0] if asking in op]
