from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import save_qwen2_5_vl, save_qwen3_vl
from torch.nn import functional
from transformers import AutoModelForImageTextToText

from t2s_core.prompters.vision import NAME, _Windows, make_quick


@settings(deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=12))
def test_each_window_attends_to_itself_alone(lengths: list[int]) -> None:
    torch.manual_seed(sum(lengths))
    query, key, value = torch.randn(3, 1, 2, sum(lengths), 8)
    ends = torch.tensor([0, *lengths]).cumsum(0)
    found, _ = _Windows()(torch.nn.Identity(), query, key, value, None, cu_seq_lens_q=ends, scaling=0.3)
    parts = zip(*(part.split(lengths, dim=2) for part in (query, key, value)), strict=True)
    one_by_one = [functional.scaled_dot_product_attention(q, k, v, scale=0.3).transpose(1, 2) for q, k, v in parts]
    torch.testing.assert_close(found, torch.cat(one_by_one, dim=1), atol=1e-5, rtol=1e-5)


def test_it_remembers_the_windows_of_the_last_inputs_and_of_no_others() -> None:
    windows = _Windows()
    for lengths in ([2, 2], [4], [3, 1], [2, 2]):
        ends = torch.tensor([0, *lengths]).cumsum(0)
        groups = windows._groups(ends)
        assert windows._groups(ends) is groups
        assert sorted({alike.length for alike in groups}) == sorted(set(lengths))
        assert len(windows._known) <= 2


def refuse_once_quick(tower: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    convolve = tower.patch_embed.proj.forward

    def forward(pixels: torch.Tensor) -> torch.Tensor:
        assert tower.config._attn_implementation != NAME
        return convolve(pixels)

    return forward


@pytest.mark.parametrize("save", [save_qwen2_5_vl, save_qwen3_vl])
def test_towers_see_the_same_with_far_fewer_calls(
    save: Callable[[Path], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tower = AutoModelForImageTextToText.from_pretrained(save(tmp_path)).eval().model.visual
    calls, attend = [], functional.scaled_dot_product_attention

    def counted(*args: torch.Tensor, **settings: object) -> torch.Tensor:
        calls.append(len(args[0]) if args else 1)
        return attend(*args, **settings)

    monkeypatch.setattr(functional, "scaled_dot_product_attention", counted)
    monkeypatch.setattr(tower.patch_embed.proj, "forward", refuse_once_quick(tower))
    torch.manual_seed(0)
    grid = torch.tensor([[1, 10, 10]] * 3)  # windows of 4 x 4 patches: whole ones, halves and a quarter
    pixels = torch.randn(300, tower.config.in_channels * tower.config.temporal_patch_size * tower.config.patch_size**2)
    with torch.inference_mode():
        before = tower(pixels, grid).pooler_output
        plain = len(calls)
        make_quick(tower)
        assert tower.config._attn_implementation == NAME
        calls.clear()
        after = tower(pixels, grid).pooler_output
    torch.testing.assert_close(after, before, atol=1e-5, rtol=1e-4)
    assert len(calls) <= 4
    assert plain >= 6


def test_another_implementation_is_left_alone(tmp_path: Path) -> None:
    tower = AutoModelForImageTextToText.from_pretrained(
        save_qwen3_vl(tmp_path), attn_implementation="eager"
    ).model.visual
    make_quick(tower)
    assert tower.config._attn_implementation == "eager"


def test_a_copy_of_a_quick_tower_is_quick_with_weights_of_its_own(tmp_path: Path) -> None:
    model = AutoModelForImageTextToText.from_pretrained(save_qwen2_5_vl(tmp_path)).eval()
    names = set(model.state_dict())
    make_quick(model.model.visual)
    assert set(model.state_dict()) == names
    copied = deepcopy(model.model.visual)
    with torch.no_grad():
        copied.patch_embed.proj.weight.zero_()
        assert not copied.patch_embed(torch.ones(2, 3 * 2 * 8 * 8)).any()
        assert model.model.visual.patch_embed(torch.ones(2, 3 * 2 * 8 * 8)).any()
    model.save_pretrained(tmp_path / "saved")
    assert NAME not in (tmp_path / "saved" / "config.json").read_text()
    AutoModelForImageTextToText.from_pretrained(tmp_path / "saved")
