"""A Qwen-VL's vision tower, made quick: the same numbers, but for rounding, in fewer and better calls.

Left to itself transformers calls attention once for each window of each image where there is no flash-attn package: an
840 px image of Qwen2.5-VL has 64 windows in each of 28 layers, far more calls than a GPU has work for. And it embeds
patches by a convolution in three dimensions whose stride is its kernel: a product of matrices in disguise, whose
implementations are slow.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import MethodType
from typing import Any

import torch
from torch.nn import functional
from transformers import AttentionInterface

NAME = "t2s_flash_windows"
"""transformers tells where windows end to implementations alone whose name holds `flash`."""


@dataclass(frozen=True, slots=True)
class _Alike:
    """Windows of one length."""

    length: int
    tokens: torch.Tensor | None
    """(windows * length,): the places of their tokens. None where there are no others."""


class _Windows:
    """The attention function. It keeps how the last inputs fall into windows: all layers ask alike, in two ways."""

    def __init__(self) -> None:
        self._known: list[tuple[torch.Tensor, list[_Alike]]] = []

    def __call__(
        self,
        _module: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        _mask: torch.Tensor | None = None,
        *,
        cu_seq_lens_q: torch.Tensor,
        scaling: float,
        **_: object,
    ) -> tuple[torch.Tensor, None]:
        """Attend within windows that lie one after another.

        Args:
            query: (1, heads, tokens, head_dim); so are key and value.
            key: See above.
            value: See above.
            cu_seq_lens_q: (windows + 1,): where each window starts, and the end of the last.
            scaling: Of the scores.

        Returns:
            (1, tokens, heads, head_dim), and no weights.

        """
        answer = query.new_empty(query.shape[2], query.shape[1], query.shape[3])
        for alike in self._groups(cu_seq_lens_q):
            q, k, v = (_batched(part, alike) for part in (query, key, value))
            attended = functional.scaled_dot_product_attention(q, k, v, scale=scaling)
            rows = attended.transpose(1, 2).flatten(0, 1)
            if alike.tokens is None:
                answer = rows
            else:
                answer[alike.tokens] = rows
        return answer[None], None

    def _groups(self, ends: torch.Tensor) -> list[_Alike]:
        """Of the windows between consecutive ends, (windows + 1,)."""
        for known, groups in self._known:
            if known is ends:
                return groups
        found = _alike(ends.tolist(), ends.device)
        self._known = [*self._known[-1:], (ends, found)]
        return found


def _alike(ends: Sequence[int], device: torch.device) -> list[_Alike]:
    starts: dict[int, list[int]] = {}
    for start, end in pairwise(ends):
        starts.setdefault(end - start, []).append(start)
    if len(starts) == 1:
        return [_Alike(next(iter(starts)), None)]
    return [
        _Alike(length, (torch.tensor(found)[:, None] + torch.arange(length)).flatten().to(device))
        for length, found in sorted(starts.items())
        if length
    ]


def _batched(part: torch.Tensor, alike: _Alike) -> torch.Tensor:
    """(1, heads, tokens, head_dim) to (windows, heads, length, head_dim)."""
    some = part[0] if alike.tokens is None else part[0, :, alike.tokens]
    return torch.unflatten(some, 1, (-1, alike.length)).transpose(0, 1)


AttentionInterface.register(NAME, _Windows())


def _embed_patches(module: Any, hidden_states: torch.Tensor) -> torch.Tensor:  # noqa: ANN401
    """(patches, values) to (patches, width), as `module.forward` of its class does."""
    weight: torch.Tensor = module.proj.weight
    embedded: torch.Tensor = functional.linear(hidden_states.to(weight.dtype), weight.flatten(1), module.proj.bias)
    return embedded


def make_quick(vision_tower: Any) -> None:  # noqa: ANN401 -- transformers' models have no types to speak of
    """Change how a tower computes; its parameters and their names stay."""
    if vision_tower.config._attn_implementation == "sdpa":  # noqa: SLF001 -- how transformers has it set
        vision_tower.config._attn_implementation = NAME  # noqa: SLF001
    patches = vision_tower.patch_embed
    if patches.proj.kernel_size == patches.proj.stride:
        patches.forward = MethodType(_embed_patches, patches)  # a method: a copy of the tower has its own
