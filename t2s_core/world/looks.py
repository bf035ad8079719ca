"""The world on other days: what a prompter that was taught on clear ones must get used to."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Look = Literal["clear", "haze"]

_HAZE_RGB = (205, 210, 215)
_HAZE_TENTHS = 4


def seen(image: NDArray[np.uint8], look: Look) -> NDArray[np.uint8]:
    """The image (height, width, 3) under this look: haze turns four tenths of every pixel into its own pale grey."""
    if look == "clear":
        return image
    mixed = image.astype(np.uint16) * (10 - _HAZE_TENTHS) + np.asarray(_HAZE_RGB, np.uint16) * _HAZE_TENTHS
    return (mixed // 10).astype(np.uint8)
