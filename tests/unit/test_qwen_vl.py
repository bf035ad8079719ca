from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_models import save_qwen2_5_vl, save_qwen3_vl
from transformers import AutoModelForImageTextToText, AutoProcessor

from t2s_core.errors import BadInput, MachineFault
from t2s_core.ports import PromptRequest
from t2s_core.prompters.prefix import image_positions
from t2s_core.prompters.qwen_vl import QwenVlPrompter
from t2s_core.registry import load_prompter, prompter_profile

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
