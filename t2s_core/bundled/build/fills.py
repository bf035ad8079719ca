"""What covers a thing: colours and textures with the statistics of natural and built ground."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.float32]
"""(..., 3) in grey levels; may leave 0 to 255 until the picture is finished."""


def some_colour(rng: np.random.Generator) -> Pixels:
    """(3,): mostly the dull colours of aerial pictures, sometimes any colour."""
    if rng.random() < 0.3:
        return rng.uniform(10, 245, 3).astype(np.float32)
    grey = rng.uniform(18, 235)
    tint = rng.normal(0, 1, 3) * (1.0, 0.7, 1.2) * rng.uniform(2, 26)
    return np.clip(grey + tint, 5, 250).astype(np.float32)


def near_colour(rng: np.random.Generator, colour: Pixels) -> Pixels:
    """(3,): one that differs little from `colour`."""
    return np.clip(colour + rng.normal(0, 14) + rng.normal(0, 7, 3), 3, 252).astype(np.float32)


def fill(rng: np.random.Generator, colour: Pixels, height: int, width: int) -> Pixels:
    """(height, width, 3): `colour` with a texture."""
    other = np.clip(colour + rng.normal(0, 34) + rng.normal(0, 14, 3), 0, 255).astype(np.float32)
    kind = int(rng.choice(9, p=(0.1, 0.3, 0.1, 0.08, 0.06, 0.1, 0.08, 0.1, 0.08)))
    blend = _BLENDS[kind](rng, height, width)
    patch = colour + (other - colour) * blend[:, :, None]
    if kind == 7:
        _items(rng, patch)
    elif rng.random() < 0.5:  # most ground is uneven on top of its pattern
        patch += (rng.uniform(3, 26) * (_noise(rng, height, width) - 0.5))[:, :, None]
    if rng.random() < 0.08:  # glint
        patch[rng.random((height, width)) < rng.uniform(0.002, 0.05)] += np.float32(rng.uniform(60, 160))
    return patch.astype(np.float32)


def _flat(_rng: np.random.Generator, height: int, width: int) -> Pixels:
    return np.zeros((height, width), np.float32)


def _noise(rng: np.random.Generator, height: int, width: int) -> Pixels:
    """Octaves with a random share each: steep spectra look like water, flat ones like gravel or leaves."""
    blend, weight, slope = np.zeros((height, width), np.float32), 0.0, rng.uniform(0.5, 1.9)
    first = rng.uniform(24, 120)
    for octave in range(5):
        cell = max(1.0, first / 2**octave)
        shape = (int(height / cell) + 2, int(width / cell) + 2)
        layer = Image.fromarray(rng.random(shape, dtype=np.float32))
        share = float(slope**-octave)
        box = (0.0, 0.0, width / cell, height / cell)
        blend += share * np.asarray(layer.resize((width, height), Image.Resampling.BILINEAR, box=box))
        weight += share
        if cell <= 1:
            break
    blend /= weight
    harder: Pixels = np.clip((blend - 0.5) * rng.uniform(1, 3) + 0.5, -0.3, 1.3).astype(np.float32)
    return harder


def _ramp(rng: np.random.Generator, height: int, width: int) -> Pixels:
    turn = rng.uniform(0, 2 * np.pi)
    across = np.arange(width, dtype=np.float32)[None, :] * np.float32(np.cos(turn))
    return across + np.arange(height, dtype=np.float32)[:, None] * np.float32(np.sin(turn))


def _stripes(rng: np.random.Generator, height: int, width: int) -> Pixels:
    period = rng.uniform(4, 26)
    return (np.mod(_ramp(rng, height, width), period) < period * rng.uniform(0.2, 0.6)).astype(np.float32)


def _speckle(rng: np.random.Generator, height: int, width: int) -> Pixels:
    return (rng.random((height, width), dtype=np.float32) < rng.uniform(0.05, 0.5)).astype(np.float32)


def _blocks(rng: np.random.Generator, height: int, width: int) -> Pixels:
    cell = int(rng.integers(3, 16))
    blocks = rng.random((height // cell + 1, width // cell + 1), dtype=np.float32)
    return np.repeat(np.repeat(blocks, cell, 0), cell, 1)[:height, :width]


def _gradient(rng: np.random.Generator, height: int, width: int) -> Pixels:
    ramp = _ramp(rng, height, width)
    risen: Pixels = (ramp - ramp.min()) / np.float32(max(float(np.ptp(ramp)), 1.0))
    return risen


def _two_slopes(rng: np.random.Generator, height: int, width: int) -> Pixels:
    """A roof: one slope in the light, one not. The thing is both."""
    turn = rng.uniform(0, 2 * np.pi)
    x, y = np.arange(width) - width * rng.uniform(0.35, 0.65), np.arange(height) - height * rng.uniform(0.35, 0.65)
    slope = x[None, :] * np.cos(turn) + y[:, None] * np.sin(turn)
    lit: Pixels = (slope > 0).astype(np.float32)
    if rng.random() < 0.3:
        across = -x[None, :] * np.sin(turn) + y[:, None] * np.cos(turn)
        lit = np.float32(0.5) * (lit + (across > 0))
    return lit


def _crowns(rng: np.random.Generator, height: int, width: int) -> Pixels:
    """Many bright domes with dark between them: canopy, boulders, foam."""
    cell = rng.uniform(5, 22)
    rows, columns = int(height / cell) + 2, int(width / cell) + 2
    places = rng.uniform(-0.35, 0.35, (2, rows, columns)).astype(np.float32)
    light = rng.uniform(0.5, 1.0, (rows, columns)).astype(np.float32)
    y = (np.arange(height, dtype=np.float32) / np.float32(cell))[:, None]
    x = (np.arange(width, dtype=np.float32) / np.float32(cell))[None, :]
    row, column = y.astype(int), x.astype(int)
    best = np.zeros((height, width), np.float32)
    for down in (0, 1):
        for right in (0, 1):
            r, c = row + down, column + right
            away = (y - r - places[0][r, c]) ** 2 + (x - c - places[1][r, c]) ** 2
            best = np.maximum(best, light[r, c] * (1 - 2 * away))
    return best


_BLENDS = (_flat, _noise, _stripes, _speckle, _blocks, _gradient, _two_slopes, _flat, _crowns)


def _items(rng: np.random.Generator, patch: Pixels) -> None:
    """Rows of small oblongs, some missing, in a few colours: parked cars, panels, containers, boats, graves."""
    height, width = patch.shape[:2]
    turn = rng.uniform(0, np.pi)
    x = np.arange(width, dtype=np.float32)[None, :]
    y = np.arange(height, dtype=np.float32)[:, None]
    u = x * np.float32(np.cos(turn)) + y * np.float32(np.sin(turn)) + 4000
    v = y * np.float32(np.cos(turn)) - x * np.float32(np.sin(turn)) + 4000
    step_u, step_v = rng.uniform(3, 12), rng.uniform(5, 26)
    cell = (u // step_u).astype(np.int64) * 7919 + (v // step_v).astype(np.int64) * 104_729 + int(rng.integers(9999))
    chance = ((cell * 2_654_435_761) >> 7) & 1023
    inside = (u % step_u < step_u * rng.uniform(0.5, 0.9)) & (v % step_v < step_v * rng.uniform(0.4, 0.9))
    kinds = int(rng.integers(1, 7))
    colours = np.stack([some_colour(rng) for _ in range(kinds)])
    here = inside & (chance < 1024 * rng.uniform(0.3, 1.0))
    patch[here] = colours[chance[here] % kinds]
