"""The bundled segmenter's architecture, started so that training from scratch goes somewhere."""

import torch
from torch import Tensor
from transformers import SamConfig, SamModel

SIDE_PX = 256
PATCH_PX = 8
"""Half of the usual: a ship is 13 px wide, and what the encoder does not see apart the decoder cannot cut apart."""
MASK_PX = 4 * SIDE_PX // PATCH_PX
"""Side of the low-resolution masks."""
WIDTH = 160
EMBEDDING = 128


def make_model() -> SamModel:
    """The architecture, freshly initialised: 2.5 M parameters."""
    config = SamConfig(
        vision_config={
            "hidden_size": WIDTH, "num_hidden_layers": 5, "num_attention_heads": 4, "image_size": SIDE_PX,
            "patch_size": PATCH_PX, "output_channels": EMBEDDING, "window_size": 8, "global_attn_indexes": [2, 4],
            "use_rel_pos": False, "mlp_ratio": 4.0, "num_pos_feats": EMBEDDING // 2, "initializer_range": 0.02,
            "scale": EMBEDDING // 2,
        },
        prompt_encoder_config={"hidden_size": EMBEDDING, "image_size": SIDE_PX, "patch_size": PATCH_PX},
        mask_decoder_config={"hidden_size": EMBEDDING, "mlp_dim": 256, "iou_head_hidden_dim": EMBEDDING},
    )  # fmt: skip
    model = SamModel(config)
    with torch.no_grad():
        features = torch.randn_like(model.shared_image_embedding.positional_embedding)
        model.shared_image_embedding.positional_embedding.copy_(features)
        model.prompt_encoder.shared_embedding.positional_embedding.copy_(features)
        places = model.vision_encoder.pos_embed
        if places is None:
            raise AssertionError("the configuration asks for absolute positions")
        places.copy_(0.5 * _sines(SIDE_PX // PATCH_PX, WIDTH))
    model.shared_image_embedding.positional_embedding.requires_grad = False
    model.prompt_encoder.shared_embedding.positional_embedding.requires_grad = False
    return model


def _sines(cells: int, width: int) -> Tensor:
    """(1, cells, cells, width): sines and cosines of column and row."""
    rates = 1.0 / 100 ** (torch.arange(width // 4) / (width // 4))
    angles = torch.arange(cells)[:, None] * rates
    wave = torch.cat((angles.sin(), angles.cos()), dim=-1)
    columns = wave[None, :, :].expand(cells, cells, width // 2)
    rows = wave[:, None, :].expand(cells, cells, width // 2)
    return torch.cat((columns, rows), dim=-1)[None]
