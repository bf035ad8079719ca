"""Train the bundled SAM from scratch on drawn tiles and dead leaves.

Departures from the textbook (Kirillov et al. 2023):

- Every prompt is a box with two points, mostly jittered: that is what a prompter writes. No iterations, one mask.
- An auxiliary head reads the class of each 4 px cell from the image embedding of world tiles; it is thrown away.
- The loss is cross-entropy, over the image and near the box, plus dice, on soft masks: each cell holds the share of its
  pixels.
- No relative positions; the absolute ones start as sines, and the random Fourier features of the prompt encoder have
  scale 1 and stay as drawn: `transformers` starts both in ways that only suit loading published weights.
- The budget is minutes, not steps: the learning rate follows the clock, so that a busy machine gives a weaker model and
  not an unfinished one. A moving average of the weights is what is exported.
"""

import argparse
import functools
import math
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 -- the name everybody knows
from torch import Tensor, nn
from transformers import SamModel

from t2s_core.bundled.build.segmenter_batches import CELL_PX, SegmenterBatches
from t2s_core.bundled.build.segmenter_model import EMBEDDING, MASK_PX, make_model
from t2s_core.bundled.build.steps import descend, follow, put_checkpoint
from t2s_core.bundled.build.supply import Batch, supply
from t2s_core.world.classes import Kind

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
AUXILIARY_SIDE = 64


def make_head() -> nn.Module:
    """The auxiliary head: classes (b, kinds, 64, 64) from an image embedding."""
    stride = 4 * AUXILIARY_SIDE // MASK_PX
    return nn.Sequential(
        nn.Conv2d(EMBEDDING, EMBEDDING, 1), nn.GELU(), nn.ConvTranspose2d(EMBEDDING, len(Kind), stride, stride=stride)
    )


def normalise(images: Tensor) -> Tensor:
    """(b, 3, height, width) float32, as `SamImageProcessor` makes it of (b, height, width, 3) bytes."""
    mean, std = (torch.tensor(value, device=images.device) for value in (MEAN, STD))
    return ((images.float() / 255.0 - mean) / std).permute(0, 3, 1, 2).contiguous()


def loss_of(model: SamModel, head: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """The training loss, and the mean IoU on world and on leaves as two numbers (NaN where a batch has none)."""
    embedding = model.vision_encoder(normalise(batch["images"])).last_hidden_state
    out = model(
        image_embeddings=embedding, input_boxes=batch["boxes"], input_points=batch["points"],
        input_labels=torch.ones(batch["points"].shape[:3], dtype=torch.long, device=embedding.device),
        multimask_output=False,
    )  # fmt: skip
    logits = out.pred_masks[:, :, 0].float()
    truth = batch["masks"].float() / CELL_PX**2
    cross = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    near = _near(batch["boxes"])
    cross = 5 * cross.mean((2, 3)) + (cross * near).sum((2, 3)) / near.sum((2, 3)).clamp(min=1)
    share = logits.sigmoid()
    dice = 1 - (2 * (share * truth).sum((2, 3)) + 1) / (share.sum((2, 3)) + truth.sum((2, 3)) + 1)
    hard, real = logits.detach() > 0, truth > 0.5
    iou = (hard & real).sum((2, 3)) / (hard | real).sum((2, 3)).clamp(min=1)
    quality = F.mse_loss(out.iou_scores[:, :, 0].float(), iou)
    world = batch["kinds"][:, 0, 0] >= 0
    guess = head(embedding).float()
    kinds = F.cross_entropy(guess, batch["kinds"], ignore_index=-100, reduction="sum")
    kinds = kinds / (batch["kinds"] >= 0).sum().clamp(min=1)
    return cross.mean() + dice.mean() + quality + 0.3 * kinds, torch.stack((iou[world].mean(), iou[~world].mean()))


def _near(boxes: Tensor) -> Tensor:
    """(b, prompts, side, side): 1 within 8 px of each box: outlines matter as much on small things as on large ones."""
    centres = (torch.arange(MASK_PX, device=boxes.device) + 0.5) * CELL_PX
    x0, y0, x1, y1 = (boxes[..., i, None] for i in range(4))
    across = (centres > x0 - 8) & (centres < x1 + 8)
    down = (centres > y0 - 8) & (centres < y1 + 8)
    return (down[..., :, None] & across[..., None, :]).float()


class Training:
    """Model, head, optimiser and average, with what it takes to go on after a stop."""

    def __init__(self, folder: Path, lr: float, seed: int, device: torch.device) -> None:
        torch.manual_seed(seed)
        self.file = folder / "segmenter.pt"
        self.model: SamModel = nn.Module.to(make_model(), device)  # its own `to` is typed as if it took no device
        self.head = make_head().to(device)
        self.weights = [p for p in (*self.model.parameters(), *self.head.parameters()) if p.requires_grad]
        self.optimiser = torch.optim.AdamW(self.weights, lr=lr, weight_decay=0.02, betas=(0.9, 0.98))
        self.average = {key: value.clone() for key, value in self.model.state_dict().items()}
        self.step, self.minutes = 0, 0.0
        if self.file.exists():
            state = torch.load(self.file, map_location=device, weights_only=True)
            self.model.load_state_dict(state["model"])
            self.head.load_state_dict(state["head"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.average, self.step, self.minutes = state["average"], state["step"], state["minutes"]

    def save(self) -> None:
        """Replace the checkpoint."""
        state: dict[str, Any] = {
            "model": self.model.state_dict(), "head": self.head.state_dict(), "average": self.average,
            "optimiser": self.optimiser.state_dict(), "step": self.step, "minutes": self.minutes,
        }  # fmt: skip
        put_checkpoint(state, self.file)

    def learn(self, batch: Batch, lr: float) -> tuple[Tensor, Tensor]:
        """One step. Returns loss and mean IoUs, still on the device."""
        on_gpu = batch["images"].is_cuda
        with torch.autocast("cuda", torch.bfloat16, enabled=on_gpu):
            loss, iou = loss_of(self.model, self.head, batch)
        descend(self.optimiser, self.weights, loss, lr)
        self.step += 1
        follow(self.average, self.model, self.step)
        return loss.detach(), iou


def train(
    folder: Path,
    minutes: float,
    size: int,
    lr: float,
    leaves_share: float,
    seed: int,
    workers: int,
    device: torch.device,
) -> None:
    """Train, with a checkpoint every 300 steps in `folder`, from which a later call goes on.

    Args:
        folder: Holds `segmenter.pt`.
        minutes: In all, earlier calls included; the learning rate falls to zero at the last.
        size: Images in a batch.
        lr: Peak learning rate.
        leaves_share: Share of images that are dead leaves.
        seed: Of weights and data.
        workers: Processes that draw.
        device: Where to train.

    """
    training = Training(folder, lr, seed, device)
    first = 1000 * seed + training.step  # a later call draws other pictures
    batches = supply(functools.partial(_draws, first, size, leaves_share), workers, device)
    shown = torch.full((2,), math.nan, device=device)
    began = time.monotonic() - 60 * training.minutes
    while training.minutes < minutes:
        rate = lr * min(1.0, (training.step + 1) / 150) * 0.5 * (1 + math.cos(math.pi * training.minutes / minutes))
        loss, iou = training.learn(next(batches), rate + 1e-6)
        shown = torch.where(shown.isnan(), iou, torch.where(iou.isnan(), shown, torch.lerp(shown, iou, 0.01)))
        training.minutes = (time.monotonic() - began) / 60
        if training.step % 50 == 0:
            world, leaves = shown.tolist()
            print(
                f"step {training.step} iou world {world:.3f} leaves {leaves:.3f} loss {loss.item():.3f} "
                f"{training.minutes:.1f} min",
                flush=True,
            )
        if training.step % 300 == 0:
            training.save()
    training.save()


def _draws(first: int, size: int, leaves_share: float, worker: int) -> SegmenterBatches:
    return SegmenterBatches(first + 100_000 * worker, size, leaves_share)


def main() -> None:
    """The command line of this stage."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="where checkpoints go")
    parser.add_argument("--minutes", type=float, default=120)
    parser.add_argument("--size", type=int, default=4)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--leaves", type=float, default=0.5, help="share of dead-leaves images")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workers", type=int, default=0, help="processes that draw")
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.set_float32_matmul_precision("high")
    args.folder.mkdir(parents=True, exist_ok=True)
    train(args.folder, args.minutes, args.size, args.lr, args.leaves, args.seed, args.workers, args.device)


if __name__ == "__main__":
    main()
