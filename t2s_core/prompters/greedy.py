"""Greedy decoding of many questions about few images: what they share is computed once.

An image with its system text is a *prefix* of every question about it. Its keys and values are computed once and
copied to each question's row; the rows then differ only in their *suffix* (the question). Suffixes are padded on the
left, between prefix and question, so that all rows end together; padding is masked and takes no position.

Positions are always given: left to itself the model would reuse offsets that it cached during another call.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import DynamicCache

from t2s_core.errors import MachineFault


@dataclass(frozen=True, slots=True)
class Prefix:
    """The model's memory of some images, after the same system text."""

    layers: list[tuple[torch.Tensor, torch.Tensor]]
    """Keys and values of each layer, (images, heads, length, head_dim)."""
    next_position: int
    """Position (in all three of its axes) of the first token after the image."""

    @property
    def length(self) -> int:
        """Tokens."""
        return int(self.layers[0][0].shape[2])


@dataclass(frozen=True, slots=True)
class Generated:
    """What one row came to."""

    ids: list[int]
    """The new tokens, including the one that ended the reply."""
    stopped: bool
    """False where the token limit ended it."""


def compute_prefix(
    model: Any,  # noqa: ANN401 -- transformers' models have no types to speak of
    *,
    input_ids: torch.Tensor,
    pixel_values: torch.Tensor,
    image_grid_thw: torch.Tensor,
    positions: torch.Tensor,
    next_position: int,
) -> Prefix:
    """Run vision tower and language model over system text and image.

    Args:
        model: A Qwen-VL for conditional generation.
        input_ids: (images, length), without padding.
        pixel_values: (patches of all images, values per patch).
        image_grid_thw: (images, 3).
        positions: (3, length), the same for all images.
        next_position: Position of what follows.

    """
    cache: Any = DynamicCache()  # its layers are typed as any kind of cache; here all hold keys and values
    model(
        input_ids=input_ids,
        pixel_values=pixel_values,
        image_grid_thw=image_grid_thw,
        position_ids=positions[:, None, :].expand(3, input_ids.shape[0], -1),
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    return Prefix([(layer.keys, layer.values) for layer in cache.layers], next_position)


def image_positions(n_text: int, grid: tuple[int, int]) -> tuple[torch.Tensor, int]:
    """Multimodal positions of text followed by one image (Qwen2-VL, arXiv 2409.12191, section 2.1).

    Text counts on in all three axes (time, row, column); an image stands still in time and counts its rows and columns.

    Args:
        n_text: Tokens before the image.
        grid: (rows, columns) of merged patches.

    Returns:
        (3, n_text + rows * columns) and the first position after the image.

    """
    rows, columns = grid
    text = torch.arange(n_text).expand(3, -1)
    row = torch.arange(rows).repeat_interleave(columns)
    column = torch.arange(columns).repeat(rows)
    image = torch.stack([torch.zeros_like(row), row, column]) + n_text
    return torch.cat([text, image], dim=1), n_text + max(rows, columns)


@dataclass(slots=True)
class _Rows:
    """The state of the rows that are still being written."""

    cache: DynamicCache
    mask: torch.Tensor
    """(rows, tokens so far): 1 is a token, 0 is padding."""
    position: torch.Tensor
    """(rows,): of the next token."""
    owner: list[int]
    """Which reply a row belongs to."""

    def keep(self, rows: list[int]) -> None:
        """Drop the other rows: finished replies cost nothing more."""
        index = torch.tensor(rows, device=self.mask.device)
        self.cache.batch_select_indices(index)
        self.mask, self.position = self.mask[index], self.position[index]
        self.owner = [self.owner[row] for row in rows]


def continue_prefix(
    model: Any,  # noqa: ANN401
    prefix: Prefix,
    *,
    image_of_row: Sequence[int],
    suffixes: Sequence[Sequence[int]],
    pad_id: int,
    max_new_tokens: int,
    stops: Callable[[Sequence[int]], bool],
) -> list[Generated]:
    """Greedy replies to suffixes of a shared prefix; the same tokens as one `generate` per question would give.

    Args:
        model: The model that made the prefix.
        prefix: Images, computed once.
        image_of_row: Which of the prefix's images each suffix asks about.
        suffixes: Token ids of each question, at least one each.
        pad_id: Any token id.
        max_new_tokens: The limit.
        stops: Whether a reply (its new ids so far) is complete.

    Raises:
        MachineFault: The logits are not finite.

    """
    logits, rows = _read_suffixes(model, prefix, image_of_row, suffixes, pad_id)
    replies: list[list[int]] = [[] for _ in suffixes]
    stopped = [False] * len(suffixes)
    for step in range(max_new_tokens):
        best, token = logits.max(dim=-1)
        if not all(map(math.isfinite, best.tolist())):
            raise MachineFault("the prompter's logits are not finite")
        for owner, new in zip(rows.owner, token.tolist(), strict=True):
            if not stopped[owner]:
                replies[owner].append(new)
                stopped[owner] = stops(replies[owner])
        alive = [row for row, owner in enumerate(rows.owner) if not stopped[owner]]
        if not alive or step == max_new_tokens - 1:
            break
        # Copying the cache costs about as much as a step, so only when half of the rows have gone.
        if 2 * len(alive) <= len(rows.owner):
            rows.keep(alive)
            token = token[torch.tensor(alive, device=token.device)]
        rows.mask = torch.cat([rows.mask, rows.mask.new_ones(len(rows.owner), 1)], dim=1)
        logits = _forward(model, rows, token[:, None], rows.position[:, None])
        rows.position = rows.position + 1
    return [Generated(ids, done) for ids, done in zip(replies, stopped, strict=True)]


def _read_suffixes(
    model: Any,  # noqa: ANN401
    prefix: Prefix,
    image_of_row: Sequence[int],
    suffixes: Sequence[Sequence[int]],
    pad_id: int,
) -> tuple[torch.Tensor, _Rows]:
    """Logits (rows, vocabulary) of the first new token, and the state after the questions."""
    device = prefix.layers[0][0].device
    index = torch.tensor(image_of_row, device=device)
    cache = DynamicCache()
    for number, (keys, values) in enumerate(prefix.layers):
        cache.update(keys[index], values[index], number)
    longest = max(map(len, suffixes))
    ids = torch.tensor([[pad_id] * (longest - len(suffix)) + list(suffix) for suffix in suffixes], device=device)
    lengths = torch.tensor([len(suffix) for suffix in suffixes], device=device)
    behind = torch.arange(longest, device=device)[None, :] - (longest - lengths)[:, None]  # below 0 is padding
    mask = torch.cat([torch.ones(len(suffixes), prefix.length, device=device), (behind >= 0).float()], dim=1).long()
    rows = _Rows(cache, mask, prefix.next_position + lengths, list(range(len(suffixes))))
    return _forward(model, rows, ids, prefix.next_position + behind.clamp(min=0)), rows


def _forward(
    model: Any,  # noqa: ANN401
    rows: _Rows,
    ids: torch.Tensor,
    positions: torch.Tensor,
) -> torch.Tensor:
    """One pass over ids (rows, n) at positions (rows, n); logits of the last token, (rows, vocabulary)."""
    output = model(
        input_ids=ids,
        attention_mask=rows.mask,
        position_ids=positions.expand(3, *positions.shape),
        past_key_values=rows.cache,
        use_cache=True,
        logits_to_keep=1,
    )
    logits: torch.Tensor = output.logits[:, -1]
    return logits
