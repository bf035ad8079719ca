"""What things look like: a patch of colour for an object, on whole-number arithmetic only."""

import math

import numpy as np
from numpy.typing import NDArray

from t2s_core.world.classes import Kind
from t2s_core.world.layout import BoxPx, Thing

Rgb = tuple[int, int, int]

COLOURS: dict[Kind, tuple[Rgb, ...]] = {
    Kind.LAKE: ((40, 92, 150), (52, 104, 158), (36, 80, 132)),
    Kind.RIVER: ((86, 132, 120), (98, 138, 118), (78, 122, 116)),
    Kind.FOREST: ((38, 78, 42), (46, 84, 40), (34, 70, 46)),
    Kind.FIELD: ((196, 172, 92), (150, 112, 70), (178, 190, 92)),
    Kind.ROAD: ((92, 92, 98), (82, 82, 86), (104, 102, 102)),
    Kind.BRIDGE: ((206, 196, 178), (214, 208, 196), (194, 188, 176)),
    Kind.ROOF_RED: ((178, 68, 52), (190, 82, 60), (160, 58, 50)),
    Kind.ROOF_BLUE: ((62, 98, 196), (78, 116, 204), (56, 84, 178)),
    Kind.ROOF_WHITE: ((226, 226, 226), (236, 234, 228), (214, 216, 220)),
    Kind.SOLAR: ((24, 34, 82), (30, 38, 70), (20, 30, 92)),
    Kind.TANK: ((222, 216, 190), (230, 226, 210), (210, 200, 170)),
    Kind.PITCH: ((66, 152, 72), (78, 164, 76), (58, 140, 66)),
    Kind.CAR_PARK: ((126, 124, 122), (116, 116, 118), (136, 132, 128)),
    Kind.HARBOUR: ((28, 58, 84), (30, 66, 88), (26, 52, 76)),
    Kind.SHIP: ((238, 238, 240), (176, 54, 48), (226, 206, 120)),
}
"""Base colours of each class; one is chosen per object and jittered."""

GRAIN: dict[Kind, int] = {Kind.FOREST: 30, Kind.GROUND: 9, Kind.FIELD: 7, Kind.LAKE: 3, Kind.HARBOUR: 3, Kind.RIVER: 6}
"""Amplitude of a class's pixel noise, in grey levels; 5 where not listed."""

RAISED_PX: dict[Kind, int] = {
    Kind.FOREST: 4, Kind.ROOF_RED: 5, Kind.ROOF_BLUE: 5, Kind.ROOF_WHITE: 5, Kind.TANK: 6, Kind.BRIDGE: 3, Kind.SHIP: 2,
    Kind.SOLAR: 2,
}  # fmt: skip
"""Length of the shadow that a thing of this class throws to the lower right."""

Patch = NDArray[np.int16]
"""(height, width, 3) of colours, not yet clipped to 0-255."""
Axis = NDArray[np.int32]
"""(height, width): whole pixels along one axis of an object, 0 at its centre."""


def paint(thing: Thing, box: BoxPx) -> Patch:
    """The colours of `thing` over `box` (XYXY region px); the outline cuts it later."""
    rng = np.random.default_rng(thing.style)
    base = COLOURS[thing.kind]
    jitter = rng.integers(-9, 10, 3)
    colour = np.asarray(base[int(rng.integers(len(base)))], np.int16) + jitter.astype(np.int16)
    patch: Patch = np.empty((box[3] - box[1], box[2] - box[0], 3), np.int16)
    patch[:] = colour
    draw = _DETAILS.get(thing.kind)
    if draw is not None:
        u, v = _axes(thing, box)
        draw(patch, u, v, thing, rng)
    return patch


def _axes(thing: Thing, box: BoxPx) -> tuple[Axis, Axis]:
    # Fixed-point rotation: the cosine is rounded to 1/1024 first, so the rest is exact.
    cosine = round(1024 * math.cos(math.radians(thing.angle_deg)))
    sine = round(1024 * math.sin(math.radians(thing.angle_deg)))
    x = np.arange(box[0] - thing.centre[0], box[2] - thing.centre[0], dtype=np.int32)[None, :]
    y = np.arange(box[1] - thing.centre[1], box[3] - thing.centre[1], dtype=np.int32)[:, None]
    return (x * cosine + y * sine) >> 10, (y * cosine - x * sine) >> 10


def _field(patch: Patch, u: Axis, v: Axis, thing: Thing, rng: np.random.Generator) -> None:
    period = int(rng.integers(6, 13))
    patch[(v % period) < period // 3] -= np.int16(22)


def _roof(patch: Patch, u: Axis, v: Axis, thing: Thing, rng: np.random.Generator) -> None:
    patch[v > 0] -= np.int16(30)
    patch[np.abs(v) < 1] += np.int16(18)


def _solar(patch: Patch, u: Axis, v: Axis, thing: Thing, rng: np.random.Generator) -> None:
    row = int(rng.integers(10, 15))
    patch[(u % 9) == 0] += np.int16(34)
    patch[(v % row) < 3] = (150, 150, 138)


def _pitch(patch: Patch, u: Axis, v: Axis, thing: Thing, rng: np.random.Generator) -> None:
    half_u, half_v = thing.size_px[0] // 2 - 4, thing.size_px[1] // 2 - 4
    patch[(u // 10) % 2 == 0] += np.int16(12)
    rim = np.maximum(np.abs(u) - half_u, np.abs(v) - half_v)
    circle = u * u + v * v
    goal = np.maximum(np.abs(np.abs(u) - half_u + 6) - 6, np.abs(v) - 12)
    lines = (np.abs(rim) < 1) | ((np.abs(u) < 1) & (rim < 0)) | (np.abs(circle - 100) < 16) | ((goal == 0) & (rim < 0))
    patch[lines] = (236, 240, 232)


def _car_park(patch: Patch, u: Axis, v: Axis, thing: Thing, rng: np.random.Generator) -> None:
    slot_u, slot_v = u // 7, v // 18
    patch[((u % 7) == 0) & ((v % 18) < 12)] += np.int16(54)
    cars = ((u % 7) > 1) & ((u % 7) < 6) & ((v % 18) > 1) & ((v % 18) < 11)
    paints = np.asarray(((220, 220, 224), (40, 40, 46), (176, 40, 40), (60, 80, 150), (150, 150, 156)), np.int16)
    which = (slot_u * 7919 + slot_v * 104729 + thing.style) % 8
    for index, colour in enumerate(paints):
        patch[cars & (which == index)] = colour


def _harbour(patch: Patch, u: Axis, v: Axis, thing: Thing, rng: np.random.Generator) -> None:
    half_u, half_v = thing.size_px[0] // 2 - 9, thing.size_px[1] // 2 - 9
    rim = np.maximum(np.abs(u) - half_u, np.abs(v) - half_v)
    patch[rim > 0] = (188, 180, 166)
    patch[(rim > 0) & (((u + v) % 12) < 3)] = (160, 152, 138)


def _tank(patch: Patch, u: Axis, v: Axis, thing: Thing, rng: np.random.Generator) -> None:
    radius = thing.size_px[0] // 2
    square = u * u + v * v
    patch += (-(u + v) * 18 // radius)[:, :, None].astype(np.int16)
    patch[(square > (radius - 4) ** 2) & (square < (radius - 2) ** 2)] -= np.int16(70)
    patch[square < 10] -= np.int16(90)


def _bridge(patch: Patch, u: Axis, v: Axis, thing: Thing, rng: np.random.Generator) -> None:
    half = thing.size_px[1] // 2
    patch[np.abs(v) > half - 4] = (120, 70, 56)
    patch[(u % 10) == 0] -= np.int16(40)


def _ship(patch: Patch, u: Axis, v: Axis, thing: Thing, rng: np.random.Generator) -> None:
    cabin = (u < -thing.size_px[0] // 5) & (u > -thing.size_px[0] * 2 // 5) & (np.abs(v) < 4)
    patch[cabin] = (70, 70, 80)
    patch[(np.abs(v) < 1) & (u > 0)] -= np.int16(60)


_DETAILS = {
    Kind.FIELD: _field,
    Kind.ROOF_RED: _roof,
    Kind.ROOF_BLUE: _roof,
    Kind.ROOF_WHITE: _roof,
    Kind.SOLAR: _solar,
    Kind.PITCH: _pitch,
    Kind.CAR_PARK: _car_park,
    Kind.HARBOUR: _harbour,
    Kind.TANK: _tank,
    Kind.BRIDGE: _bridge,
    Kind.SHIP: _ship,
}
