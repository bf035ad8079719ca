"""Pixels of image files that nobody has checked: what cannot be read is a `BadExample`, never a crash of the run."""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from t2s_core.ports import Image
from t2s_core.training.datasets.files import check_machine
from t2s_core.training.examples import BadExample

# No format that starts another program (EPS) or that datasets of this kind never use.
_FORMATS = ("BMP", "GIF", "JPEG", "JPEG2000", "PNG", "TIFF", "WEBP")
_EIGHT_BIT = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"})
_TIFF_BITS_PER_SAMPLE = 258

_BROKEN_FILE = (
    PillowImage.DecompressionBombError,
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    OverflowError,
    struct.error,
)
"""What Pillow's readers raise on damaged files."""


def read_rgb(path: Path) -> Image:
    """(height, width, 3) uint8, RGB. Grey is repeated, palettes are looked up, alpha is dropped.

    Raises:
        BadExample: The file is missing, damaged, larger than Pillow allows, or has more than 8 bits a channel: there
            is no one right way to bring those to 8 bits.
        MachineFault: The disk or the mount failed.

    """
    return _read(path, _rgb)


def read_plane(path: Path) -> NDArray[Any]:
    """(height, width): the numbers of the first channel as they are stored; of a palette, the indices.

    Raises as `read_rgb`; grey images may have any depth.
    """
    return _read(path, _plane)


def _read(path: Path, pick: Callable[[PillowImage.Image], NDArray[Any]]) -> NDArray[Any]:
    try:
        with PillowImage.open(path, formats=_FORMATS) as image:
            return pick(image)
    except _BROKEN_FILE as problem:
        check_machine(path, problem)
        raise BadExample(f"{path.name} cannot be read: {problem}") from problem


def _rgb(image: PillowImage.Image) -> NDArray[Any]:
    if image.mode not in _EIGHT_BIT or _deep(image):
        raise BadExample(f"the image has mode {image.mode} and more than 8 bits a channel; convert it to 8 bits")
    return np.array(image.convert("RGB"), np.uint8)


def _plane(image: PillowImage.Image) -> NDArray[Any]:
    if len(image.getbands()) == 1:
        return np.array(image)
    if _deep(image):
        # Pillow reads these with their upper bytes alone, where a mask of ones is empty.
        raise BadExample("the mask has several channels of more than 8 bits; save it as one channel")
    return np.array(image.getchannel(0))


def _deep(image: PillowImage.Image) -> bool:
    """Whether Pillow would silently drop the lower byte of every channel."""
    tags = getattr(image, "tag_v2", None)
    if tags is not None and any(bits > 8 for bits in tags.get(_TIFF_BITS_PER_SAMPLE, ())):  # noqa: PLR2004 -- a byte
        return True
    return any(";16" in str(tile.args) for tile in getattr(image, "tile", ()))
