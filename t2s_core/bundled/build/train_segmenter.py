"""Train the bundled SAM from scratch on drawn tiles and dead leaves.

Departures from the textbook (Kirillov et al. 2023):

- Every prompt is a box with two points, both jittered: that is what a prompter writes. No iterations, one mask.
- An auxiliary head reads the class of each 4 px cell from the image embedding of world tiles; it is thrown away.
- The loss is cross-entropy, over the image and near the box, plus dice, on 64 x 64 soft masks (each cell holds the share
  of its 16 pixels).
- No relative positions; the absolute ones start as sines, and the random Fourier features of the prompt encoder have
  scale 1 and stay as drawn: `transformers` starts both in ways that only suit loading published weights.
"""

import argparse
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import SamConfig, SamModel

from t2s_core.bundled.build.leaves import draw_leaves
from t2s_core.bundled.build.stream import tile_stream
from t2s_core.world.classes import Kind
from t2s_core.world.queries import FIRST_SEED
from t2s_core.world.tiles import bounding_box

SIDE_PX = 256
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
PROMPTS = 6
"""Prompts per image; drawn again where an image has fewer objects."""


def make_model() -> SamModel:
    """The architecture, freshly initialised: 3.7 M parameters."""
    config = SamConfig(
        vision_config={
            "hidden_size": 192, "num_hidden_layers": 6, "num_attention_heads": 4, "image_size": SIDE_PX, "patch_size": 16,
            "output_channels": 128, "window_size": 8, "global_attn_indexes": [1, 5], "use_rel_pos": False, "mlp_ratio": 4.0,
            "num_pos_feats": 64, "initializer_range": 0.02, "scale": 64,
        },
        prompt_encoder_config={"hidden_size": 128, "image_size": SIDE_PX, "patch_size": 16},
        mask_decoder_config={"hidden_size": 128, "mlp_dim": 256, "iou_head_hidden_dim": 128},
    )  # fmt: skip
    model = SamModel(config)
    with torch.no_grad():
        features = torch.randn_like(model.shared_image_embedding.positional_embedding)
        model.shared_image_embedding.positional_embedding.copy_(features)
        model.prompt_encoder.shared_embedding.positional_embedding.copy_(features)
        places = model.vision_encoder.pos_embed
        if places is None:
            raise AssertionError("the configuration asks for absolute positions")
        places.copy_(0.5 * _sines(SIDE_PX // 16, 192))
    model.shared_image_embedding.positional_embedding.requires_grad_(False)
    model.prompt_encoder.shared_embedding.positional_embedding.requires_grad_(False)
    return model


def _sines(cells: int, width: int) -> Tensor:
    """(1, cells, cells, width): sines and cosines of column and row."""
    rates = 1.0 / 100 ** (torch.arange(width // 4) / (width // 4))
    angles = torch.arange(cells)[:, None] * rates
    wave = torch.cat((angles.sin(), angles.cos()), dim=-1)
    columns = wave[None, :, :].expand(cells, cells, width // 2)
    rows = wave[:, None, :].expand(cells, cells, width // 2)
    return torch.cat((columns, rows), dim=-1)[None]


class Batches:
    """Batches of images with prompts; `leaves_share` of the images are dead leaves."""

    def __init__(self, seed: int, first_seed: int, size: int, leaves_share: float) -> None:
        self.rng = np.random.default_rng(seed)
        self.tiles = tile_stream(first_seed, self.rng)
        self.size = size
        self.leaves_share = leaves_share

    def draw(self) -> dict[str, Tensor]:
        """Tensors `pixels` (b, 3, 256, 256), `boxes` (b, p, 4), `points` (b, p, 2, 2), `masks` (b, p, 64, 64), `kinds` (b, 64, 64)."""
        rows = [self._one() for _ in range(self.size)]
        return {key: torch.from_numpy(np.stack([row[key] for row in rows])) for key in rows[0]}

    def _one(self) -> dict[str, NDArray[Any]]:
        while True:
            if self.rng.random() < self.leaves_share:
                image, numbers = draw_leaves(self.rng)
                counts = np.bincount(numbers.ravel())
                masks = [numbers == n for n in np.nonzero(counts >= 150)[0] if n]
                kinds = np.full((64, 64), -100, np.int64)
            else:
                tile = next(self.tiles)
                image, masks = tile.image, [one.mask for one in tile.instances]
                kinds = tile.kinds[2::4, 2::4].astype(np.int64)
            if masks:
                break
        # Small things are rare and hard: a ship of 150 px is drawn three times as often as a field of 15,000.
        rarity = np.asarray([mask.sum() for mask in masks], np.float64) ** -0.25
        order = self.rng.choice(len(masks), len(masks), replace=False, p=rarity / rarity.sum())
        chosen = [masks[order[i % len(masks)]] for i in range(PROMPTS)]
        flip = bool(self.rng.random() < 0.5)
        if flip:
            image, kinds = image[:, ::-1], kinds[:, ::-1]
            chosen = [mask[:, ::-1] for mask in chosen]
        prompts = [self._prompt(mask) for mask in chosen]
        soft = np.stack(chosen).reshape(PROMPTS, 64, 4, 64, 4).mean(axis=(2, 4), dtype=np.float32)
        return {
            "pixels": normalise(image), "kinds": np.ascontiguousarray(kinds), "masks": soft,
            "boxes": np.stack([box for box, _ in prompts]), "points": np.stack([points for _, points in prompts]),
        }  # fmt: skip

    def _prompt(self, mask: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        box = np.asarray(bounding_box(mask), np.float32)
        spread = 1.0 + 0.05 * np.tile(box[2:] - box[:2], 2)
        if self.rng.random() < 0.25:
            spread *= 2.0  # the prompter is sometimes far off
        box = np.clip(box + self.rng.normal(0, 1, 4) * spread, 0, SIDE_PX).astype(np.float32)
        ys, xs = np.nonzero(mask)
        at = self.rng.integers(len(xs), size=2)
        points = np.stack((xs[at], ys[at]), axis=1) + self.rng.normal(0, 1.5, (2, 2))
        return box, points.astype(np.float32)


def normalise(image: NDArray[Any]) -> NDArray[Any]:
    """(3, height, width) float32, as `SamImageProcessor` makes it of (height, width, 3) bytes."""
    scaled = (image.astype(np.float32) / 255.0 - np.asarray(MEAN, np.float32)) / np.asarray(STD, np.float32)
    return np.ascontiguousarray(scaled.transpose(2, 0, 1).astype(np.float32))


def loss_of(model: SamModel, head: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """The training loss and the mean IoU of the batch."""
    embedding = model.vision_encoder(batch["pixels"]).last_hidden_state  # (b, 128, 16, 16)
    out = model(
        image_embeddings=embedding, input_boxes=batch["boxes"], input_points=batch["points"],
        input_labels=torch.ones(batch["points"].shape[:3], dtype=torch.long), multimask_output=False,
    )  # fmt: skip
    logits, truth = out.pred_masks[:, :, 0], batch["masks"]
    cross = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    near = _near(batch["boxes"])
    cross = 5 * cross.mean((2, 3)) + (cross * near).sum((2, 3)) / near.sum((2, 3))
    share = logits.sigmoid()
    dice = 1 - (2 * (share * truth).sum((2, 3)) + 1) / (share.sum((2, 3)) + truth.sum((2, 3)) + 1)
    hard, real = logits.detach() > 0, truth > 0.5
    iou = (hard & real).sum((2, 3)) / (hard | real).sum((2, 3)).clamp(min=1)
    quality = F.mse_loss(out.iou_scores[:, :, 0], iou)
    kinds = F.cross_entropy(head(embedding), batch["kinds"], ignore_index=-100) if (batch["kinds"] >= 0).any() else 0.0
    return cross.mean() + dice.mean() + quality + 0.3 * kinds, iou.mean()


def _near(boxes: Tensor) -> Tensor:
    """(b, prompts, 64, 64): 1 within 8 px of each box. An outline matters as much on a small thing as on a large one."""
    centres = (torch.arange(64) + 0.5) * 4
    x0, y0, x1, y1 = (boxes[..., i, None] for i in range(4))
    across = (centres > x0 - 8) & (centres < x1 + 8)
    down = (centres > y0 - 8) & (centres < y1 + 8)
    return (down[..., :, None] & across[..., None, :]).float()


def train(folder: Path, steps: int, lr: float, leaves_share: float, seed: int) -> None:
    """Train, with a checkpoint every 300 steps in `folder`, from which a later call goes on."""
    torch.manual_seed(seed)
    model = make_model()
    head = nn.Sequential(nn.Conv2d(128, 128, 1), nn.GELU(), nn.ConvTranspose2d(128, len(Kind), 4, stride=4))
    weights = [p for p in (*model.parameters(), *head.parameters()) if p.requires_grad]
    optimiser = torch.optim.AdamW(weights, lr=lr, weight_decay=0.02, betas=(0.9, 0.98))
    state_file = folder / "segmenter.pt"
    start = 0
    if state_file.exists():
        state = torch.load(state_file)
        model.load_state_dict(state["model"])
        head.load_state_dict(state["head"])
        optimiser.load_state_dict(state["optimiser"])
        start = state["step"]
    batches = Batches(seed + start, FIRST_SEED["train"] + 7919 * (start + 1), 4, leaves_share)
    average, began = 0.0, time.monotonic()
    for step in range(start, steps):
        for group in optimiser.param_groups:
            group["lr"] = lr * min(1.0, (step + 1) / 150) * 0.5 * (1 + math.cos(math.pi * step / steps)) + 1e-6
        loss, iou = loss_of(model, head, batches.draw())
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        average += (float(iou) - average) * max(0.01, 1 / (step - start + 1))
        if (step + 1) % 50 == 0:
            print(
                f"step {step + 1}/{steps} iou {average:.3f} loss {loss.item():.3f} {time.monotonic() - began:.0f} s",
                flush=True,
            )
        if (step + 1) % 300 == 0 or step + 1 == steps:
            state = {
                "model": model.state_dict(),
                "head": head.state_dict(),
                "optimiser": optimiser.state_dict(),
                "step": step + 1,
            }
            torch.save(state, state_file.with_suffix(".part"))
            state_file.with_suffix(".part").rename(state_file)


def main() -> None:
    """The command line of this stage."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="where checkpoints go")
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--leaves", type=float, default=0.25, help="share of dead-leaves images")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.folder.mkdir(parents=True, exist_ok=True)
    train(args.folder, args.steps, args.lr, args.leaves, args.seed)


if __name__ == "__main__":
    main()
