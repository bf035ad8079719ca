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
    """One object, as the prompter points at it. Its variable's name says which frame: `*_model_px`, `*_tile_px`."""

    box: Box
    """XYXY, half-open: x0 < x1 and y0 < y1, within the frame."""
    points: tuple[Point, ...]
    """(x, y) on the object, within the frame; all of them positive."""
    negative_points: tuple[Point, ...] = ()
    """(x, y) on what is not the object, within the frame. No reply has any; ablations make them."""
    boxed: bool = True
    """False: the segmenter is shown the points alone. The box still says where the object is."""

    def rescaled(self, source: Frame, target: Frame) -> Self:
        """The same object in another frame that shows the same ground (squashed, not cropped)."""

        # Multiplied first, divided after: both roundings are monotonic, so what is within `source` is within `target`.
        def along_x(x: float) -> float:
            return x * target.width / source.width

        def along_y(y: float) -> float:
            return y * target.height / source.height

        x0, y0, x1, y1 = self.box
        return type(self)(
            box=(along_x(x0), along_y(y0), along_x(x1), along_y(y1)),
            points=tuple((along_x(x), along_y(y)) for x, y in self.points),
            negative_points=tuple((along_x(x), along_y(y)) for x, y in self.negative_points),
            boxed=self.boxed,
        )
