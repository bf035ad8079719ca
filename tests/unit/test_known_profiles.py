"""Published models, small and with random weights, under their published names: what is known of each, and it loads."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tiny_models import sam2_model, sam_model, save_qwen2_5_vl, save_qwen3_vl, save_segmenter
from transformers import Sam2VideoConfig, Sam2VideoModel

from t2s_core import registry
from t2s_core.errors import BadInput
from t2s_core.known_profiles import PROMPTER_HUB_IDS, PROMPTERS, SEGMENTER_HUB_IDS, SEGMENTERS
from t2s_core.ports import PromptRequest
from t2s_core.prompters.qwen_vl import QwenVlPrompter
from t2s_core.prompts import InstancePrompt

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TILE = np.random.default_rng(0).integers(0, 255, (100, 100, 3), dtype=np.uint8)


def save_sam(directory: Path) -> Path:
    return save_segmenter(directory, sam_model())


def save_sam2_video(directory: Path) -> Path:
    """As published: the image part within a model that follows objects through videos."""
    image = sam2_model().config
    config = Sam2VideoConfig(
        vision_config=image.vision_config,
        prompt_encoder_config=image.prompt_encoder_config.to_dict(),
        mask_decoder_config=image.mask_decoder_config.to_dict(),
        image_size=64, memory_attention_hidden_size=32, memory_attention_feed_forward_hidden_size=32,
        memory_attention_num_layers=1, memory_encoder_hidden_size=32, memory_encoder_output_channels=8,
        mask_downsampler_embed_dim=32, memory_fuser_embed_dim=32, memory_fuser_intermediate_dim=64,
    )  # fmt: skip
    Sam2VideoModel(config).eval().save_pretrained(directory)
    return directory


SAVE: dict[str, Callable[[Path], Path]] = {
    "qwen2_5_vl": lambda directory: save_qwen2_5_vl(directory, patch_px=14),
    "qwen3_vl": lambda directory: save_qwen3_vl(directory, patch_px=16),
    "sam": save_sam,
    "sam2_video": save_sam2_video,
}
ARCHITECTURE = {hub_id: name for name, family in PROMPTERS.items() for hub_id in family.hub_ids} | {
    hub_id: name for name, hub_ids in SEGMENTERS.items() for hub_id in hub_ids
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One small model of each architecture, without a profile of its own."""
    folder = tmp_path_factory.mktemp("published")
    made = {name: save(folder / name) for name, save in SAVE.items()}
    for directory in made.values():
        (directory / "profile.json").unlink(missing_ok=True)
    return made


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def download(hub: Path, hub_id: str, source: Path) -> Path:
    """As the hub's client lays a model down: blobs, and links to them in a snapshot; its folder."""
    folder = hub / f"models--{hub_id.replace('/', '--')}"
    snapshot = folder / "snapshots" / COMMIT
    for place in (snapshot, folder / "blobs", folder / "refs"):
        place.mkdir(parents=True)
    for path in source.iterdir():
        (folder / "blobs" / path.name).write_bytes(path.read_bytes())
        (snapshot / path.name).symlink_to(Path("../../blobs") / path.name)
    (folder / "refs" / "main").write_text(COMMIT)
    return folder


@pytest.mark.parametrize("hub_id", PROMPTER_HUB_IDS)
def test_every_published_prompter_is_asked_in_its_own_convention(
    hub: Path, saved: dict[str, Path], hub_id: str
) -> None:
    download(hub, hub_id, saved[ARCHITECTURE[hub_id]])
    profile = registry.prompter_profile(f"qwen_vl:{hub_id}")
    facts = (profile.model_px, profile.tile_px, profile.coordinates, profile.reply_px, profile.points_per_instance)
    asked = profile.template.user_text("the lake")
    if "Qwen3" in hub_id:
        assert facts == (832, 832, "permille", 1000, 2)
        assert "from 0 to 1000" in asked
    else:
        assert facts == (840, 840, "pixel", 840, 2)
        assert "840 x 840" in asked
    assert "exactly 2 points" in asked
    assert profile.name == hub_id.partition("/")[2]


@pytest.mark.parametrize("architecture", PROMPTERS)
def test_published_prompters_load_and_answer_at_their_own_size(
    hub: Path, saved: dict[str, Path], architecture: str
) -> None:
    hub_id = PROMPTERS[architecture].hub_ids[0]
    snapshot = download(hub, hub_id, saved[architecture]) / "snapshots" / COMMIT
    profile = registry.prompter_profile(f"qwen_vl:{hub_id}").model_copy(update={"max_new_tokens": 4})
    prompter = QwenVlPrompter.load(snapshot, profile=profile, version="small")
    (reply,) = prompter.reply([PromptRequest("a", TILE, "the lake")])
    assert 1 <= reply.n_tokens <= 4


@pytest.mark.parametrize("hub_id", SEGMENTER_HUB_IDS)
def test_every_published_segmenter_loads_and_segments(hub: Path, saved: dict[str, Path], hub_id: str) -> None:
    download(hub, hub_id, saved[ARCHITECTURE[hub_id]])
    segmenter = registry.load_segmenter(f"sam_hf:{hub_id}")
    assert segmenter.version.startswith(f"{hub_id.partition('/')[2]}@{ARCHITECTURE[hub_id]}+")
    prompt = InstancePrompt((10, 10, 60, 60), ((20, 20), (40, 40)))
    ((mask,),) = segmenter.decode(segmenter.encode([TILE]), [[prompt]])
    assert np.isfinite(mask.logits).all()


def test_published_segmenters_see_1024_px_unless_their_config_says_otherwise(
    saved: dict[str, Path], tmp_path: Path
) -> None:
    for name in ("sam", "sam2_video"):
        assert registry.segmenter_profile(f"sam_hf:{saved[name]}").model_px == 64
        plain = tmp_path / name
        plain.mkdir()
        (plain / "config.json").write_text(json.dumps({"model_type": name}))
        (plain / "model.safetensors").write_bytes(b"")
        assert registry.segmenter_profile(f"sam_hf:{plain}").model_px == 1024


def test_hub_id_cache_folder_and_snapshot_are_one_model(hub: Path, saved: dict[str, Path]) -> None:
    folder = download(hub, "RicardoString/Think2Seg-RS-3B", saved["qwen2_5_vl"])
    spellings = ("RicardoString/Think2Seg-RS-3B", str(folder), str(folder / "snapshots" / COMMIT))
    (version,) = {registry.prompter_version(f"qwen_vl:{where}") for where in spellings}
    assert version.startswith("Think2Seg-RS-3B@qwen2_5_vl+")


def test_a_directory_of_another_name_keeps_its_familys_convention(saved: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "my-finetune").symlink_to(saved["qwen3_vl"])
    profile = registry.prompter_profile(f"qwen_vl:{tmp_path / 'my-finetune'}")
    assert (profile.coordinates, profile.model_px) == ("permille", 832)


def test_an_interrupted_download_is_noticed_without_loading(hub: Path, saved: dict[str, Path]) -> None:
    hub_id = "RicardoString/Think2Seg-RS-7B"
    snapshot = download(hub, hub_id, saved["qwen2_5_vl"]) / "snapshots" / COMMIT
    index = {"weight_map": {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (snapshot / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(BadInput, match=r"lacks model-00002-of-00002\.safetensors, named by its index; download"):
        registry.check_prompter(f"qwen_vl:{hub_id}")
    (snapshot / "model.safetensors.index.json").write_text("[]")
    with pytest.raises(BadInput, match="no index of weights"):
        registry.check_prompter(f"qwen_vl:{hub_id}")


def test_a_misspelt_hub_id_brings_the_published_one_to_mind(hub: Path) -> None:
    with pytest.raises(BadInput, match=r"did you mean RicardoString/Think2Seg-RS-3B\?"):
        registry.check_prompter("qwen_vl:Ricardostring/Think2Seg-3B")
    with pytest.raises(BadInput, match=r"did you mean facebook/sam2\.1-hiera-small\?"):
        registry.check_segmenter("sam_hf:facebook/sam2.1-small")
    with pytest.raises(BadInput) as caught:
        registry.check_prompter("qwen_vl:RicardoString/Think2Seg-RS-3B")
    assert "did you mean" not in str(caught.value)
    assert "hf download RicardoString/Think2Seg-RS-3B" in str(caught.value)
