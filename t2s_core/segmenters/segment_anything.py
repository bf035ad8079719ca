"""Meta's original package and its `.pth` checkpoints."""

import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Self

import torch
from segment_anything import sam_model_registry

from t2s_core.batching import BatchSize
from t2s_core.devices import machine_faults, resolve_device, wait_for
from t2s_core.errors import BadInput, ContractError
from t2s_core.ports import Embeddings, Image, InstanceLogits
from t2s_core.prompts import Frame, InstancePrompt
from t2s_core.segmenters.pixels import (
    Collected,
    PlacedPrompt,
    alike_prompts,
    images_that_fit,
    prompt_batch,
    prompts_that_fit,
    squash,
)

_KINDS = {768: "vit_b", 1024: "vit_l", 1280: "vit_h"}
"""The encoder's width tells which of the three published models a checkpoint is."""
_BYTES_OF_AN_IMAGE = 4_000_000_000
"""Of 1024 px: the global layers hold the scores of all pairs of patches."""


@dataclass(frozen=True, slots=True)
class MetaEmbeddings:
    """What `MetaSamSegmenter.encode` saw."""

    frames: Sequence[Frame]
    features: torch.Tensor
    """(images, channels, h, w)"""

    def __len__(self) -> int:
        """How many images."""
        return len(self.frames)


class MetaSamSegmenter:
    """One frozen model on one device. One instance per worker process, never pickled, one thread at a time."""

    def __init__(
        self,
        sam: Any,  # noqa: ANN401 -- the package has no types
        *,
        version: str,
        images_per_batch: int | None = None,
        prompts_per_batch: int | None = None,
    ) -> None:
        """Wrap a loaded `segment_anything.modeling.Sam` of any size, on its device.

        Args:
            sam: The model. Images are squashed to its own square instead of resized by the long side and padded.
            version: Names it in results.
            images_per_batch: Images in one pass of the encoder; bounds memory. None: as many as fit.
            prompts_per_batch: Prompts in one pass of the decoder; bounds memory. None: as many as fit.

        """
        self.version = version
        self._sam = sam.eval()
        side_px = self._sam.image_encoder.img_size
        self._images_per_batch = BatchSize(
            images_per_batch or images_that_fit(sam.device, side_px, n_bytes=_BYTES_OF_AN_IMAGE)
        )
        self._prompts_per_batch = BatchSize(prompts_per_batch or prompts_that_fit(sam.device, side_px))

    @classmethod
    def load(cls, path: Path, *, version: str, device: str = "cpu") -> Self:
        """Load a published checkpoint; which of the three it is, its shapes say.

        Raises:
            BadInput: The file is no checkpoint of vit_b, vit_l or vit_h.

        """
        where = resolve_device(device)
        try:
            # weights_only: a checkpoint is data from the network and must not run code.
            weights = torch.load(path, map_location="cpu", weights_only=True)
            width = weights["image_encoder.pos_embed"].shape[-1]
            sam = sam_model_registry[_KINDS[width]]()
            sam.load_state_dict(weights)
        except (OSError, KeyError, RuntimeError, TypeError, pickle.UnpicklingError, EOFError) as error:
            first = (str(error) or type(error).__name__).splitlines()[0]
            raise BadInput(f"{path}: no checkpoint of SAM vit_b, vit_l or vit_h ({first})") from error
        with machine_faults(f"loading {version}"):
            return cls(sam.to(where), version=version)

    @torch.inference_mode()
    def encode(self, images: Sequence[Image]) -> MetaEmbeddings:
        """Embed images of any sizes, each squashed to the model's square."""
        frames = [Frame(image.shape[1], image.shape[0]) for image in images]
        with machine_faults(self.version, self._sam.device):
            parts = [*self._images_per_batch.run(images, self._embed)]
            wait_for(self._sam.device)
            return MetaEmbeddings(frames, torch.cat(parts) if parts else torch.empty(0))

    def _embed(self, images: Sequence[Image]) -> torch.Tensor:
        mean, std = ((values / 255).flatten().tolist() for values in (self._sam.pixel_mean, self._sam.pixel_std))
        side_px = self._sam.image_encoder.img_size
        embedded: torch.Tensor = self._sam.image_encoder(
            squash(images, side_px, device=self._sam.device, mean=mean, std=std)
        )
        return embedded

    @torch.inference_mode()
    def decode(
        self, embeddings: Embeddings, prompts_tile_px: Sequence[Sequence[InstancePrompt]]
    ) -> list[list[InstanceLogits]]:
        """One mask per prompt: box and points together, no alternatives (`multimask_output=False`)."""
        if not isinstance(embeddings, MetaEmbeddings):
            raise ContractError(
                f"{self.version} cannot decode {type(embeddings).__name__}: another segmenter made them"
            )
        if len(prompts_tile_px) != len(embeddings):
            raise ContractError(f"{len(prompts_tile_px)} lists of prompts were given for {len(embeddings)} images")
        collected = Collected(prompts_tile_px)
        with machine_faults(self.version, self._sam.device):
            for alike in alike_prompts(embeddings.frames, prompts_tile_px, self._sam.image_encoder.img_size):
                # The package's decoder takes one image at a time.
                for _, of_one_image in groupby(alike, key=lambda one: one.image):
                    placed = list(of_one_image)
                    for drawn in self._prompts_per_batch.run(placed, lambda part: self._draw(part, embeddings)):
                        collected.put(*drawn)
        return collected.lists()

    def _draw(
        self, prompts: Sequence[PlacedPrompt], embeddings: MetaEmbeddings
    ) -> tuple[Sequence[PlacedPrompt], torch.Tensor, torch.Tensor]:
        """The prompts, all about one image, with their logits (n, h, w) and predicted IoUs (n,)."""
        batch, image = prompt_batch(prompts, self._sam.device), prompts[0].image
        sparse, dense = self._sam.prompt_encoder(
            points=None if batch.points_model_px is None else (batch.points_model_px, batch.labels),
            boxes=batch.boxes_model_px,
            masks=None,
        )
        logits, iou = self._sam.mask_decoder(
            image_embeddings=embeddings.features[image : image + 1],
            image_pe=self._sam.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=False,
        )
        return prompts, logits[:, 0], iou[:, 0]
