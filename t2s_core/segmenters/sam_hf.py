"""SAM, SAM 2 and SAM 2.1 through transformers."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from transformers import AutoConfig, Sam2Model, SamModel

from t2s_core.batching import BatchSize
from t2s_core.devices import machine_faults, resolve_device, wait_for
from t2s_core.errors import BadInput, ContractError
from t2s_core.ports import Embeddings, Image, InstanceLogits
from t2s_core.profiles import SegmenterProfile
from t2s_core.prompts import Frame, InstancePrompt
from t2s_core.segmenters.pixels import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Collected,
    PlacedPrompt,
    alike_prompts,
    images_that_fit,
    prompt_batch,
    prompts_that_fit,
    squash,
)


@dataclass(frozen=True, slots=True)
class HfEmbeddings:
    """What `HfSamSegmenter.encode` saw."""

    frames: Sequence[Frame]
    features: list[torch.Tensor]
    """Feature maps (images, channels, h, w), the coarsest last. SAM has one, SAM 2 three."""

    def __len__(self) -> int:
        """How many images."""
        return len(self.frames)


class HfSamSegmenter:
    """One frozen model on one device. One instance per worker process, never pickled, one thread at a time."""

    def __init__(
        self,
        model: Any,  # noqa: ANN401 -- transformers' classes have no types to speak of
        *,
        version: str,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        images_per_batch: int | None = None,
        prompts_per_batch: int | None = None,
    ) -> None:
        """Wrap a loaded model.

        Args:
            model: `SamModel` or `Sam2Model`, on its device, in eval mode.
            version: Names it in results.
            mean: Of each channel, as its training normalised images (0 to 1).
            std: Likewise.
            images_per_batch: Images in one pass of the encoder; bounds memory. None: as many as fit.
            prompts_per_batch: Prompts in one pass of the decoder; bounds memory. None: as many as fit.

        """
        self.version = version
        self._model = model
        self._side_px = int(model.config.prompt_encoder_config.image_size)
        self._mean, self._std = mean, std
        self._images_per_batch = BatchSize(
            images_per_batch or images_that_fit(model.device, self._side_px, n_bytes=_bytes_of_an_image(model))
        )
        self._prompts_per_batch = BatchSize(prompts_per_batch or prompts_that_fit(model.device, self._side_px))

    @classmethod
    def load(cls, directory: Path, *, profile: SegmenterProfile, version: str, device: str = "cpu") -> Self:
        """Load from a directory as `save_pretrained` writes it; never from the network. Runs in float32 everywhere.

        Raises:
            BadInput: The directory holds no loadable model, lacks some of its weights, or its profile contradicts it.

        """
        where = resolve_device(device)
        try:
            architecture = AutoConfig.from_pretrained(directory, local_files_only=True).model_type
            kind: Any = SamModel if architecture == "sam" else Sam2Model  # typed as if they gave no loading info
            # bf16 would move mask borders by a pixel, and SAM is the small half of the cost.
            model, info = kind.from_pretrained(
                directory, dtype=torch.float32, local_files_only=True, output_loading_info=True
            )
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise BadInput(f"{directory}: cannot be loaded: {str(error).splitlines()[0]}") from error
        if info["missing_keys"]:
            # transformers would go on with random numbers in their place.
            raise BadInput(f"{directory}: lacks the weights {', '.join(sorted(info['missing_keys'])[:3])}")
        side_px = model.config.prompt_encoder_config.image_size
        if profile.model_px != side_px:
            raise BadInput(f"{directory}: profile.json says model_px={profile.model_px}, the model {side_px}")
        mean, std = _normalisation(directory)
        with machine_faults(f"loading {version}"):
            model = model.to(where).eval()
        return cls(model, version=version, mean=mean, std=std)

    @torch.inference_mode()
    def encode(self, images: Sequence[Image]) -> HfEmbeddings:
        """Embed images of any sizes, each squashed to the model's square."""
        frames = [Frame(image.shape[1], image.shape[0]) for image in images]
        with machine_faults(self.version, self._model.device):
            parts = [*self._images_per_batch.run(images, self._embed)]
            wait_for(self._model.device)
            return HfEmbeddings(frames, [torch.cat(level) for level in zip(*parts, strict=True)])

    def _embed(self, images: Sequence[Image]) -> list[torch.Tensor]:
        pixels = squash(images, self._side_px, device=self._model.device, mean=self._mean, std=self._std)
        features = self._model.get_image_embeddings(pixels)
        return features if isinstance(features, list) else [features]

    @torch.inference_mode()
    def decode(
        self, embeddings: Embeddings, prompts_tile_px: Sequence[Sequence[InstancePrompt]]
    ) -> list[list[InstanceLogits]]:
        """One mask per prompt: box and points together, no alternatives (`multimask_output=False`)."""
        if not isinstance(embeddings, HfEmbeddings):
            raise ContractError(
                f"{self.version} cannot decode {type(embeddings).__name__}: another segmenter made them"
            )
        collected = Collected(prompts_tile_px)
        with machine_faults(self.version, self._model.device):
            for alike in alike_prompts(embeddings.frames, prompts_tile_px, self._side_px):
                for drawn in self._prompts_per_batch.run(alike, lambda part: self._draw(part, embeddings)):
                    collected.put(*drawn)
        return collected.lists()

    def _draw(
        self, prompts: Sequence[PlacedPrompt], embeddings: HfEmbeddings
    ) -> tuple[Sequence[PlacedPrompt], torch.Tensor, torch.Tensor]:
        """The prompts, with their logits (n, h, w) and predicted IoUs (n,)."""
        batch = prompt_batch(prompts, self._model.device)
        # Each prompt is a row of its own with its image's features: no padding, whatever each image was asked.
        index = torch.tensor([one.image for one in prompts], device=self._model.device)
        features = [level[index] for level in embeddings.features]
        output = self._model(
            image_embeddings=features if len(features) > 1 else features[0],
            input_points=_one_object(batch.points_model_px),
            input_labels=_one_object(batch.labels),
            input_boxes=_one_object(batch.boxes_model_px),
            multimask_output=False,
        )
        return prompts, output.pred_masks[:, 0, 0], output.iou_scores[:, 0, 0]


def _bytes_of_an_image(model: Any) -> int:  # noqa: ANN401
    """Of 1024 px: SAM's global layers hold the scores of all pairs of patches, SAM 2 has windows."""
    return 4_000_000_000 if isinstance(model, SamModel) else 1_000_000_000


def _one_object(rows: torch.Tensor | None) -> torch.Tensor | None:
    """(n, ...) to (n, 1, ...): each row prompts for one object of its image."""
    return None if rows is None else rows[:, None]


def _normalisation(directory: Path) -> tuple[Sequence[float], Sequence[float]]:
    """Mean and standard deviation from the processor's config; ImageNet's where there is none, as for every SAM."""
    # transformers 5 writes the second, with the image processor as a part; published models have the first.
    for name, part in (("preprocessor_config.json", None), ("processor_config.json", "image_processor")):
        path = directory / name
        if path.exists():
            try:
                config = json.loads(path.read_bytes())
            except ValueError as error:
                raise BadInput(f"{path}: not JSON ({error})") from error
            config = config.get(part, {}) if part else config
            return config.get("image_mean", IMAGENET_MEAN), config.get("image_std", IMAGENET_STD)
    return IMAGENET_MEAN, IMAGENET_STD
