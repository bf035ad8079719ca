"""Dead leaves: overlapping random shapes with random fills, to teach a segmenter edges and wholes instead of classes."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Pixels = NDArray[np.int16]


def draw_leaves(rng: np.random.Generator, side_px: int = 256) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """An image (side, side, 3) and the map (side, side) of which shape is visible where; 0 is the background."""
    canvas = Image.fromarray(_fill(rng, side_px))
    numbers = np.zeros((side_px, side_px), np.int32)
    for number in range(1, int(rng.integers(7, 15)) + 1):
        stencil = _shape(rng, side_px)
        if rng.random() < 0.4:
            drop = int(rng.integers(2, 8))
            canvas.paste((20, 22, 26), (drop, drop), stencil.point([v * 9 // 20 for v in range(256)]))
        canvas.paste(Image.fromarray(_fill(rng, side_px)), (0, 0), stencil)
        numbers[np.asarray(stencil) > 0] = number
    if rng.random() < 0.7:
        canvas = canvas.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.3, 1.5))))
    noise = rng.normal(0.0, rng.uniform(0.0, 9.0), (side_px, side_px, 3))
    light = rng.uniform(0.6, 1.15) * np.asarray(canvas, np.float32) + rng.uniform(0.0, 40.0)
    return np.clip(light + noise, 0, 255).astype(np.uint8), numbers


def _shape(rng: np.random.Generator, side_px: int) -> Image.Image:
    stencil = Image.new("L", (side_px, side_px), 0)
    pen = ImageDraw.Draw(stencil)
    x, y = rng.uniform(0, side_px, 2)
    long, short = rng.uniform(24, 130), rng.uniform(18, 80)
    turn = rng.uniform(0, np.pi)
    kind = int(rng.integers(4))
    angles = np.linspace(0, 2 * np.pi, 25)[:-1]
    if kind == 0:
        u, v = np.asarray((-1, 1, 1, -1)) * long / 2, np.asarray((-1, -1, 1, 1)) * short / 2
    elif kind == 1:
        u, v = np.cos(angles) * long / 2, np.sin(angles) * short / 2
    elif kind == 2:
        reach = rng.uniform(0.6, 1.2, 24)
        reach = (reach + np.roll(reach, 1) + np.roll(reach, -1)) / 3
        u, v = np.cos(angles) * long / 2 * reach, np.sin(angles) * long / 2 * reach
    else:
        along = np.linspace(-300, 300, 13)
        bend = rng.uniform(-40, 40) * np.sin(along / rng.uniform(40, 140) + rng.uniform(0, 6))
        width = rng.uniform(10, 44)
        u, v = np.concatenate((along, along[::-1])), np.concatenate((bend - width / 2, bend[::-1] + width / 2))
    px, py = x + u * np.cos(turn) - v * np.sin(turn), y + u * np.sin(turn) + v * np.cos(turn)
    pen.polygon([(float(a), float(b)) for a, b in zip(px, py, strict=True)], fill=255)
    return stencil


def _fill(rng: np.random.Generator, side_px: int) -> NDArray[np.uint8]:
    colour = rng.integers(15, 240, 3).astype(np.float32)
    other = np.clip(colour + rng.normal(0, 50, 3), 0, 255).astype(np.float32)
    kind = int(rng.integers(6))
    grid = np.arange(side_px, dtype=np.float32)
    turn = rng.uniform(0, np.pi)
    ramp = grid[None, :] * np.float32(np.cos(turn)) + grid[:, None] * np.float32(np.sin(turn))
    if kind == 0:
        blend = np.zeros((side_px, side_px), np.float32)
    elif kind == 1:  # noise with a random share of each octave: steep spectra look like water, flat ones like gravel
        blend, weight, slope = np.zeros((side_px, side_px), np.float32), 0.0, rng.uniform(0.4, 1.6)
        for octave in range(5):
            cells = 4 << octave
            layer = Image.fromarray(rng.random((cells, cells), dtype=np.float32))
            share = float(slope**-octave)
            blend += share * np.asarray(layer.resize((side_px, side_px), Image.Resampling.BILINEAR))
            weight += share
        blend /= weight
    elif kind == 2:
        blend = (np.mod(ramp, rng.uniform(5, 24)) < rng.uniform(2, 9)).astype(np.float32)
    elif kind == 3:
        blend = (rng.random((side_px, side_px)) < rng.uniform(0.05, 0.5)).astype(np.float32)
    elif kind == 4:
        cell = int(rng.integers(3, 14))
        cells = side_px // cell + 1
        blocks = rng.random((cells, cells), dtype=np.float32)
        blend = np.repeat(np.repeat(blocks, cell, 0), cell, 1)[:side_px, :side_px]
    else:
        blend = (ramp - ramp.min()) / (ramp.max() - ramp.min())
    return np.clip(colour + (other - colour) * blend[:, :, None], 0, 255).astype(np.uint8)
