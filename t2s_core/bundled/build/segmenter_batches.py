"""What the bundled segmenter learns from: images with prompts and masks, of the drawn world and of dead leaves."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from t2s_core.bundled.build.leaves import draw_leaves
from t2s_core.bundled.build.segmenter_model import MASK_PX, SIDE_PX
from t2s_core.bundled.build.stream import tile_stream
from t2s_core.bundled.build.weather import weather
from t2s_core.world.tiles import bounding_box

PROMPTS = 8
"""Prompts per image; drawn again where an image has fewer objects."""
MIN_PX = 60
"""Pixels below which something is no object, as in the world."""
CELL_PX = SIDE_PX // MASK_PX


class SegmenterBatches:
    """Batches of images with prompts; `leaves_share` of the images are dead leaves."""

    def __init__(self, seed: int, size: int, leaves_share: float) -> None:
        self.rng = np.random.default_rng([seed, 5])
        self.tiles = tile_stream(seed, self.rng)
        self.size = size
        self.leaves_share = leaves_share

    def draw(self) -> dict[str, Tensor]:
        """A batch.

        Returns:
            images: (b, 256, 256, 3) bytes.
            kinds: (b, 64, 64), class of each 4 px cell; -100 on dead leaves.
            boxes: (b, prompts, 4), XYXY px.
            points: (b, prompts, 2, 2), x and y px.
            masks: (b, prompts, MASK_PX, MASK_PX) bytes, pixels of the object in each cell.

        """
        rows = [self._one() for _ in range(self.size)]
        return {key: torch.from_numpy(np.stack([row[key] for row in rows])) for key in rows[0]}

    def _one(self) -> dict[str, NDArray[Any]]:
        image, kinds, masks = self._picture()
        # Small things are rare and hard: a ship of 150 px is drawn three times as often as a field of 15,000.
        rarity = np.asarray([mask.sum() for mask in masks], np.float64) ** -0.25
        order = self.rng.choice(len(masks), len(masks), replace=False, p=rarity / rarity.sum())
        chosen = np.stack([self._part(masks[order[i % len(masks)]]) for i in range(PROMPTS)])
        image, kinds, chosen = self._turned(image, kinds, chosen)
        prompts = [self._prompt(mask) for mask in chosen]
        cells = chosen.reshape(PROMPTS, MASK_PX, CELL_PX, MASK_PX, CELL_PX).sum(axis=(2, 4), dtype=np.uint8)
        return {
            "images": image, "kinds": kinds, "masks": cells,
            "boxes": np.stack([box for box, _ in prompts]), "points": np.stack([points for _, points in prompts]),
        }  # fmt: skip

    def _picture(self) -> tuple[NDArray[np.uint8], NDArray[np.int64], list[NDArray[np.bool_]]]:
        while True:
            if self.rng.random() < self.leaves_share:
                image, numbers = draw_leaves(self.rng)
                counts = np.bincount(numbers.ravel())
                masks = [numbers == n for n in np.nonzero(counts >= MIN_PX)[0] if n]
                kinds = np.full((64, 64), -100, np.int64)
            else:
                tile = next(self.tiles)
                image, masks = tile.image, [one.mask for one in tile.instances]
                kinds = tile.kinds[2::4, 2::4].astype(np.int64)
                if self.rng.random() < 0.3:  # the world on another day
                    image = weather(self.rng, image.astype(np.float32))
            if masks:
                return image, kinds, masks

    def _part(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """The object, or sometimes one of its pieces where something else cuts it: a box says which is meant."""
        if self.rng.random() < 0.3:
            labels, n = ndimage.label(mask)
            sizes = np.bincount(labels.ravel(), minlength=n + 1)[1:]
            large = np.nonzero(sizes >= MIN_PX)[0]
            if n > 1 and len(large):
                return np.asarray(labels == 1 + self.rng.choice(large), np.bool_)
        return mask

    def _turned(
        self, image: NDArray[np.uint8], kinds: NDArray[np.int64], masks: NDArray[np.bool_]
    ) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.bool_]]:
        """One of the eight turns and flips of a square."""
        times, flip = int(self.rng.integers(4)), bool(self.rng.random() < 0.5)
        image, kinds, masks = np.rot90(image, times), np.rot90(kinds, times), np.rot90(masks, times, (1, 2))
        if flip:
            image, kinds, masks = image[:, ::-1], kinds[:, ::-1], masks[:, :, ::-1]
        return np.ascontiguousarray(image), np.ascontiguousarray(kinds), np.ascontiguousarray(masks)

    def _prompt(self, mask: NDArray[np.bool_]) -> tuple[NDArray[Any], NDArray[Any]]:
        box = np.asarray(bounding_box(mask), np.float32)
        ys, xs = np.nonzero(mask)
        at = self.rng.integers(len(xs), size=2)
        points = np.stack((xs[at], ys[at]), axis=1) + 0.5
        sloppy = self.rng.random()
        if sloppy < 0.4:  # a person's prompt
            spread, off = np.full(4, 0.7), 0.5
        else:  # a prompter's, and sometimes it is far off
            spread, off = 1.0 + 0.05 * np.tile(box[2:] - box[:2], 2), 1.5
            spread = 2.0 * spread if sloppy > 0.85 else spread
        box = np.clip(box + self.rng.normal(0, 1, 4) * spread, 0, SIDE_PX)
        return box.astype(np.float32), (points + self.rng.normal(0, off, (2, 2))).astype(np.float32)
