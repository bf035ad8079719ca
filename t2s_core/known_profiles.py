"""Profiles of published models, which ship none of ours: decided by the architecture that their config names."""

from t2s_core.profiles import PrompterProfile, SegmenterProfile
from t2s_core.template import default_template

PROMPTER_ARCHITECTURES = ("qwen2_5_vl", "qwen3_vl")
SEGMENTER_ARCHITECTURES = ("sam", "sam2", "sam2_video")
"""`sam2_video` is what published SAM 2 checkpoints call themselves; their image part is read."""


def published_prompter(architecture: str, name: str) -> PrompterProfile:
    """The profile of a published model of this architecture.

    Args:
        architecture: `model_type` of its config, one of `PROMPTER_ARCHITECTURES`.
        name: What to call it in versions and provenance.

    """
    if architecture == "qwen2_5_vl":
        # Think2Seg-RS was trained on images squashed to this side, and writes coordinates in its pixels.
        return PrompterProfile(
            name=name,
            version=architecture,
            model_px=840,
            coordinates="pixel",
            tile_px=840,
            template=default_template(model_px=840, coordinates="pixel"),
        )
    if architecture == "qwen3_vl":
        # 832 is the multiple of its 32 px merged patches nearest to 840.
        return PrompterProfile(
            name=name,
            version=architecture,
            model_px=832,
            coordinates="permille",
            tile_px=832,
            template=default_template(model_px=832, coordinates="permille"),
        )
    raise ValueError(f"no published profile for {architecture!r}; known are {', '.join(PROMPTER_ARCHITECTURES)}")


def published_segmenter(architecture: str, name: str, model_px: int = 1024) -> SegmenterProfile:
    """The profile of a published SAM: all of them see a square of 1024 px unless their config says otherwise."""
    return SegmenterProfile(name=name, version=architecture, model_px=model_px)


RECORDED = published_prompter("qwen2_5_vl", "recorded")
"""How recorded replies are read unless their file brings a profile: as Think2Seg-RS writes them."""
