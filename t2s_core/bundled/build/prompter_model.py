"""The bundled prompter's architecture, and the pieces of it that training feeds by hand."""

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 -- the name everybody knows
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast, Qwen3VLConfig, Qwen3VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor

from t2s_core.bundled.build.tokenizer import NUMBERS, VOCABULARY
from t2s_core.world.classes import Kind

SIDE_PX = 256
PATCH_PX = 16
GRID = SIDE_PX // PATCH_PX // 2
"""Image tokens along a side: one for each 32 px."""
CELLS = 16
"""8 px cells of an image token: 4 x 4."""
AUXILIARY_LAYER = 3
"""Layer of the language model after which the second auxiliary head reads."""


def make_model(tokenizer: PreTrainedTokenizerFast) -> Qwen3VLForConditionalGeneration:
    """Qwen3-VL, freshly initialised: 7.6 M parameters. Its vision tower knows absolute positions."""
    ids = {name: int(tokenizer.convert_tokens_to_ids(f"<|{name}|>")) for name in ("im_end", "endoftext", "im_start")}  # type: ignore[arg-type]
    special = {
        f"{key}_token_id": int(tokenizer.convert_tokens_to_ids(f"<|{text}|>"))  # type: ignore[arg-type]
        for key, text in (
            ("image", "image_pad"), ("video", "video_pad"),
            ("vision_start", "vision_start"), ("vision_end", "vision_end"),
        )
    }  # fmt: skip
    settings: dict[str, Any] = dict(special)
    config = Qwen3VLConfig(
        text_config={
            "vocab_size": VOCABULARY, "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 4,
            "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64, "max_position_embeddings": 2048,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [8, 12, 12]},
            "bos_token_id": ids["im_start"], "eos_token_id": ids["im_end"], "pad_token_id": ids["endoftext"],
            "tie_word_embeddings": True,
        },
        vision_config={
            "depth": 5, "hidden_size": 256, "intermediate_size": 768, "num_heads": 4, "patch_size": PATCH_PX,
            "spatial_merge_size": 2, "out_hidden_size": 256, "num_position_embeddings": (2 * GRID) ** 2,
            "deepstack_visual_indexes": [],
        },
        tie_word_embeddings=True,
        **settings,
    )  # fmt: skip
    model = Qwen3VLForConditionalGeneration(config)
    numbers = torch.tensor([int(tokenizer.convert_tokens_to_ids(str(n))) for n in range(NUMBERS)])  # type: ignore[arg-type]
    with torch.no_grad():
        model.model.language_model.embed_tokens.weight[numbers] += number_waves()
        model.model.visual.pos_embed.weight += place_waves()
    # Guidance reads attention weights, which only the plain implementation returns.
    model.model.language_model.config._attn_implementation = "eager"  # noqa: SLF001 -- no public way for a part
    return model


def number_waves() -> Tensor:
    """(257, 256): sines and cosines of each number, so that neighbours are alike within about 4, 12 and 40."""
    generator = torch.Generator().manual_seed(0)
    reach = torch.tensor([4.0, 12.0, 40.0, 120.0]).repeat_interleave(32)
    rates = torch.randn(128, generator=generator) / reach
    angles = torch.arange(NUMBERS)[:, None] * rates
    turn = torch.linalg.qr(torch.randn(256, 256, generator=generator)).Q
    waves: Tensor = torch.cat((angles.sin(), angles.cos()), dim=1) @ turn
    scaled: Tensor = 0.7 * waves / waves.norm(dim=1, keepdim=True)
    return scaled


def place_waves() -> Tensor:
    """(256, 256): sines and cosines of row and column of each patch, of the size of what is seen in it."""
    side = 2 * GRID
    rates = torch.pi / side * torch.logspace(0, 3, 64, base=2)
    angles = (torch.arange(side) + 0.5)[:, None] * rates
    waves = torch.cat((angles.sin(), angles.cos()), dim=1)  # (side, 128)
    rows, columns = waves[:, None].expand(side, side, -1), waves[None].expand(side, side, -1)
    return 0.3 * torch.cat((rows, columns), dim=-1).reshape(side * side, -1)


def make_image_processor() -> Qwen2VLImageProcessor:
    """Squashes nothing: images arrive as squares of 256 px and stay so."""
    pixels = SIDE_PX * SIDE_PX
    return Qwen2VLImageProcessor(
        patch_size=PATCH_PX, merge_size=2, temporal_patch_size=2, size={"shortest_edge": pixels, "longest_edge": pixels}
    )


def patches(images: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """(b, 256, 256, 3) bytes to (b * 256, 768): as `Qwen2VLImageProcessor`, but once instead of twice along time."""
    b = images.shape[0]
    x = images.float() / 255.0
    x = (x - torch.tensor(mean, device=x.device)) / torch.tensor(std, device=x.device)
    x = x.reshape(b, GRID, 2, PATCH_PX, GRID, 2, PATCH_PX, 3).permute(0, 1, 4, 2, 5, 7, 3, 6)
    # (b, rows, columns, 2, 2, channel, y, x)
    return x.reshape(b * GRID * GRID * 4, 3 * PATCH_PX * PATCH_PX)


class VisionTower:
    """The vision tower on a batch of equal images: what `visual.forward` computes, image by image, in a few launches.

    A still image is the same twice along time, so summing the patch weights over time halves that work.
    """

    def __init__(self, visual: Any) -> None:  # noqa: ANN401 -- transformers' models have no types to speak of
        self.visual = visual
        side = 2 * GRID
        rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
        # Patches come block by block: those that are merged into one token stand together.
        self.rows, self.columns = (
            one.reshape(GRID, 2, GRID, 2).permute(0, 2, 1, 3).flatten() for one in (rows, columns)
        )
        head = visual.config.hidden_size // visual.config.num_heads
        rates = 1.0 / 1e4 ** (torch.arange(0, head // 2, 2) / (head // 2))
        angles = torch.cat((self.rows[:, None] * rates, self.columns[:, None] * rates), dim=1)
        self.cosines, self.sines = (torch.cat((f(angles),) * 2, dim=1) for f in (torch.cos, torch.sin))

    def __call__(self, pixels: Tensor) -> Tensor:
        """(b * 256, 768) to image tokens (b, 64, width)."""
        visual, device = self.visual, pixels.device
        embed = visual.patch_embed.proj
        n = len(self.rows)
        x = F.linear(pixels, embed.weight.sum(2).flatten(1), embed.bias).view(-1, n, visual.config.hidden_size)
        x = x + visual.pos_embed.weight[(self.rows * 2 * GRID + self.columns).to(device)]
        turns = self.cosines.to(device), self.sines.to(device)
        for block in visual.blocks:
            x = x + self._attend(block.attn, block.norm1(x), turns)
            x = x + block.mlp(block.norm2(x))
        merged: Tensor = visual.merger(x.flatten(0, 1))
        return merged.view(len(x), GRID * GRID, -1)

    @staticmethod
    def _attend(attention: Any, x: Tensor, turns: tuple[Tensor, Tensor]) -> Tensor:  # noqa: ANN401
        b, n, _ = x.shape
        q, k, v = attention.qkv(x).reshape(b, n, 3, attention.num_heads, -1).permute(2, 0, 3, 1, 4)
        q, k = (_turned(one, *turns) for one in (q, k))
        mixed = F.scaled_dot_product_attention(q, k, v)
        out: Tensor = attention.proj(mixed.transpose(1, 2).reshape(b, n, -1))
        return out


def _turned(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    return x * cosines + torch.cat((-x[..., half:], x[..., :half]), dim=-1) * sines


class CellHead(nn.Module):
    """Reads from each image token the class of its sixteen 8 px cells and the box of the object at each."""

    def __init__(self, width: int = 256) -> None:
        super().__init__()
        self.kinds = nn.Linear(width, CELLS * len(Kind))
        self.boxes = nn.Linear(width, CELLS * 4)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """(b, 64, width) to (b, 64, 16, classes) and (b, 64, 16, 4) in image widths."""
        b, n, _ = tokens.shape
        return self.kinds(tokens).view(b, n, CELLS, len(Kind)), self.boxes(tokens).view(b, n, CELLS, 4)


class NumberHead(nn.Module):
    """Reads from each image token the numbers of its main object, spelt with the embeddings of replies."""

    def __init__(self, width: int = 256) -> None:
        super().__init__()
        self.slots = nn.Linear(width, 8 * width)

    def forward(self, tokens: Tensor, numbers: Tensor) -> Tensor:
        """(n, width) and the embeddings (257, width) to log shares (n, 8, 257): box, then two points."""
        n, width = tokens.shape
        shares: Tensor = (self.slots(tokens).view(n, 8, width) @ numbers.T).log_softmax(-1)
        return shares
