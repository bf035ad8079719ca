"""What happens between ground and file: light, cloud shadow, haze, lens, sensor, compression."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from t2s_core.bundled.build.fills import Pixels


def weather(rng: np.random.Generator, ground: Pixels) -> NDArray[np.uint8]:
    """The picture (height, width, 3) of a ground (the same, float32), which is spent."""
    ground *= rng.uniform(0.65, 1.2) * rng.uniform(0.9, 1.1, 3).astype(np.float32)
    if rng.random() < 0.2:
        ground *= _cloud_shadow(rng, *ground.shape[:2])[:, :, None]
    if rng.random() < 0.35:
        haze = rng.uniform(60, 230) + rng.normal(0, 12, 3)
        ground += (haze.astype(np.float32) - ground) * np.float32(rng.uniform(0, 0.45))
    if rng.random() < 0.06:
        ground[:] = ground.mean(axis=2, keepdims=True)
    picture = Image.fromarray(np.clip(ground, 0, 255).astype(np.uint8))
    if rng.random() < 0.2:  # enlarged from a coarser file
        size = picture.size
        coarse = int(size[0] / rng.uniform(1.1, 2.6)), int(size[1] / rng.uniform(1.1, 2.6))
        picture = picture.resize(coarse, Image.Resampling.BOX).resize(size, Image.Resampling.BICUBIC)
    elif rng.random() < 0.75:
        picture = picture.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.2, 1.3))))
    pixels = np.array(picture)
    if rng.random() < 0.7:
        grain = rng.standard_normal((*pixels.shape[:2], 3 if rng.random() < 0.5 else 1), dtype=np.float32)
        noisy = pixels + grain * np.float32(rng.uniform(0.5, 9))
        pixels = np.clip(noisy, 0, 255).astype(np.uint8)
    return jpeg(rng, pixels) if rng.random() < 0.4 else pixels


def jpeg(rng: np.random.Generator, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The picture as a lossy file gives it back."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=int(rng.integers(25, 95)))
    return np.array(Image.open(file))


def _cloud_shadow(rng: np.random.Generator, height: int, width: int) -> Pixels:
    """(height, width): what share of the light arrives."""
    coarse = Image.fromarray(rng.random((5, 5), dtype=np.float32))
    cloud = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))
    soft = np.clip((cloud - rng.uniform(0.3, 0.7)) * rng.uniform(3, 12) + 0.5, 0, 1)
    return (1 - rng.uniform(0.2, 0.6) * soft).astype(np.float32)
