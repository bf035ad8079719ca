"""Training rows for the prompter: one image, several questions, packed so that the image is read once.

A row is the prefix (system text and image tokens) followed by branches, one per question. Each branch sees the prefix
and itself, and its positions go on from the prefix: to the model it is as if it were asked alone.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from t2s_core.bundled.build.prompter_model import GRID
from t2s_core.bundled.build.tokenizer import COUNT, NUMBERS, SYSTEM, reply_text
from t2s_core.world.samples import Sample
from t2s_core.world.tiles import Tile

IMAGE_TOKENS = GRID * GRID
MAX_INSTANCES = 6
"""Of more objects, the largest are taught: a reply must end before `max_new_tokens`."""


@dataclass(slots=True)
class Row:
    """One image with its branches, as arrays of the row's length L."""

    ids: NDArray[np.int64]
    positions: NDArray[np.int64]
    """(3, L): time, row, column."""
    branch: NDArray[np.int64]
    """0 in the prefix, k in the k-th branch."""
    labels: NDArray[np.int64]
    """The token that each position should predict, or -100."""
    coordinate: NDArray[np.int64]
    """The number that each position should predict where that is a coordinate, else -1."""
    weight: NDArray[np.float32]
    """Of each position in the loss."""
    guide: NDArray[np.float32]
    """(L, 64): the image tokens to look at; all 0 where that is left open."""
    counts: NDArray[np.bool_]
    """(L,): True where the position should say how many there are."""
    box: NDArray[np.float32]
    """(L, 4): box, in image widths, of the object whose coordinate the position should predict; else all 0."""


class Packer:
    """Turns tiles and questions into rows."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, rng: np.random.Generator) -> None:
        self.tokenizer = tokenizer
        self.rng = rng
        self.number_of = {int(tokenizer.convert_tokens_to_ids(str(n))): n for n in range(NUMBERS)}  # type: ignore[arg-type]
        head = self._ids(f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n<|vision_start|>")
        image = int(tokenizer.convert_tokens_to_ids("<|image_pad|>"))  # type: ignore[arg-type]
        self.image_start = len(head)
        self.prefix = np.asarray([*head, *[image] * IMAGE_TOKENS])
        cells = np.arange(IMAGE_TOKENS)
        flat = np.tile(np.arange(len(head)), (3, 1))
        seen = len(head) + np.stack((0 * cells, cells // GRID, cells % GRID))
        self.prefix_positions = np.concatenate((flat, seen), axis=1)
        self.next_position = len(head) + GRID
        self.count_id = self._ids(COUNT)[0]
        self.end_of_image = self._ids("<|vision_end|>")
        self.ask = self._ids("<|im_end|>\n<|im_start|>assistant\n")
        self.end = self._ids("<|im_end|>")
        self.plain = np.asarray([i for i in range(len(tokenizer)) if i not in tokenizer.all_special_ids])

    def _ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text)["input_ids"])

    def _question(self, text: str) -> list[int]:
        if self.rng.random() < 0.3:
            text = text.rstrip("?") if self.rng.random() < 0.5 else text.capitalize()
        ids = self._ids(text)
        if self.rng.random() < 0.25:
            # Words never seen before come as odd pieces: teach that a stray piece changes nothing.
            for _ in range(int(self.rng.integers(1, 3))):
                ids.insert(int(self.rng.integers(len(ids) + 1)), int(self.rng.choice(self.plain)))
        return ids

    def row(self, samples: list[Sample]) -> Row:
        """Pack the questions of one tile."""
        parts = [self._branch(sample, number) for number, sample in enumerate(samples, start=1)]
        n = len(self.prefix)
        blank = Row(
            self.prefix, self.prefix_positions, np.zeros(n, np.int64), np.full(n, -100), np.full(n, -1),
            np.zeros(n, np.float32), np.zeros((n, IMAGE_TOKENS), np.float32), np.zeros(n, np.bool_),
            np.zeros((n, 4), np.float32),
        )  # fmt: skip
        every = [blank, *parts]
        return Row(
            np.concatenate([p.ids for p in every]), np.concatenate([p.positions for p in every], axis=1),
            np.concatenate([p.branch for p in every]), np.concatenate([p.labels for p in every]),
            np.concatenate([p.coordinate for p in every]), np.concatenate([p.weight for p in every]),
            np.concatenate([p.guide for p in every]), np.concatenate([p.counts for p in every]),
            np.concatenate([p.box for p in every]),
        )  # fmt: skip

    def _branch(self, sample: Sample, number: int) -> Row:
        meant = sorted(sample.instances, key=lambda one: -int(one.mask.sum()))[:MAX_INSTANCES]
        meant = [one for one in sample.instances if any(one is kept for kept in meant)]
        asked = self.end_of_image + self._question(sample.query.text) + self.ask
        reply = self._ids(reply_text(sample.query.name, meant)) + self.end
        ids = np.asarray(asked + reply)
        n, first = len(ids), len(asked) - 1
        labels, coordinate = np.full(n, -100), np.full(n, -1)
        weight, guide = np.zeros(n, np.float32), np.zeros((n, IMAGE_TOKENS), np.float32)
        counts, box = np.zeros(n, np.bool_), np.zeros((n, 4), np.float32)
        labels[first:-1] = reply
        weight[first:-1] = 1.0
        cells = [self._cells(one.mask) for one in meant]
        counted, numbers = False, 0
        for at in range(first, n - 1):
            token = int(labels[at])
            if not counted:
                weight[at] = 2.0  # what is meant, and whether it is there, is decided here
                if int(ids[at]) == self.count_id:
                    counted, counts[at], weight[at] = True, True, 4.0
                    if cells:
                        guide[at] = np.minimum(1, np.sum(cells, axis=0))
            elif token in self.number_of:
                coordinate[at] = self.number_of[token]
                guide[at] = cells[numbers // 8]  # eight numbers for each object
                box[at] = np.asarray(meant[numbers // 8].box_tile_px, np.float32) / len(sample.mask)
                numbers += 1
        place = np.arange(self.next_position, self.next_position + n)
        return Row(ids, np.tile(place, (3, 1)), np.full(n, number), labels, coordinate, weight, guide, counts, box)

    @staticmethod
    def _cells(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
        """(64,): 1 at image tokens of which the object covers 2 % or more, or the most covered one."""
        share = mask.reshape(GRID, 32, GRID, 32).mean(axis=(1, 3)).ravel()
        cells: NDArray[np.float32] = (share >= min(0.02, float(share.max()))).astype(np.float32)
        return cells


def collate(rows: list[Row]) -> dict[str, Tensor]:
    """Rows padded to one length, with the mask (b, 1, L, L) that keeps branches apart, added to attention scores."""
    length = max(len(row.ids) for row in rows)

    def pad(array: NDArray[np.generic], value: float, axis: int = 0) -> NDArray[np.generic]:
        widths = [(0, 0)] * array.ndim
        widths[axis] = (0, length - array.shape[axis])
        return np.pad(array, widths, constant_values=value)

    branch = torch.from_numpy(np.stack([pad(row.branch, -1) for row in rows]))
    order = torch.arange(length)
    same = (branch[:, :, None] == branch[:, None, :]) | (branch[:, None, :] == 0)
    seen = same & (order[:, None] >= order[None, :])
    return {
        "ids": torch.from_numpy(np.stack([pad(row.ids, 0) for row in rows])),
        "positions": torch.from_numpy(np.stack([pad(row.positions, 0, 1) for row in rows], axis=1)),
        "mask": torch.where(seen, 0.0, -1e9)[:, None],
        "labels": torch.from_numpy(np.stack([pad(row.labels, -100) for row in rows])),
        "coordinate": torch.from_numpy(np.stack([pad(row.coordinate, -1) for row in rows])),
        "weight": torch.from_numpy(np.stack([pad(row.weight, 0) for row in rows])),
        "guide": torch.from_numpy(np.stack([pad(row.guide, 0) for row in rows])),
        "counts": torch.from_numpy(np.stack([pad(row.counts, 0) for row in rows])),
        "box": torch.from_numpy(np.stack([pad(row.box, 0) for row in rows])),
    }


def cell_targets(tile: Tile) -> dict[str, NDArray[np.generic]]:
    """What the auxiliary heads should read, at the middle of each 8 px cell and for each image token.

    Returns:
        kinds: (64, 16), class of each cell.
        boxes: (64, 16, 4), box of the object there, in image widths.
        known: (64, 16), whether there is an object.
        numbers: (64, 8), box and two points of the object that has most cells of an image token; -1 where none has.

    """
    kinds = tile.kinds[4::8, 4::8].astype(np.int64)
    boxes = np.zeros((*kinds.shape, 4), np.float32)
    known = np.zeros(kinds.shape, np.bool_)
    numbers, most = np.full((GRID, GRID, 8), -1), np.zeros((GRID, GRID), np.int64)
    for one in tile.instances:
        here = one.mask[4::8, 4::8]
        boxes[here] = np.asarray(one.box_tile_px, np.float32) / len(tile.kinds)
        known |= here
        cells = here.reshape(GRID, 4, GRID, 4).sum(axis=(1, 3))
        numbers[cells > most] = (*one.box_tile_px, *one.points_tile_px[0], *one.points_tile_px[1])
        most = np.maximum(most, cells)

    def by_token(array: NDArray[np.generic]) -> NDArray[np.generic]:
        split = array.reshape(GRID, 4, GRID, 4, *array.shape[2:])
        return split.swapaxes(1, 2).reshape(IMAGE_TOKENS, 16, *array.shape[2:])

    return {
        "kinds": by_token(kinds), "boxes": by_token(boxes), "known": by_token(known),
        "numbers": numbers.reshape(IMAGE_TOKENS, 8),
    }  # fmt: skip
