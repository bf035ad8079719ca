"""Profiles of published models, which ship none of ours: decided by the architecture that their config names.

The architecture, not the name, decides: fine-tuned descendants under any name keep their family's convention.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from t2s_core.profiles import PrompterProfile, SegmenterProfile
from t2s_core.template import default_template


@dataclass(frozen=True, slots=True)
class Family:
    """What all prompters of one architecture share."""

    model_px: int
    """Side of the square that tiles are squashed to, and of the tiles themselves unless the spec says otherwise."""
    coordinates: Literal["pixel", "permille"]
    points_per_instance: int
    hub_ids: tuple[str, ...]
    """Published members, as `hf download` names them."""
    special_texts: tuple[str, ...]
    """The added tokens of their tokenizer, for who asks them without having it: a query must not spell them."""


_QWEN2_TEXTS = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>"),
    *("<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>"),
    *("<|image_pad|>", "<|video_pad|>", "<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>"),
    *("<|fim_suffix|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>"),
)


PROMPTERS: Mapping[str, Family] = {
    # Think2Seg-RS was trained on images squashed to 840 px (30 merged patches of 28 px), and writes two points for each
    # object. Its base models write coordinates in pixels of whatever image they are given.
    "qwen2_5_vl": Family(
        model_px=840,
        coordinates="pixel",
        points_per_instance=2,
        hub_ids=(
            *(f"RicardoString/Think2Seg-RS-{size}" for size in ("3B", "7B")),
            *(f"Qwen/Qwen2.5-VL-{size}-Instruct" for size in ("3B", "7B", "32B", "72B")),
        ),
        special_texts=_QWEN2_TEXTS,
    ),
    # 832 is the multiple of its 32 px merged patches nearest to 840.
    "qwen3_vl": Family(
        model_px=832,
        coordinates="permille",
        points_per_instance=2,
        hub_ids=tuple(f"Qwen/Qwen3-VL-{size}-Instruct" for size in ("2B", "4B", "8B", "32B")),
        special_texts=(*_QWEN2_TEXTS, "<tool_response>", "</tool_response>", "<think>", "</think>"),
    ),
}
SEGMENTERS: Mapping[str, tuple[str, ...]] = {
    "sam": tuple(f"facebook/sam-vit-{size}" for size in ("base", "large", "huge")),
    "sam2": (),
    # What published SAM 2 checkpoints call themselves; their image part is read.
    "sam2_video": tuple(
        f"facebook/{release}-hiera-{size}"
        for release in ("sam2", "sam2.1")
        for size in ("tiny", "small", "base-plus", "large")
    ),
}
"""Hub ids of published members by architecture. All see a square of 1024 px unless their config says otherwise."""
PROMPTER_ARCHITECTURES = tuple(PROMPTERS)
SEGMENTER_ARCHITECTURES = tuple(SEGMENTERS)
PROMPTER_HUB_IDS = tuple(hub_id for family in PROMPTERS.values() for hub_id in family.hub_ids)
SEGMENTER_HUB_IDS = tuple(hub_id for hub_ids in SEGMENTERS.values() for hub_id in hub_ids)


def published_prompter(architecture: str, name: str) -> PrompterProfile:
    """The profile of a published model of this architecture.

    Args:
        architecture: `model_type` of its config, one of `PROMPTER_ARCHITECTURES`.
        name: What to call it in versions and provenance.

    """
    family = PROMPTERS.get(architecture)
    if family is None:
        raise ValueError(f"no published profile for {architecture!r}; known are {', '.join(PROMPTER_ARCHITECTURES)}")
    return PrompterProfile(
        name=name,
        version=architecture,
        model_px=family.model_px,
        coordinates=family.coordinates,
        points_per_instance=family.points_per_instance,
        tile_px=family.model_px,
        template=default_template(
            model_px=family.model_px,
            coordinates=family.coordinates,
            points_per_instance=family.points_per_instance,
        ),
    )


def published_segmenter(architecture: str, name: str, model_px: int = 1024) -> SegmenterProfile:
    """The profile of a published SAM: `model_px` is what its config says."""
    return SegmenterProfile(name=name, version=architecture, model_px=model_px)


RECORDED = published_prompter("qwen2_5_vl", "recorded")
"""How recorded replies are read unless their file brings a profile: as Think2Seg-RS writes them."""
