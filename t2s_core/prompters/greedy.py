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

from t2s_core.errors import MachineFault
from t2s_core.prompters.prefix import Prefix
from t2s_core.prompters.rows import FixedRows, Rows


@dataclass(frozen=True, slots=True)
class Generated:
    """What one row came to."""

    ids: list[int]
    """The new tokens, including the one that ended the reply."""
    stopped: bool
    """False where the token limit ended it."""


def continue_prefix(
    model: Any,  # noqa: ANN401 -- transformers' models have no types to speak of
    prefix: Prefix,
    *,
    image_of_row: Sequence[int],
    suffixes: Sequence[Sequence[int]],
    pad_id: int,
    max_new_tokens: int,
    stops: Callable[[Sequence[int]], bool],
    fixed: bool = False,
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
        fixed: Record a step and replay it (`FixedRows`).

    Raises:
        MachineFault: The logits are not finite.

    """
    rows = (FixedRows if fixed else Rows)(model, prefix, image_of_row, suffixes, pad_id)
    replies: list[list[int]] = [[] for _ in suffixes]
    stopped = [False] * len(suffixes)
    for step in range(max_new_tokens):
        finite, new_ids = rows.said()
        if not finite:
            raise MachineFault("the prompter's logits are not finite")
        for owner, new in zip(rows.owner, new_ids, strict=True):
            if not stopped[owner]:
                replies[owner].append(new)
                stopped[owner] = stops(replies[owner])
        alive = [row for row, owner in enumerate(rows.owner) if not stopped[owner]]
        if not alive or step == max_new_tokens - 1:
            break
        # Copying the cache costs about as much as a step, so only when half of the rows have gone.
        if 2 * len(alive) <= len(rows.owner):
            rows.keep(alive)
        rows.advance()
    return [Generated(ids, done) for ids, done in zip(replies, stopped, strict=True)]
