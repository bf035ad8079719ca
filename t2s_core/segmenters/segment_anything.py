"""Meta's original package and its `.pth` checkpoints."""

import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from segment_anything import sam_model_registry

from t2s_core.devices import machine_faults, resolve_device, wait_for
from t2s_core.errors import BadInput, ContractError
from t2s_core.ports import Embeddings, Image, InstanceLogits
from t2s_core.prompts import Frame, InstancePrompt
from t2s_core.segmenters.pixels import Collected, prompt_batches, squash

_KINDS = {768: "vit_b", 1024: "vit_l", 1280: "vit_h"}
"""The encoder's width tells which of the three published models a checkpoint is."""


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
        images_per_batch: int = 4,
        prompts_per_batch: int = 32,
    ) -> None:
        """Wrap a loaded `segment_anything.modeling.Sam` of any size, on its device.

        Args:
            sam: The model. Images are squashed to its own square instead of resized by the long side and padded.
            version: Names it in results.
            images_per_batch: Images in one pass of the encoder; bounds memory.
            prompts_per_batch: Prompts in one pass of the decoder; bounds memory.

        """
        self.version = version
        self._sam = sam.eval()
        self._images_per_batch, self._prompts_per_batch = images_per_batch, prompts_per_batch

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
        mean, std = ((values / 255).flatten().tolist() for values in (self._sam.pixel_mean, self._sam.pixel_std))
        side_px, parts = self._sam.image_encoder.img_size, []
        with machine_faults(self.version):
            for start in range(0, len(images), self._images_per_batch):
                part = images[start : start + self._images_per_batch]
                pixels = squash(part, side_px, device=self._sam.device, mean=mean, std=std)
                parts.append(self._sam.image_encoder(pixels))
            wait_for(self._sam.device)
            return MetaEmbeddings(frames, torch.cat(parts) if parts else torch.empty(0))

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
        with machine_faults(self.version):
            # The package's decoder takes one image at a time.
            for i, prompts in enumerate(prompts_tile_px):
                only = [prompts if j == i else () for j in range(len(embeddings))]
                for batch in prompt_batches(
                    embeddings.frames,
                    only,
                    self._sam.image_encoder.img_size,
                    device=self._sam.device,
                    size=self._prompts_per_batch,
                ):
                    points = None if batch.points_model_px is None else (batch.points_model_px, batch.labels)
                    sparse, dense = self._sam.prompt_encoder(
                        points=points,
                        boxes=batch.boxes_model_px,
                        masks=None,
                    )
                    logits, iou = self._sam.mask_decoder(
                        image_embeddings=embeddings.features[i : i + 1],
                        image_pe=self._sam.prompt_encoder.get_dense_pe(),
                        sparse_prompt_embeddings=sparse,
                        dense_prompt_embeddings=dense,
                        multimask_output=False,
                    )
                    collected.put(batch, logits[:, 0], iou[:, 0])
        return collected.lists()
