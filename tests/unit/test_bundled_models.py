"""The models that ship: their tokenizer, their replies, their files."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import PreTrainedTokenizerFast

from t2s_core.bundled.build.leaves import draw_leaves
from t2s_core.bundled.build.packing import MAX_INSTANCES, Packer, collate
from t2s_core.bundled.build.tokenizer import NUMBERS, make_tokenizer, reply_text
from t2s_core.profiles import read_prompter_profile, read_segmenter_profile
from t2s_core.replies import Answer, parse_reply
from t2s_core.world.nonsense import nonsense
from t2s_core.world.samples import samples

BUNDLED = Path(__file__).parents[2] / "t2s_core" / "bundled"
MAX_MB = 25


@pytest.fixture(scope="module")
def prompter() -> Path:
    folder = BUNDLED / "prompter"
    if not (folder / "model.safetensors").is_file():
        pytest.skip("no prompter is bundled yet; `python -m t2s_core.bundled.build prompter` trains one")
    return folder


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return make_tokenizer()


def test_every_coordinate_is_one_token(tokenizer: PreTrainedTokenizerFast) -> None:
    assert all(len(tokenizer(str(n))["input_ids"]) == 1 for n in range(NUMBERS))


def test_words_without_meaning_are_read_in_pieces(tokenizer: PreTrainedTokenizerFast) -> None:
    lengths = [len(tokenizer(word)["input_ids"]) for word in nonsense() if " " not in word]
    assert min(lengths) >= 2
    assert np.mean(lengths) > 4


def test_replies_survive_the_tokenizer_and_the_parser(tokenizer: PreTrainedTokenizerFast, prompter: Path) -> None:
    profile = read_prompter_profile(prompter / "profile.json")
    for sample in samples("val", 12, 0.3):
        text = reply_text(sample.query.name, sample.instances)
        assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text
        judged = parse_reply(text, truncated=False, profile=profile)
        assert isinstance(judged, Answer)
        assert [p.box for p in judged.instances_model_px] == [
            tuple(map(float, i.box_tile_px)) for i in sample.instances
        ]


def test_the_longest_reply_that_is_taught_fits(tokenizer: PreTrainedTokenizerFast, prompter: Path) -> None:
    profile = read_prompter_profile(prompter / "profile.json")
    sample = next(s for s in samples("val", 9, 0.0) if s.instances)
    text = reply_text(sample.query.name, [sample.instances[0]] * MAX_INSTANCES)
    assert len(tokenizer(text)["input_ids"]) < profile.max_new_tokens


def test_packed_branches_see_the_image_and_themselves_only(tokenizer: PreTrainedTokenizerFast) -> None:
    packer = Packer(tokenizer, np.random.default_rng(0))
    chosen = list(samples("val", 2, 0.0))
    batch = collate([packer.row(chosen)])
    branch = np.concatenate((np.zeros(len(packer.prefix), int), packer.row(chosen).branch[len(packer.prefix) :]))
    mask = batch["mask"][0, 0].numpy() == 0
    first, second = np.flatnonzero(branch == 1)[-1], np.flatnonzero(branch == 2)[0]
    assert mask[first, 0]
    assert mask[second, len(packer.prefix) - 1]
    assert not mask[second, first]
    assert not mask[0, 1]


def test_dead_leaves_mark_every_shape_where_it_is_visible() -> None:
    image, numbers = draw_leaves(np.random.default_rng(0))
    assert image.shape == (256, 256, 3)
    assert numbers.shape == (256, 256)
    assert numbers.max() >= 3


def test_the_weights_are_small_and_described() -> None:
    weights = sorted(BUNDLED.glob("*/model.safetensors"))
    assert BUNDLED / "segmenter" / "model.safetensors" in weights
    assert sum(path.stat().st_size for path in weights) < MAX_MB * 1_000_000
    for path in weights:
        card = (path.parent / "README.md").read_text(encoding="utf-8")
        assert all(word in card for word in ("Data", "Recipe", "Seeds", "Scores", "Limits"))


def test_the_prompter_asks_for_tiles_of_its_own_size(prompter: Path) -> None:
    assert read_prompter_profile(prompter / "profile.json").model_px == 256


def test_the_segmenters_profile_agrees_with_its_config() -> None:
    side = json.loads((BUNDLED / "segmenter" / "config.json").read_text())["prompt_encoder_config"]["image_size"]
    assert read_segmenter_profile(BUNDLED / "segmenter" / "profile.json").model_px == side


def test_the_pair_answers_questions_about_unseen_tiles(prompter: Path) -> None:
    from t2s_core.bundled.build.evaluate import answer, load_engine, score

    torch.set_num_threads(os.cpu_count() or 1)
    chosen = list(samples("val", 24, 0.5))
    table = score(chosen, answer(load_engine(prompter.parent), chosen))
    # Far below what the card says of hundreds of samples, far above what answering at random reaches.
    assert table["giou"]["value"] > 0.8  # type: ignore[index]
    assert table["format_rate"]["value"] > 0.95  # type: ignore[index]
