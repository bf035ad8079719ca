"""Tiny models of the real architectures with random weights, saved as published ones are."""

from pathlib import Path
from typing import TypeVar

import torch
from fakes import fake_profile
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
    Sam2Config,
    Sam2Model,
    SamConfig,
    SamModel,
)

from t2s_core.profiles import SegmenterProfile

torch.set_num_threads(1)  # threads cost more than they bring at this size, above all beside other work
Network = TypeVar("Network", bound=torch.nn.Module)
CHAT_TEMPLATE = """\
{%- for m in messages %}<|im_start|>{{ m.role }}
{% if m.content is string %}{{ m.content }}{% else %}{% for c in m.content %}{% if c.type == 'image' %}\
<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ c.text }}{% endif %}{% endfor %}{% endif %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>"]
SPECIAL += ["<|video_pad|>"]


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token per byte, and the special ones."""
    alphabet = {c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=alphabet, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    special = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, chat_template=CHAT_TEMPLATE, **special)


def save_qwen2_5_vl(directory: Path, *, seed: int = 0, patch_px: int = 8, **profile: object) -> Path:
    tokenizer = byte_tokenizer()
    ids = tokenizer.get_vocab()
    torch.manual_seed(seed)
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(ids),
            "hidden_size": 48,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "max_position_embeddings": 4096,
            "rope_parameters": {"rope_type": "default", "mrope_section": [4, 4, 4], "rope_theta": 1e4},
            "initializer_range": 0.3,
            "eos_token_id": ids["<|im_end|>"],
        },
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 32,
            "num_heads": 2,
            "patch_size": patch_px,
            "spatial_merge_size": 2,
            "window_size": 4 * patch_px,
            "out_hidden_size": 48,
            "fullatt_block_indexes": [1],
        },
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
    )
    model = Qwen2_5_VLForConditionalGeneration(config).eval()
    processor = Qwen2_5_VLProcessor(
        Qwen2VLImageProcessor(patch_size=patch_px, merge_size=2),
        tokenizer,
        Qwen2VLVideoProcessor(patch_size=patch_px, merge_size=2),
        chat_template=CHAT_TEMPLATE,
    )
    return _save(directory, model, processor, ids, profile)


def save_qwen3_vl(directory: Path, *, seed: int = 0, patch_px: int = 8, **profile: object) -> Path:
    tokenizer = byte_tokenizer()
    ids = tokenizer.get_vocab()
    torch.manual_seed(seed)
    config = Qwen3VLConfig(
        text_config={
            "vocab_size": len(ids),
            "hidden_size": 48,
            "intermediate_size": 64,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "head_dim": 24,
            "max_position_embeddings": 4096,
            "rope_parameters": {"rope_type": "default", "mrope_section": [4, 4, 4], "rope_theta": 1e4},
            "initializer_range": 0.3,
            "eos_token_id": ids["<|im_end|>"],
        },
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 32,
            "num_heads": 2,
            "patch_size": patch_px,
            "spatial_merge_size": 2,
            "out_hidden_size": 48,
            "num_position_embeddings": 64,
            "deepstack_visual_indexes": [0, 1],
        },
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
    )
    model = Qwen3VLForConditionalGeneration(config).eval()
    processor = Qwen3VLProcessor(
        Qwen2VLImageProcessor(patch_size=patch_px, merge_size=2),
        tokenizer,
        Qwen3VLVideoProcessor(patch_size=patch_px, merge_size=2),
        chat_template=CHAT_TEMPLATE,
    )
    return _save(directory, model, processor, ids, {"coordinates": "permille", **profile})


def _save(directory: Path, model: object, processor: object, ids: dict[str, int], profile: dict[str, object]) -> Path:
    model.generation_config.eos_token_id = ids["<|im_end|>"]  # type: ignore[attr-defined]
    model.save_pretrained(directory)  # type: ignore[attr-defined]
    processor.save_pretrained(directory)  # type: ignore[attr-defined]
    settings = {"name": "tiny", "model_px": 64, "tile_px": 64, "max_new_tokens": 24} | profile
    (directory / "profile.json").write_text(fake_profile(**settings).model_dump_json())
    return directory


def sam_model(*, seed: int = 0) -> SamModel:
    """64 px, relative positions on and one windowed layer, as published SAMs have."""
    torch.manual_seed(seed)
    config = SamConfig(
        vision_config={
            "image_size": 64,
            "patch_size": 8,
            "hidden_size": 32,
            "output_channels": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "mlp_dim": 64,
            "mlp_ratio": 2.0,
            "window_size": 3,
            "global_attn_indexes": [1],
            "num_pos_feats": 16,
            "initializer_range": 0.1,
        },
        prompt_encoder_config={
            "image_size": 64,
            "patch_size": 8,
            "image_embedding_size": 8,
            "hidden_size": 32,
            "mask_input_channels": 4,
        },
        mask_decoder_config={
            "hidden_size": 32,
            "mlp_dim": 64,
            "num_attention_heads": 4,
            "iou_head_hidden_dim": 32,
        },
    )
    return _enliven(SamModel(config).eval())


def _enliven(model: Network) -> Network:
    """Weights large enough that images and prompts matter: transformers' own start gives nearly constant masks."""
    for parameter in model.parameters():
        if parameter.dim() > 1:
            fan_in = parameter[0].numel() if parameter.shape[0] > 1 else 1
            torch.nn.init.normal_(parameter.data, std=min(1.0, 1.5 * fan_in**-0.5))
        else:
            parameter.data += 0.1 * torch.randn_like(parameter)
    return model


def sam2_model(*, seed: int = 0) -> Sam2Model:
    torch.manual_seed(seed)
    config = Sam2Config(
        vision_config={
            "backbone_config": {
                "model_type": "sam2_hiera_det_model",
                "image_size": [64, 64],
                "hidden_size": 8,
                "num_attention_heads": 1,
                "blocks_per_stage": [1, 1, 2, 1],
                "embed_dim_per_stage": [8, 16, 32, 64],
                "num_attention_heads_per_stage": [1, 2, 4, 8],
                "window_size_per_stage": [8, 4, 4, 2],
                "global_attention_blocks": [3],
                "window_positional_embedding_background_size": [2, 2],
            },
            "backbone_channel_list": [64, 32, 16, 8],
            "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
            "fpn_hidden_size": 32,
        },
        prompt_encoder_config={"image_size": 64, "patch_size": 16, "hidden_size": 32, "mask_input_channels": 4},
        mask_decoder_config={"hidden_size": 32, "mlp_dim": 64, "num_attention_heads": 4, "iou_head_hidden_dim": 32},
    )
    return _enliven(Sam2Model(config).eval())


def save_segmenter(directory: Path, model: SamModel | Sam2Model) -> Path:
    model.save_pretrained(directory)
    profile = SegmenterProfile(name="tiny-sam", version="1", model_px=64)
    (directory / "profile.json").write_text(profile.model_dump_json())
    return directory
