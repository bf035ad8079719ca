"""What the questions about an image share, computed once: the system text for all images, then each image after it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import DynamicCache

Layers = list[tuple[torch.Tensor, torch.Tensor]]
"""Keys and values of each layer, (rows, heads, length, head_dim)."""


@dataclass(frozen=True, slots=True)
class Prefix:
    """The model's memory of some images, after the same system text."""

    layers: Layers
    """One row for each image."""
    next_position: int
    """Position (in all three of its axes) of the first token after the image."""

    @property
    def length(self) -> int:
        """Tokens."""
        return int(self.layers[0][0].shape[2])


def compute_head(model: Any, ids: Sequence[int]) -> Layers:  # noqa: ANN401 -- transformers' models have no types to speak of
    """The model's memory of the text before an image: one row, the same for every image that it will see.

    Args:
        model: A Qwen-VL for conditional generation.
        ids: Tokens, at least one.

    """
    positions = torch.arange(len(ids), device=model.device).expand(3, 1, -1)
    return _remember(model, [], input_ids=torch.tensor([ids], device=model.device), position_ids=positions)


def compute_prefix(
    model: Any,  # noqa: ANN401
    head: Layers,
    *,
    image_id: int,
    pixel_values: torch.Tensor,
    image_grid_thw: torch.Tensor,
    grid: tuple[int, int],
) -> Prefix:
    """Run the vision tower, and the language model over its images after the head.

    Args:
        model: A Qwen-VL for conditional generation.
        head: What `compute_head` gave; read, never changed.
        image_id: The token that stands for a merged patch.
        pixel_values: (patches of all images, values per patch).
        image_grid_thw: (images, 3), all alike.
        grid: (rows, columns) of merged patches.

    """
    n_images, n_head = len(image_grid_thw), int(head[0][0].shape[2])
    positions, next_position = image_positions(n_head, grid)
    layers = _remember(
        model,
        head,
        input_ids=torch.full((n_images, grid[0] * grid[1]), image_id, device=model.device),
        position_ids=positions[:, None, :].expand(3, n_images, -1).to(model.device),
        pixel_values=pixel_values,
        image_grid_thw=image_grid_thw,
    )
    return Prefix(layers, next_position)


def joined(prefixes: Sequence[Prefix]) -> Prefix:
    """One prefix of the images of all, in order."""
    if len(prefixes) == 1:
        return prefixes[0]
    layers = [
        (torch.cat([keys for keys, _ in parts]), torch.cat([values for _, values in parts]))
        for parts in zip(*(prefix.layers for prefix in prefixes), strict=True)
    ]
    return Prefix(layers, prefixes[0].next_position)


def image_positions(n_text: int, grid: tuple[int, int]) -> tuple[torch.Tensor, int]:
    """Multimodal positions of an image behind text (Qwen2-VL, arXiv 2409.12191, section 2.1).

    Text counts on in all three axes (time, row, column); an image stands still in time and counts its rows and columns.

    Args:
        n_text: Tokens before the image.
        grid: (rows, columns) of merged patches.

    Returns:
        (3, rows * columns) and the first position after the image.

    """
    rows, columns = grid
    row = torch.arange(rows).repeat_interleave(columns)
    column = torch.arange(columns).repeat(rows)
    return torch.stack([torch.zeros_like(row), row, column]) + n_text, n_text + max(rows, columns)


def _remember(model: Any, before: Layers, *, input_ids: torch.Tensor, **inputs: torch.Tensor) -> Layers:  # noqa: ANN401
    """Keys and values of `before`, repeated for each row, and of the inputs after it."""
    cache: Any = DynamicCache()  # its layers are typed as any kind of cache; here all hold keys and values
    for number, (keys, values) in enumerate(before):
        cache.update(*(part.expand(len(input_ids), -1, -1, -1) for part in (keys, values)), number)
    model(input_ids=input_ids, past_key_values=cache, use_cache=True, logits_to_keep=1, **inputs)
    return [(layer.keys, layer.values) for layer in cache.layers]
