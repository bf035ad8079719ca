"""Instance prompts and the pixel frames they live in."""

from dataclasses import dataclass
from typing import NamedTuple, Self, TypeAlias

Box: TypeAlias = tuple[float, float, float, float]
Point: TypeAlias = tuple[float, float]


class Frame(NamedTuple):
    """A pixel frame: the origin is the upper left corner of the upper left pixel, x to the right, y down."""

    width: int
    """pixels"""
    height: int
    """pixels"""


@dataclass(frozen=True, slots=True)
class InstancePrompt:
    """One object, as the prompter points at it. Which frame it is in, the variable's name says (`*_model_px`, `*_tile_px`)."""

    box: Box
    """XYXY, half-open: x0 < x1 and y0 < y1, within the frame."""
    points: tuple[Point, ...]
    """(x, y) on the object, within the frame; all of them positive."""

    def rescaled(self, source: Frame, target: Frame) -> Self:
        """The same object in another frame that shows the same ground (squashed, not cropped)."""
        sx, sy = target.width / source.width, target.height / source.height
        x0, y0, x1, y1 = self.box
        return type(self)(
            box=(x0 * sx, y0 * sy, x1 * sx, y1 * sy),
            points=tuple((x * sx, y * sy) for x, y in self.points),
        )
