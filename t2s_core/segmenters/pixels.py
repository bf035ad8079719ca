"""What both families of SAM share: one way to squash images, one way to hand prompts over."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from t2s_core.errors import ContractError
from t2s_core.ports import Image, InstanceLogits
from t2s_core.prompts import Frame, InstancePrompt

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def squash(
    images: Sequence[Image],
    side_px: int,
    *,
    device: torch.device,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
) -> torch.Tensor:
    """Images of any sizes to (images, 3, side, side) float32, normalised.

    Squashed, not padded: a tile is all ground, and padding would waste the encoder's windows. Resized on the device,
    bilinear with antialiasing, without rounding to whole grey levels in between.
    """
    pixels = torch.empty(len(images), 3, side_px, side_px, device=device)
    for i, image in enumerate(images):
        # Copied: torch warns about arrays it may not write to, and Pillow gives such.
        chw = torch.from_numpy(np.array(image)).to(device).permute(2, 0, 1)[None].float()
        if chw.shape[-2:] != (side_px, side_px):
            chw = functional.interpolate(chw, (side_px, side_px), mode="bilinear", antialias=True)
        pixels[i] = chw[0]
    scale = torch.tensor(std, device=device).view(3, 1, 1) * 255
    offset = torch.tensor(mean, device=device).view(3, 1, 1) * 255
    return (pixels - offset) / scale


@dataclass(frozen=True, slots=True)
class PromptBatch:
    """Prompts that are decoded together: all have the same numbers of boxes and points, so nothing is padded.

    A padding point would not be neutral: SAM's decoder attends to it.
    """

    images: list[int]
    """(n,): the image each prompt is about."""
    places: list[int]
    """(n,): its place among the prompts of that image."""
    boxes_model_px: torch.Tensor | None
    """(n, 4) XYXY; None where points are all there is. The networks themselves shift coordinates to pixel centres."""
    points_model_px: torch.Tensor | None
    """(n, points, 2); None where the box is all there is."""
    labels: torch.Tensor | None
    """(n, points) int32, beside the points: 1 on the object, 0 not on it."""


def prompt_batches(
    frames: Sequence[Frame],
    prompts_tile_px: Sequence[Sequence[InstancePrompt]],
    side_px: int,
    *,
    device: torch.device,
    size: int,
) -> Iterator[PromptBatch]:
    """All prompts of all images, rescaled to the model's square, at most `size` at once.

    Raises:
        ContractError: There are more or fewer lists than images, or a prompt has neither box nor points.

    """
    if len(frames) != len(prompts_tile_px):
        raise ContractError(f"{len(prompts_tile_px)} lists of prompts were given for {len(frames)} encoded images")
    square = Frame(side_px, side_px)
    by_shape: dict[tuple[bool, int, int], list[tuple[int, int, InstancePrompt]]] = {}
    for i, prompts in enumerate(prompts_tile_px):
        for j, prompt in enumerate(prompts):
            shape = prompt.boxed, len(prompt.points), len(prompt.negative_points)
            by_shape.setdefault(shape, []).append((i, j, prompt.rescaled(frames[i], square)))
    for shape, entries in sorted(by_shape.items(), key=lambda item: item[0]):
        if not any(shape):
            raise ContractError(f"prompt {entries[0][1]} of image {entries[0][0]} has neither box nor points")
        for start in range(0, len(entries), size):
            yield _batch(entries[start : start + size], shape, device)


def _batch(
    entries: Sequence[tuple[int, int, InstancePrompt]], shape: tuple[bool, int, int], device: torch.device
) -> PromptBatch:
    """`shape`: whether there are boxes, and how many positive and negative points each prompt has."""
    boxed, n_positive, n_negative = shape
    prompts = [prompt for _, _, prompt in entries]
    boxes = points = labels = None
    if boxed:
        boxes = torch.tensor([p.box for p in prompts], device=device, dtype=torch.float32)
    if n_positive or n_negative:
        both = [(*p.points, *p.negative_points) for p in prompts]
        points = torch.tensor(both, device=device, dtype=torch.float32)
        row = torch.tensor([1] * n_positive + [0] * n_negative, device=device, dtype=torch.int32)
        labels = row.expand(len(prompts), -1)
    return PromptBatch([i for i, _, _ in entries], [j for _, j, _ in entries], boxes, points, labels)


class Collected:
    """Masks on their way back to the order of their prompts."""

    def __init__(self, prompts_tile_px: Sequence[Sequence[InstancePrompt]]) -> None:
        self._masks: list[list[InstanceLogits | None]] = [[None] * len(prompts) for prompts in prompts_tile_px]

    def put(self, batch: PromptBatch, logits: torch.Tensor, predicted_iou: torch.Tensor) -> None:
        """Take (n, h, w) logits and (n,) IoUs of one batch. Predictions beyond 0 to 1 are clipped; NaN stays NaN."""
        arrays = logits.float().cpu().numpy()
        ious = predicted_iou.float().clamp(0, 1).cpu().tolist()
        for i, j, array, iou in zip(batch.images, batch.places, arrays, ious, strict=True):
            self._masks[i][j] = InstanceLogits(array.copy(), iou)

    def lists(self) -> list[list[InstanceLogits]]:
        """One list per image, one entry per prompt."""
        return [[mask for mask in masks if mask is not None] for masks in self._masks]
