"""Replies that are being written, a token of each at a time."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicLayer

from t2s_core.prompters.prefix import Prefix

ROOM = 64
"""Tokens that memory is taken for at a time."""


class RoomyLayer(DynamicLayer):
    """Keys and values of one layer, with room behind them: a new token is written there.

    The layer that it stands for would copy all earlier tokens for each new one.
    """

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, room: int) -> None:
        """Start with keys and values (rows, heads, length, head_dim), copied, and room for so many tokens more."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.lazy_initialization(keys, values)
        self.length = keys.shape[2]
        """Tokens so far; behind them is room."""
        self.at: torch.Tensor | None = None
        """(1,): where the next token goes. Set, all of the buffers is seen, their room too: a mask must hide it."""
        self._take(keys, values, room)

    @property
    def capacity(self) -> int:
        """Tokens, those yet to come included."""
        return int(self._keys.shape[2])

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: object, **__: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append (rows, heads, new, head_dim). All keys and values so far: views, which later calls leave alone."""
        if self.at is not None:
            self._keys.index_copy_(2, self.at, key_states)
            self._values.index_copy_(2, self.at, value_states)
            return self._keys, self._values
        start, end = self.length, self.length + key_states.shape[2]
        if end > self.capacity:
            self.make_room(end - start + ROOM)
        self._keys[:, :, start:end] = key_states
        self._values[:, :, start:end] = value_states
        self.length = end
        self.keys, self.values = self._keys[:, :, :end], self._values[:, :, :end]
        return self.keys, self.values

    def make_room(self, room: int, rows: torch.Tensor | None = None) -> None:
        """Move to new memory with room for so many tokens more, the named rows only."""
        keys, values = self._keys[:, :, : self.length], self._values[:, :, : self.length]
        if rows is not None:
            keys, values = keys[rows], values[rows]
        self._take(keys, values, room)

    def _take(self, keys: torch.Tensor, values: torch.Tensor, room: int) -> None:
        rows, heads, length, head_dim = keys.shape
        self._keys, self._values = (old.new_empty(rows, heads, length + room, head_dim) for old in (keys, values))
        self._keys[:, :, :length], self._values[:, :, :length] = keys, values
        # What a mask hides counts 0 times, and 0 times what memory held before may be no number.
        self._keys[:, :, length:], self._values[:, :, length:] = 0, 0
        self.keys, self.values = self._keys[:, :, :length], self._values[:, :, :length]


class Rows:
    """The state of replies after their questions (suffixes) have been read, with the logits of their next tokens."""

    _room = ROOM

    def __init__(
        self,
        model: Any,  # noqa: ANN401 -- transformers' models have no types to speak of
        prefix: Prefix,
        image_of_row: Sequence[int],
        suffixes: Sequence[Sequence[int]],
        pad_id: int,
    ) -> None:
        """Read the suffixes. For the arguments see `greedy.continue_prefix`."""
        device = prefix.layers[0][0].device
        index = torch.tensor(image_of_row, device=device)
        longest = max(map(len, suffixes))
        self.owner = list(range(len(suffixes)))
        """Which reply a row belongs to."""
        self._model = model
        self._layers = [RoomyLayer(keys[index], values[index], longest + self._room) for keys, values in prefix.layers]
        self._cache = Cache(layers=[*self._layers])
        ids = torch.tensor([[pad_id] * (longest - len(suffix)) + list(suffix) for suffix in suffixes], device=device)
        lengths = torch.tensor([len(suffix) for suffix in suffixes], device=device)
        behind = torch.arange(longest, device=device)[None, :] - (longest - lengths)[:, None]  # below 0 is padding
        self._mask: torch.Tensor | None = None
        """(rows, tokens so far): 1 is a token, 0 is padding. None where nothing is padded."""
        if any(len(suffix) < longest for suffix in suffixes):
            self._mask = torch.cat([behind.new_ones(len(suffixes), prefix.length), (behind >= 0).long()], dim=1)
        self._position = prefix.next_position + lengths[:, None]
        """(rows, 1): of the next token."""
        self.logits = self._forward(ids, prefix.next_position + behind.clamp(min=0), self._mask)
        """(rows, vocabulary): of the next token."""
        self._token, self._said = _chosen(self.logits)

    def said(self) -> tuple[bool, list[int]]:
        """Whether all logits are numbers, and the likeliest token of each row."""
        # Both in one copy: each makes the host wait for the device. A double holds any token id.
        finite, ids = self._said.tolist()
        return all(finite), [int(token) for token in ids]

    def keep(self, rows: Sequence[int]) -> None:
        """Drop the other rows: finished replies cost nothing more."""
        index = torch.tensor(rows, device=self._position.device)
        for layer in self._layers:
            layer.make_room(layer.capacity - layer.length, index)
        self._mask = None if self._mask is None else self._mask[index]
        self._position, self._token = self._position[index], self._token[index]
        self.owner = [self.owner[row] for row in rows]

    def advance(self) -> None:
        """Take the likeliest token of each row as its next."""
        if self._mask is not None:
            self._mask = torch.cat([self._mask, self._mask.new_ones(len(self.owner), 1)], dim=1)
        self.logits = self._forward(self._token, self._position, self._mask)
        self._position = self._position + 1
        self._token, self._said = _chosen(self.logits)

    def _forward(self, ids: torch.Tensor, positions: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """One pass over ids (rows, n) at positions (rows, n); logits of the last token, (rows, vocabulary)."""
        output = self._model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions.expand(3, *positions.shape),
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        logits: torch.Tensor = output.logits[:, -1]
        return logits


def _chosen(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The likeliest tokens, (rows, 1), and what `Rows.said` reads, (2, rows)."""
    best, token = logits.max(dim=-1)
    return token[:, None], torch.stack([best.isfinite().double(), token.double()])


class FixedRows(Rows):
    """The same, in tensors that stay in place, so that a GPU can replay one recorded step (a CUDA graph).

    A step of a 3B model is some hundreds of small kernels, and a host takes longer to launch them than the GPU to run
    them. The step is recorded anew where rows are dropped and where room runs out. On a CPU it is called every time.
    """

    _room = 4 * ROOM  # recording takes as long as several steps
    _step: Callable[[], None] | None = None
    """None where tensors have moved."""
    _warm = False
    """Whether the step has run where the tensors are now: libraries load and allocate when first called."""

    def keep(self, rows: Sequence[int]) -> None:
        """See `Rows.keep`."""
        self._unfix()
        super().keep(rows)

    def advance(self) -> None:
        """See `Rows.advance`."""
        if self._step is not None and self._layers[0].length == self._layers[0].capacity:
            self._unfix()
        if self._step is None:
            self._fix()
        elif self._token.is_cuda and not self._warm:
            self._record()
        assert self._step is not None
        self._step()
        for layer in self._layers:
            layer.length += 1

    def _fix(self) -> None:
        at = torch.tensor([self._layers[0].length], device=self._token.device)
        for layer in self._layers:
            if layer.length == layer.capacity:
                layer.make_room(self._room)
            layer.at = at
        self._at, n_rows = at, len(self.owner)
        # (rows, 1, 1, capacity): transformers takes a mask of four axes as it is.
        self._seen = torch.zeros(n_rows, 1, 1, self._layers[0].capacity, dtype=torch.bool, device=at.device)
        self._seen[..., : self._layers[0].length] = True if self._mask is None else self._mask[:, None, None].bool()
        self._token, self._position = self._token.clone(), self._position.clone()
        self._said = self._said.new_zeros(2, n_rows)
        self._step, self._warm = self._run, False

    def _unfix(self) -> None:
        if self._step is None:
            return
        for layer in self._layers:
            layer.at = None
        if self._mask is not None:
            self._mask = self._seen[:, 0, 0, : self._layers[0].length].long()
        self._step = None

    def _run(self) -> None:
        self._seen.index_fill_(3, self._at, True)  # noqa: FBT003 -- torch names it no other way
        self.logits = self._forward(self._token, self._position, self._seen)
        token, said = _chosen(self.logits)
        self._token.copy_(token)
        self._said.copy_(said)
        self._position += 1
        self._at += 1

    def _record(self) -> None:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._run()
        self._step, self._warm = graph.replay, True
