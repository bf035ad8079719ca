"""Sets of examples in memory: small pictures with rectangles to find."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from fakes import reply_text

from t2s_core.prompts import InstancePrompt
from t2s_core.training.examples import BadExample, Example

SIDE_PX = 64
"""Of every picture here: what the fakes' logits have too, so that masks are exact."""


@dataclass(frozen=True)
class ListedExamples:
    """Examples from a list; a text in it is a bad one."""

    listed: Sequence[Example | str]
    name: str = "listed/test"
    fingerprint: str = "0123456789abcdef"

    def __len__(self) -> int:
        return len(self.listed)

    def __getitem__(self, index: int) -> Example:
        found = self.listed[index]
        if isinstance(found, str):
            raise BadExample(found)
        return found


def picture(seed: int, side_px: int = SIDE_PX) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (side_px, side_px, 3), dtype=np.uint8)


def rectangle(x0: int, y0: int, x1: int, y1: int, side_px: int = SIDE_PX) -> np.ndarray:
    mask = np.zeros((side_px, side_px), np.bool_)
    mask[y0:y1, x0:x1] = True
    return mask


NOTHING = rectangle(0, 0, 0, 0)


def example(
    example_id: str, image_id: str, query: str, mask: np.ndarray, *, category: str = "", valid: np.ndarray | None = None
) -> Example:
    return Example(example_id, image_id, picture(len(image_id)), query, category, mask, valid)


def says(*boxes: tuple[int, int, int, int], thought: str = "I see.") -> str:
    """A reply with these boxes, in the pixels of a 64 px frame, each with two points in it."""
    return reply_text([_instance(*box) for box in boxes], thought)


def _instance(x0: int, y0: int, x1: int, y1: int) -> InstancePrompt:
    return InstancePrompt((x0, y0, x1, y1), ((x0 + 1, y0 + 1), (x1 - 1, y1 - 1)))


SAMPLES = [
    example("0", "harbour", "the lake", rectangle(0, 0, 32, 32), category="water"),
    example("1", "harbour", "the forest", NOTHING, category="green"),
    example("2", "harbour", "the quay", rectangle(40, 40, 60, 60), category="built"),
    example("3", "plain", "the lake", rectangle(10, 10, 30, 30), category="water"),
    example("4", "plain", "the forest", NOTHING, category="green"),
    example("5", "hill", "the quay", rectangle(0, 0, 10, 10), category="built"),
]
REPLIES: Mapping[tuple[str, str], str] = {
    ("harbour", "the lake"): says((0, 0, 32, 16)),  # half of it
    ("harbour", "the forest"): says(),
    ("harbour", "the quay"): says((40, 40, 60, 60)),
    ("plain", "the lake"): says((10, 10, 20, 30), (20, 10, 30, 30)),
    ("plain", "the forest"): says((0, 0, 8, 8)),
    ("hill", "the quay"): "I would rather not.",
}


def reply_of(key: str, query: str) -> str:
    """A script for `fakes.ScriptedPrompter`."""
    return REPLIES[key, query]


def with_valid(one: Example, valid: np.ndarray) -> Example:
    return replace(one, valid=valid)
