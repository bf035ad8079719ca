"""What both families of SAM share: one way to squash images, one way to hand prompts over."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional

from t2s_core.batching import fitting
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


class PlacedPrompt(NamedTuple):
    """A prompt, and where its mask belongs."""

    image: int
    """Its image's place in the batch."""
    place: int
    """Its own among the prompts of that image."""
    prompt_model_px: InstancePrompt


def images_that_fit(device: torch.device, side_px: int, *, n_bytes: int) -> int:
    """Images in one pass of an encoder. One on a CPU: its activations leave the caches as it is.

    Args:
        device: Where it runs.
        side_px: Of the square that the model sees.
        n_bytes: What a square of 1024 px takes.

    """
    return fitting(device, bytes_each=_scaled(n_bytes, side_px), most=32, on_cpu=1)


def prompts_that_fit(device: torch.device, side_px: int) -> int:
    """Prompts in one pass of the decoder: 0.2 GB for each at 1024 px, features, upscaled features and attention.

    A processor decodes from memory, and its cache holds the features of two prompts: more at once is no faster.
    """
    return fitting(device, bytes_each=_scaled(200_000_000, side_px), most=128, on_cpu=2)


def _scaled(n_bytes: int, side_px: int) -> int:
    return max(1, n_bytes * side_px**2 // 1024**2)


@dataclass(frozen=True, slots=True)
class PromptBatch:
    """Prompts that are decoded together: all have the same numbers of boxes and points, so nothing is padded.

    A padding point would not be neutral: SAM's decoder attends to it.
    """

    placed: Sequence[PlacedPrompt]
    boxes_model_px: torch.Tensor | None
    """(n, 4) XYXY; None where points are all there is. The networks themselves shift coordinates to pixel centres."""
    points_model_px: torch.Tensor | None
    """(n, points, 2); None where the box is all there is."""
    labels: torch.Tensor | None
    """(n, points) int32, beside the points: 1 on the object, 0 not on it."""


def alike_prompts(
    frames: Sequence[Frame], prompts_tile_px: Sequence[Sequence[InstancePrompt]], side_px: int
) -> Iterator[list[PlacedPrompt]]:
    """All prompts of all images, rescaled to the model's square: those with equal numbers of boxes and points together.

    Raises:
        ContractError: There are more or fewer lists than images, or a prompt has neither box nor points.

    """
    if len(frames) != len(prompts_tile_px):
        raise ContractError(f"{len(prompts_tile_px)} lists of prompts were given for {len(frames)} encoded images")
    square = Frame(side_px, side_px)
    by_shape: dict[tuple[bool, int, int], list[PlacedPrompt]] = {}
    for i, prompts in enumerate(prompts_tile_px):
        for j, prompt in enumerate(prompts):
            shape = prompt.boxed, len(prompt.points), len(prompt.negative_points)
            if not any(shape):
                raise ContractError(f"prompt {j} of image {i} has neither box nor points")
            by_shape.setdefault(shape, []).append(PlacedPrompt(i, j, prompt.rescaled(frames[i], square)))
    for shape in sorted(by_shape):
        yield by_shape[shape]


def prompt_batch(placed: Sequence[PlacedPrompt], device: torch.device) -> PromptBatch:
    """Some of what `alike_prompts` put together, as the networks take it."""
    prompts = [one.prompt_model_px for one in placed]
    n_positive, n_negative = len(prompts[0].points), len(prompts[0].negative_points)
    boxes = points = labels = None
    if prompts[0].boxed:
        boxes = torch.tensor([p.box for p in prompts], device=device, dtype=torch.float32)
    if n_positive or n_negative:
        both = [(*p.points, *p.negative_points) for p in prompts]
        points = torch.tensor(both, device=device, dtype=torch.float32)
        row = torch.tensor([1] * n_positive + [0] * n_negative, device=device, dtype=torch.int32)
        labels = row.expand(len(prompts), -1)
    return PromptBatch(placed, boxes, points, labels)


class Collected:
    """Masks on their way back to the order of their prompts."""

    def __init__(self, prompts_tile_px: Sequence[Sequence[InstancePrompt]]) -> None:
        self._masks: list[list[InstanceLogits | None]] = [[None] * len(prompts) for prompts in prompts_tile_px]

    def put(self, placed: Sequence[PlacedPrompt], logits: torch.Tensor, predicted_iou: torch.Tensor) -> None:
        """Take (n, h, w) logits and (n,) IoUs of some prompts. Predictions beyond 0 to 1 are clipped; NaN stays NaN."""
        arrays = logits.float().cpu().numpy()
        ious = predicted_iou.float().clamp(0, 1).cpu().tolist()
        for one, array, iou in zip(placed, arrays, ious, strict=True):
            self._masks[one.image][one.place] = InstanceLogits(array.copy(), iou)

    def lists(self) -> list[list[InstanceLogits]]:
        """One list per image, one entry per prompt."""
        return [[mask for mask in masks if mask is not None] for masks in self._masks]
