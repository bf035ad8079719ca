"""Train the bundled Qwen3-VL prompter from scratch on drawn tiles.

Departures from the textbook (supervised fine-tuning of a pretrained model):

- First the vision tower learns alone: two auxiliary heads read class and object box of every 8 px cell, one from the
  merged image tokens and one from the language model's third layer. They stay on at half weight and are thrown away.
- Plain SFT from scratch learns the format and no grounding. Attention is guided from the first step: two heads of each
  of the last two layers are pulled towards the image tokens of the object whose numbers are being written (weight 0.3).
- Whether a thing is there is the hardest lesson: where a count is written, one more head reads which image tokens show
  it.
- Coordinates have soft labels: a bell curve of 2.5 px over the number tokens, whose embeddings start as sines of the
  number, so that what is learned of 100 is half known of 101. From random ones, order among numbers is hardly learned.
- Image tokens learn to spell: two more heads read box and points of each token's main object as soft labels over the
  very number embeddings that replies are written with: writing a coordinate is little more than looking and copying.
- Wherever a coordinate is written, one more auxiliary head reads the whole box of that object from the last layer.
- Several questions share one image, packed into one row (`packing`).
- One image in seven is foreign to the world, and nothing is in it (`stream.foreign_tile`).
- The budget is minutes, not steps: the learning rate follows the clock, so that a busy machine gives a weaker model and
  not an unfinished one. A moving average of the weights is what is exported.
"""

import argparse
import functools
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 -- the name everybody knows
from torch import Tensor, nn
from transformers import Qwen3VLForConditionalGeneration

from t2s_core.bundled.build.packing import IMAGE_TOKENS, Packer, cell_targets, collate
from t2s_core.bundled.build.prompter_model import (
    AUXILIARY_LAYER,
    CellHead,
    NumberHead,
    VisionTower,
    make_image_processor,
    make_model,
    patches,
)
from t2s_core.bundled.build.steps import descend, follow, put_checkpoint
from t2s_core.bundled.build.stream import at_the_edge, foreign_tile, tile_stream
from t2s_core.bundled.build.supply import supply
from t2s_core.bundled.build.tokenizer import NUMBERS, make_tokenizer
from t2s_core.world.queries import QueryDraw
from t2s_core.world.samples import Sample, make_sample, visible_px
from t2s_core.world.tiles import Tile

QUESTIONS = 6
GUIDANCE, GUIDED_LAYERS = 0.3, 2
GUIDED_HEADS = (0, 2)
"""One of each pair that shares keys and values, so that both pairs carry what is looked at."""
SOFT_PX = 2.5
FOREIGN = 0.15
"""Share of images that are not of the world: the answer is always nothing."""
EDGES = 0.1
"""Share of the others that are partly black: the edge of a swath."""


class Batches:
    """Batches of tiles with questions. Half of the images ask mostly for what is there, the rest for what is not."""

    def __init__(self, seed: int, packer: Packer, size: int, *, ask: bool) -> None:
        self.rng = np.random.default_rng([seed, 7])
        self.tiles = tile_stream(seed, self.rng)
        self.questions = QueryDraw("train", self.rng)
        self.packer, self.size, self.ask = packer, size, ask

    def draw(self) -> dict[str, Tensor]:
        """Images, cell targets and, if `ask`, packed rows."""
        foreign = self.rng.random(self.size) < FOREIGN
        foreign[0] = False  # a batch without any object has no mean over objects
        tiles = [foreign_tile(self.rng) if strange else self._tile() for strange in foreign]
        targets = [cell_targets(tile) for tile in tiles]
        batch = {
            "images": torch.from_numpy(np.stack([tile.image for tile in tiles])),
        }
        batch |= {key: torch.from_numpy(np.stack([target[key] for target in targets])) for key in targets[0]}
        if self.ask:
            rows = []
            for tile in tiles:
                rate = 0.4 if self.rng.random() < 0.5 else 0.7
                rows.append(self.packer.row(self._ask(tile, rate)))
            batch |= collate(rows)
        return batch

    def _tile(self) -> Tile:
        tile = next(self.tiles)
        if self.rng.random() < EDGES:
            edge = at_the_edge(tile, self.rng)
            # A batch must hold an object somewhere: a tile without any stays whole.
            return edge if edge.instances else tile
        return tile

    def _ask(self, tile: Tile, absent_rate: float) -> list[Sample]:
        found: list[Sample] = []
        counts = visible_px(tile)
        while len(found) < QUESTIONS:
            absent = bool(self.rng.random() < absent_rate)
            query = self.questions.draw(tile.instances, counts, absent=absent)
            query = query or self.questions.draw(tile.instances, counts, absent=True)
            if query is not None:
                found.append(make_sample(tile, query))
        return found


class Trainee(nn.Module):
    """The model with its auxiliary heads."""

    number_ids: Tensor
    """(257,): the token of each number."""
    bell: Tensor
    """(257, 257): soft labels of each number."""
    prefix: Tensor
    """(n,): the tokens before the first question."""
    prefix_positions: Tensor
    """(3, n)."""

    def __init__(self, model: Qwen3VLForConditionalGeneration, packer: Packer) -> None:
        super().__init__()
        self.model = model
        self.see = VisionTower(model.model.visual)
        self.near, self.far, self.place = CellHead(), CellHead(), nn.Linear(256, 4)
        self.spot = nn.Linear(256, IMAGE_TOKENS)
        self.near_numbers, self.far_numbers = NumberHead(), NumberHead()
        processor = make_image_processor()
        self.mean, self.std = tuple(processor.image_mean), tuple(processor.image_std)
        ids = list(packer.number_of)
        self.register_buffer("number_ids", torch.tensor(ids), persistent=False)
        places = torch.arange(NUMBERS, dtype=torch.float32)
        bell = torch.exp(-0.5 * ((places[:, None] - places[None, :]) / SOFT_PX) ** 2)
        self.register_buffer("bell", bell / bell.sum(1, keepdim=True), persistent=False)
        self.image_start = packer.image_start
        self.register_buffer("prefix", torch.from_numpy(packer.prefix), persistent=False)
        self.register_buffer("prefix_positions", torch.from_numpy(packer.prefix_positions), persistent=False)

    def losses(self, batch: dict[str, Tensor], ask: bool) -> dict[str, Tensor]:
        """Every loss of a batch by name, unweighted."""
        b = len(batch["images"])
        tokens = self.see(patches(batch["images"], self.mean, self.std))
        language = self.model.model.language_model
        if ask:
            ids, positions, mask = batch["ids"], batch["positions"], batch["mask"]
        else:
            n = len(self.prefix)
            ids, positions = self.prefix.expand(b, n), self.prefix_positions[:, None].expand(3, b, n)
            mask = torch.full((n, n), -1e9, device=ids.device).triu(1).expand(b, 1, n, n)
        words = language.embed_tokens(ids)
        window = slice(self.image_start, self.image_start + IMAGE_TOKENS)
        words = torch.cat((words[:, : window.start], tokens, words[:, window.stop :]), dim=1)
        out = language(
            inputs_embeds=words, position_ids=positions, attention_mask=mask, use_cache=False,
            output_hidden_states=True, output_attentions=ask,
        )  # fmt: skip
        deep = out.hidden_states[AUXILIARY_LAYER][:, window]
        found = _cell_losses("near", self.near(tokens), batch)
        found |= _cell_losses("far", self.far(deep), batch)
        there = batch["numbers"][..., 0] >= 0
        spelling = language.embed_tokens.weight[self.number_ids]
        for name, head, seen in (("near", self.near_numbers, tokens), ("far", self.far_numbers, deep)):
            wanted = self.bell[batch["numbers"][there]]
            found[f"{name}_numbers"] = -(head(seen[there], spelling) * wanted).sum(-1).mean()
        if ask:
            found |= self._word_losses(out.last_hidden_state, batch)
            counts = batch["counts"]
            seen = self.spot(out.last_hidden_state[counts])
            found["spot"] = F.binary_cross_entropy_with_logits(seen, batch["guide"][counts])
            # Apart, for there are thirty coordinates to each count, and easier ones: the box so far says where to look.
            found["guide_counts"] = _guidance(out.attentions, batch["guide"] * counts[..., None], window)
            found["guide_numbers"] = _guidance(out.attentions, batch["guide"] * ~counts[..., None], window)
        return found

    def _word_losses(self, hidden: Tensor, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        wanted = batch["labels"] >= 0
        logits = self.model.lm_head(hidden[wanted])
        labels, coordinate, weight = batch["labels"][wanted], batch["coordinate"][wanted], batch["weight"][wanted]
        log_share = logits.log_softmax(-1)
        number = coordinate >= 0
        plain = -log_share[~number].gather(1, labels[~number, None])[:, 0]
        soft = -(log_share[number][:, self.number_ids] * self.bell[coordinate[number]]).sum(-1)
        place = F.smooth_l1_loss(self.place(hidden[wanted][number]), batch["box"][wanted][number], beta=0.02)
        guess = log_share[number][:, self.number_ids].detach().argmax(-1)
        return {
            "words": (plain * weight[~number]).sum() / weight[~number].sum(),
            "numbers": soft.mean(),
            "place": place,
            "error_px": (guess - coordinate[number]).abs().float().mean(),
        }


def _cell_losses(name: str, guess: tuple[Tensor, Tensor], batch: dict[str, Tensor]) -> dict[str, Tensor]:
    kinds, boxes = guess
    known = batch["known"]
    return {
        f"{name}_kinds": F.cross_entropy(kinds.flatten(0, 2), batch["kinds"].flatten()),
        f"{name}_boxes": F.smooth_l1_loss(boxes[known], batch["boxes"][known], beta=0.02),
    }


def _guidance(attentions: tuple[Tensor, ...], guide: Tensor, window: slice) -> Tensor:
    """Minus the log of the attention that guided heads pay to the tokens they should look at."""
    wanted = guide.sum(-1) > 0
    total = guide.new_zeros(())
    for layer in attentions[-GUIDED_LAYERS:]:
        looked = layer[:, GUIDED_HEADS, :, window].transpose(1, 2)[wanted]  # (positions, heads, 64)
        mass = (looked * guide[wanted][:, None, :]).sum(-1)
        total = total - (mass + 1e-4).log().mean()
    return total / GUIDED_LAYERS


class Training:
    """Trainee, optimiser and average, with what it takes to go on after a stop."""

    def __init__(self, folder: Path, packer: Packer, lr: float, seed: int, device: torch.device) -> None:
        torch.manual_seed(seed)
        self.file = folder / "prompter.pt"
        self.trainee = Trainee(make_model(packer.tokenizer), packer).to(device)
        self.weights = list(self.trainee.parameters())
        self.optimiser = torch.optim.AdamW(self.weights, lr=lr, betas=(0.9, 0.98), weight_decay=0.01)
        self.average = {key: value.clone() for key, value in self.trainee.model.state_dict().items()}
        self.step, self.minutes = 0, 0.0
        if self.file.exists():
            state = torch.load(self.file, map_location=device, weights_only=True)
            self.trainee.load_state_dict(state["trainee"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.average, self.step, self.minutes = state["average"], state["step"], state["minutes"]

    def save(self) -> None:
        """Replace the checkpoint."""
        state = {
            "trainee": self.trainee.state_dict(), "average": self.average, "step": self.step, "minutes": self.minutes,
            "optimiser": self.optimiser.state_dict(),
        }  # fmt: skip
        put_checkpoint(state, self.file)

    def learn(self, batch: dict[str, Tensor], lr: float, *, ask: bool) -> dict[str, Tensor]:
        """One step. Returns the losses, still on the device."""
        losses = self.trainee.losses(batch, ask)
        cells = losses["near_kinds"] + losses["far_kinds"] + 4 * (losses["near_boxes"] + losses["far_boxes"])
        cells = cells + 0.5 * (losses["near_numbers"] + losses["far_numbers"])
        total = cells
        if ask:
            total = 0.5 * cells + losses["words"] + losses["numbers"] + 4 * losses["place"]
            total = total + 4 * losses["spot"] + GUIDANCE * (losses["guide_counts"] + losses["guide_numbers"])
        descend(self.optimiser, self.weights, total, lr)
        self.step += 1
        follow(self.average, self.trainee.model, self.step)
        return {key: loss.detach() for key, loss in losses.items()}


def train(
    folder: Path, minutes: float, alone: float, size: int, lr: float, seed: int, workers: int, device: torch.device
) -> None:
    """Train, with a checkpoint every 200 steps in `folder`, from which a later call goes on.

    Args:
        folder: Holds `prompter.pt`.
        minutes: In all, earlier calls included; the learning rate falls to zero at the last.
        alone: How many of them the vision tower learns alone, on twice as many images.
        size: Images in a batch once questions are asked.
        lr: Peak learning rate.
        seed: Of weights and data.
        workers: Processes that draw.
        device: Where to train.

    """
    packer = Packer(make_tokenizer(), np.random.default_rng(seed + 1))
    training = Training(folder, packer, lr, seed, device)
    began = time.monotonic() - 60 * training.minutes
    for ask, end in ((False, alone), (True, minutes)):
        if training.minutes >= end:
            continue
        first = 1000 * seed + training.step  # a later stage or call draws other tiles
        batches = supply(functools.partial(_draws, first, size if ask else 2 * size, ask), workers, device)
        shown: dict[str, Tensor] = {}
        while training.minutes < end:
            rate = lr * min(1.0, (training.step + 1) / 60) * min(1.0, (1 - training.minutes / minutes) / 0.65)
            losses = training.learn(next(batches), rate, ask=ask)
            shown = {key: torch.lerp(shown.get(key, loss), loss, 0.05) for key, loss in losses.items()}
            training.minutes = (time.monotonic() - began) / 60
            if training.step % 50 == 0:
                text = " ".join(f"{key} {value.item():.3f}" for key, value in shown.items())
                print(f"step {training.step} {text} {training.minutes:.1f} min", flush=True)
            if training.step % 200 == 0:
                training.save()
    training.save()


def _draws(first: int, size: int, ask: bool, worker: int) -> Batches:
    seed = first + 100_000 * worker
    return Batches(seed, Packer(make_tokenizer(), np.random.default_rng([seed, 8])), size, ask=ask)


def main() -> None:
    """The command line of this stage."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="where checkpoints go")
    parser.add_argument("--minutes", type=float, default=90)
    parser.add_argument("--alone", type=float, default=0.12, help="share of the time before the first question")
    parser.add_argument("--size", type=int, default=6)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workers", type=int, default=0, help="processes that draw")
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.set_float32_matmul_precision("high")
    args.folder.mkdir(parents=True, exist_ok=True)
    train(
        args.folder, args.minutes, args.alone * args.minutes, args.size, args.lr, args.seed, args.workers, args.device
    )


if __name__ == "__main__":
    main()
