"""Greedy decoding of many questions about few images: what they share is computed once.

An image with its system text is a *prefix* of every question about it (`t2s_core.prompters.prefix`), copied to each
question's row; the rows then differ only in their *suffix* (the question). Suffixes are padded on the left, between
prefix and question, so that all rows end together; padding is masked and takes no position. Rows of like length are
therefore cheapest, and where all are alike there is no mask at all.

Positions are always given: left to itself the model would reuse offsets that it cached during another call.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicLayer

from t2s_core.errors import MachineFault
from t2s_core.prompters.prefix import Prefix

_ROOM = 64
"""Tokens that memory is taken for at a time."""


@dataclass(frozen=True, slots=True)
class Generated:
    """What one row came to."""

    ids: list[int]
    """The new tokens, including the one that ended the reply."""
    stopped: bool
    """False where the token limit ended it."""


class RoomyLayer(DynamicLayer):
    """Keys and values of one layer, with room behind them: a new token is written there.

    The layer that it stands for would copy all earlier tokens for each new one.
    """

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, room: int) -> None:
        """Start with keys and values (rows, heads, length, head_dim), copied, and room for so many tokens more."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.lazy_initialization(keys, values)
        self._take((keys, values), room)

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: object, **__: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append (rows, heads, new, head_dim). All keys and values so far: views, which later calls leave alone."""
        start, room = self._length, self._buffers[0].shape[2]
        end = start + key_states.shape[2]
        if end > room:
            self._take((self._buffers[0][:, :, :start], self._buffers[1][:, :, :start]), end - start + _ROOM)
        self._buffers[0][:, :, start:end] = key_states
        self._buffers[1][:, :, start:end] = value_states
        return self._show(end)

    def keep(self, rows: torch.Tensor) -> None:
        """Drop the other rows."""
        room = self._buffers[0].shape[2] - self._length
        keys, values = self._show(self._length)
        self._take((keys[rows], values[rows]), room)

    def _take(self, filled: tuple[torch.Tensor, torch.Tensor], room: int) -> None:
        rows, heads, length, head_dim = filled[0].shape
        keys, values = (old.new_empty(rows, heads, length + room, head_dim) for old in filled)
        keys[:, :, :length], values[:, :, :length] = filled
        self._buffers = keys, values
        self._show(length)

    def _show(self, length: int) -> tuple[torch.Tensor, torch.Tensor]:
        self._length = length
        shown = self._buffers[0][:, :, :length], self._buffers[1][:, :, :length]
        self.keys, self.values = shown
        return shown


@dataclass(slots=True)
class _Rows:
    """The state of the rows that are still being written."""

    layers: list[RoomyLayer]
    cache: Cache
    """The layers, as the model wants them."""
    mask: torch.Tensor | None
    """(rows, tokens so far): 1 is a token, 0 is padding. None where nothing is padded."""
    position: torch.Tensor
    """(rows,): of the next token."""
    owner: list[int]
    """Which reply a row belongs to."""

    def keep(self, rows: list[int]) -> None:
        """Drop the other rows: finished replies cost nothing more."""
        index = torch.tensor(rows, device=self.position.device)
        for layer in self.layers:
            layer.keep(index)
        self.mask = None if self.mask is None else self.mask[index]
        self.position = self.position[index]
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
        stops: Whether a reply (its new ids so far) is complete, asked once after each token.

    Raises:
        MachineFault: The logits are not finite.

    """
    logits, rows = _read_suffixes(model, prefix, image_of_row, suffixes, pad_id)
    replies: list[list[int]] = [[] for _ in suffixes]
    stopped = [False] * len(suffixes)
    for step in range(max_new_tokens):
        best, token = logits.max(dim=-1)
        # Both in one copy: each makes the host wait for the device. A double holds any token id.
        finite, new_ids = torch.stack([best.isfinite().double(), token.double()]).tolist()
        if not all(finite):
            raise MachineFault("the prompter's logits are not finite")
        for owner, new in zip(rows.owner, new_ids, strict=True):
            if not stopped[owner]:
                replies[owner].append(int(new))
                stopped[owner] = stops(replies[owner])
        alive = [row for row, owner in enumerate(rows.owner) if not stopped[owner]]
        if not alive or step == max_new_tokens - 1:
            break
        # Copying the cache costs about as much as a step, so only when half of the rows have gone.
        if 2 * len(alive) <= len(rows.owner):
            rows.keep(alive)
            token = token[torch.tensor(alive, device=token.device)]
        if rows.mask is not None:
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
    longest = max(map(len, suffixes))
    layers = [RoomyLayer(keys[index], values[index], longest + _ROOM) for keys, values in prefix.layers]
    ids = torch.tensor([[pad_id] * (longest - len(suffix)) + list(suffix) for suffix in suffixes], device=device)
    lengths = torch.tensor([len(suffix) for suffix in suffixes], device=device)
    behind = torch.arange(longest, device=device)[None, :] - (longest - lengths)[:, None]  # below 0 is padding
    mask = None
    if any(len(suffix) < longest for suffix in suffixes):
        mask = torch.cat([behind.new_ones(len(suffixes), prefix.length), (behind >= 0).long()], dim=1)
    rows = _Rows(layers, Cache(layers=[*layers]), mask, prefix.next_position + lengths, list(range(len(suffixes))))
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
