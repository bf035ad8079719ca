"""Where things are: a region's objects from a seed, before anything is drawn.

Every coordinate is a whole number of region pixels (x to the right, y down), so that rasterising does not depend
on the last bit of a sine, and the same seed and size give the same bytes on any machine.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from t2s_core.world.classes import Kind

PointPx = tuple[int, int]
BoxPx = tuple[int, int, int, int]

_CELL_PX = 8
_MARGIN_PX = 256
"""Objects may start this far outside the region: they are cut by its border as they are by a tile's."""

# Attempts per 256 x 256 px of region; collisions leave about two thirds of them. Chosen so that each class is
# visible in a fifth to two fifths of the tiles: absence is the rule, as it is in real regions.
_ATTEMPTS: tuple[tuple[Kind, float], ...] = (
    (Kind.HARBOUR, 0.40),
    (Kind.LAKE, 0.45),
    (Kind.FIELD, 0.70),
    (Kind.FOREST, 0.60),
    (Kind.SOLAR, 1.00),
    (Kind.PITCH, 1.20),
    (Kind.CAR_PARK, 1.60),
    (Kind.TANK, 0.80),
    (Kind.ROOF_RED, 2.60),
)


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of an object's outline: a polygon, or a disc when `radius_px` is set."""

    points: tuple[PointPx, ...]
    """Vertices of the polygon, or the one centre of the disc."""
    radius_px: int = 0


@dataclass(frozen=True, slots=True)
class Thing:
    """One object. What is visible of it is known only after later things are drawn over it."""

    kind: Kind
    parts: tuple[Part, ...]
    """Their union is the object."""
    centre: PointPx
    size_px: tuple[int, int]
    """Extent along and across the object's own axis."""
    angle_deg: int
    """Of the object's long axis, from the x axis towards the y axis."""
    style: int
    """A random number below 2**31 that decides colours and textures."""

    @property
    def box(self) -> BoxPx:
        """XYXY, half-open, not clipped to the region."""
        xs: list[int] = []
        ys: list[int] = []
        for part in self.parts:
            for x, y in part.points:
                xs += (x - part.radius_px, x + part.radius_px)
                ys += (y - part.radius_px, y + part.radius_px)
        return min(xs), min(ys), max(xs) + 1, max(ys) + 1


def plan_layout(seed: int, height_px: int, width_px: int) -> list[Thing]:
    """The objects of a region in drawing order: later ones hide earlier ones."""
    plan = _Plan(np.random.default_rng([seed, 11]), height_px, width_px)
    across = bool(plan.rng.integers(2))
    rivers = plan.lines(Kind.RIVER, across, spacing_px=860, widths_px=(26, 42))
    # A road beside a river would run into it: only roads that cross come near one, and each has its bridge.
    roads = plan.lines(Kind.ROAD, not across, spacing_px=820, widths_px=(14, 18))
    roads += plan.lines(Kind.ROAD, across, spacing_px=820, widths_px=(14, 18), beside=rivers)
    bridges = [b for river in rivers for road in roads for b in plan.bridges(river, road)]
    for thing in bridges:
        plan.occupied.mark(thing.box)
    compact: list[Thing] = []
    tiles = (height_px + 128) * (width_px + 128) / 256**2
    for kind, rate in _ATTEMPTS:
        for _ in range(max(1, round(rate * tiles))):
            compact += plan.place(kind)
    return [line.thing for line in rivers + roads] + bridges + compact


@dataclass(frozen=True, slots=True)
class _Line:
    thing: Thing
    path: tuple[PointPx, ...]
    width_px: int


@dataclass(slots=True)
class _Occupancy:
    """Which 8 px cells are taken, so that objects keep apart and stay whole."""

    height_px: int
    width_px: int
    cells: NDArray[np.bool_] = field(init=False)

    def __post_init__(self) -> None:
        shape = ((self.height_px + 2 * _MARGIN_PX) // _CELL_PX + 1, (self.width_px + 2 * _MARGIN_PX) // _CELL_PX + 1)
        self.cells = np.zeros(shape, np.bool_)

    def _window(self, box: BoxPx, grow_px: int) -> tuple[slice, slice]:
        x0, y0, x1, y1 = box
        columns = slice(
            max(0, (x0 - grow_px + _MARGIN_PX) // _CELL_PX), max(0, (x1 + grow_px + _MARGIN_PX) // _CELL_PX + 1)
        )
        rows = slice(
            max(0, (y0 - grow_px + _MARGIN_PX) // _CELL_PX), max(0, (y1 + grow_px + _MARGIN_PX) // _CELL_PX + 1)
        )
        return rows, columns

    def mark(self, box: BoxPx) -> None:
        self.cells[self._window(box, 0)] = True

    def free(self, box: BoxPx) -> bool:
        return not bool(self.cells[self._window(box, 4)].any())


class _Plan:
    def __init__(self, rng: np.random.Generator, height_px: int, width_px: int) -> None:
        self.rng = rng
        self.height_px = height_px
        self.width_px = width_px
        self.occupied = _Occupancy(height_px, width_px)

    def _int(self, low: int, high: int) -> int:
        """A whole number from low to high, both included."""
        return int(self.rng.integers(low, high + 1))

    def _style(self) -> int:
        return self._int(0, 2**31 - 1)

    # -- lines ---------------------------------------------------------------------------------------------------

    def lines(
        self, kind: Kind, downwards: bool, spacing_px: int, widths_px: tuple[int, int], beside: "Sequence[_Line]" = ()
    ) -> list["_Line"]:
        """Rivers or roads that cross the whole region one way, none within reach of those it must run `beside`."""
        found: list[_Line] = []
        extent = self.width_px if downwards else self.height_px
        start = self._int(-spacing_px // 2, spacing_px // 2)
        while start < extent + 60:
            path = self._path(start, downwards, wander_px=26 if kind is Kind.RIVER else 10)
            width = self._int(*widths_px)
            thing = Thing(kind, _band(path, width), path[len(path) // 2], (width, width), 0, self._style())
            if not any(_near(path, other.path) for other in beside):
                found.append(_Line(thing, path, width))
                for box in _beads(path, width // 2 + 2):
                    self.occupied.mark(box)
            start += self._int(spacing_px * 7 // 10, spacing_px * 13 // 10)
        return found

    def _path(self, start: int, flip: bool, wander_px: int) -> tuple[PointPx, ...]:
        length = self.height_px if flip else self.width_px
        offset, drift = start, 0
        path: list[PointPx] = []
        for along in range(-64, length + 128, 64):
            path.append((offset, along) if flip else (along, offset))
            # The drift is remembered and pulled back, which bends the line instead of shaking it.
            drift = (drift * 6) // 10 + self._int(-wander_px, wander_px) - (offset - start) // 12
            offset += drift
        return tuple(path)

    def bridges(self, river: _Line, road: _Line) -> list[Thing]:
        """One deck where the road crosses the river, long enough to rest on both banks."""
        found: list[Thing] = []
        for a, b in pairwise(road.path):
            for c, d in pairwise(river.path):
                hit = _crossing(a, b, c, d)
                if hit is None:
                    continue
                along = math.atan2(b[1] - a[1], b[0] - a[0])
                stream = math.atan2(d[1] - c[1], d[0] - c[0])
                steep = max(0.5, abs(math.sin(along - stream)))
                size = (round(river.width_px / steep) + 22, road.width_px + 12)
                angle = round(math.degrees(along)) % 180
                found.append(self._rectangle(Kind.BRIDGE, hit, size, angle))
        return found

    # -- compact objects -----------------------------------------------------------------------------------------

    def place(self, kind: Kind) -> list[Thing]:  # noqa: PLR0911 -- a table of kinds
        """One attempt: the object (or a small group), or nothing where there is no room."""
        centre = (self._int(-60, self.width_px + 60), self._int(-60, self.height_px + 60))
        match kind:
            case Kind.LAKE:
                return self._on_water(self._try(self._blob(kind, centre, self._int(46, 98))), inset=0.45)
            case Kind.FOREST:
                return self._try(self._blob(kind, centre, self._int(42, 92)))
            case Kind.HARBOUR:
                basin = self._rectangle(kind, centre, (self._int(100, 150), self._int(84, 116)), self._int(0, 179))
                return self._on_water(self._try(basin), inset=0.25)
            case Kind.FIELD:
                return self._try(
                    self._rectangle(kind, centre, (self._int(90, 180), self._int(70, 120)), self._int(0, 179))
                )
            case Kind.SOLAR:
                return self._try(
                    self._rectangle(kind, centre, (self._int(70, 130), self._int(50, 90)), self._int(0, 179))
                )
            case Kind.PITCH:
                return self._try(
                    self._rectangle(kind, centre, (self._int(76, 112), self._int(46, 70)), self._int(0, 179))
                )
            case Kind.CAR_PARK:
                return self._try(
                    self._rectangle(kind, centre, (self._int(66, 120), self._int(50, 86)), self._int(0, 179))
                )
            case Kind.TANK:
                return self._group(centre, self._int(1, 3), 58, self._tank)
            case _:
                return self._group(centre, self._int(1, 3), 72, self._roof)

    def _try(self, thing: Thing) -> list[Thing]:
        if not self.occupied.free(thing.box):
            return []
        self.occupied.mark(thing.box)
        return [thing]

    def _group(self, centre: PointPx, count: int, step_px: int, make: Callable[[PointPx, int], Thing]) -> list[Thing]:
        found: list[Thing] = []
        tint = self._int(0, 2)
        for index in range(count):
            x = centre[0] + (index % 2) * step_px + self._int(-4, 4)
            y = centre[1] + (index // 2) * step_px + self._int(-4, 4)
            found += self._try(make((x, y), tint))
        return found

    def _tank(self, centre: PointPx, _tint: int) -> Thing:
        radius = self._int(15, 24)
        return Thing(Kind.TANK, (Part((centre,), radius),), centre, (2 * radius, 2 * radius), 0, self._style())

    def _roof(self, centre: PointPx, tint: int) -> Thing:
        kind = (Kind.ROOF_RED, Kind.ROOF_BLUE, Kind.ROOF_WHITE)[tint]
        return self._rectangle(kind, centre, (self._int(36, 58), self._int(28, 42)), self._int(0, 179))

    def _on_water(self, water: list[Thing], inset: float) -> list[Thing]:
        """The water and the ships on it: none on a small lake, up to three in a harbour."""
        found = list(water)
        for body in water:
            if body.kind is Kind.LAKE and (body.size_px[0] < 130 or self._int(0, 1)):
                continue
            taken: list[BoxPx] = []
            for _ in range(self._int(2, 5)):
                reach = round(body.size_px[1] * inset)
                spot = (body.centre[0] + self._int(-reach, reach), body.centre[1] + self._int(-reach, reach))
                ship = self._ship(spot)
                if not any(_touch(ship.box, other) for other in taken) and len(taken) < 3:
                    taken.append(ship.box)
                    found.append(ship)
        return found

    def _ship(self, centre: PointPx) -> Thing:
        length, beam, angle = self._int(34, 52), self._int(13, 17), self._int(0, 359)
        hull = ((-0.5, -0.38), (-0.5, 0.38), (0.18, 0.5), (0.5, 0.0), (0.18, -0.5))
        points = tuple(_turn(centre, u * length, v * beam, angle) for u, v in hull)
        return Thing(Kind.SHIP, (Part(points),), centre, (length, beam), angle, self._style())

    def _rectangle(self, kind: Kind, centre: PointPx, size_px: tuple[int, int], angle_deg: int) -> Thing:
        u, v = size_px[0] / 2, size_px[1] / 2
        points = tuple(_turn(centre, a, b, angle_deg) for a, b in ((-u, -v), (u, -v), (u, v), (-u, v)))
        return Thing(kind, (Part(points),), centre, size_px, angle_deg, self._style())

    def _blob(self, kind: Kind, centre: PointPx, radius_px: int) -> Thing:
        raw = [self._int(72, 122) for _ in range(14)]
        points = []
        for index in range(14):
            reach = radius_px * (raw[index - 1] + 2 * raw[index] + raw[(index + 1) % 14]) / 400
            points.append(_turn(centre, reach, 0, round(index * 360 / 14)))
        return Thing(
            kind, (Part(tuple(points)),), centre, (2 * radius_px, 2 * radius_px), self._int(0, 179), self._style()
        )


def _turn(centre: PointPx, u: float, v: float, angle_deg: int) -> PointPx:
    """The whole pixel at (u, v) in the axes of an object."""
    a = math.radians(angle_deg)
    return round(centre[0] + u * math.cos(a) - v * math.sin(a)), round(centre[1] + u * math.sin(a) + v * math.cos(a))


def _band(path: tuple[PointPx, ...], width_px: int) -> tuple[Part, ...]:
    """A path of a width: a quadrilateral for each leg and a disc at each bend."""
    parts: list[Part] = []
    for (x0, y0), (x1, y1) in pairwise(path):
        length = math.hypot(x1 - x0, y1 - y0)
        nx, ny = -(y1 - y0) / length * width_px / 2, (x1 - x0) / length * width_px / 2
        corners = ((x0 + nx, y0 + ny), (x1 + nx, y1 + ny), (x1 - nx, y1 - ny), (x0 - nx, y0 - ny))
        parts.append(Part(tuple((round(x), round(y)) for x, y in corners)))
        parts.append(Part(((x1, y1),), width_px // 2))
    return tuple(parts)


def _beads(path: tuple[PointPx, ...], half_px: int) -> list[BoxPx]:
    found: list[BoxPx] = []
    for (x0, y0), (x1, y1) in pairwise(path):
        for step in range(8):
            x, y = x0 + (x1 - x0) * step // 8, y0 + (y1 - y0) * step // 8
            found.append((x - half_px, y - half_px, x + half_px, y + half_px))
    return found


def _crossing(a: PointPx, b: PointPx, c: PointPx, d: PointPx) -> PointPx | None:
    """Where leg ab crosses leg cd (each without its end), or None."""
    rx, ry, sx, sy = b[0] - a[0], b[1] - a[1], d[0] - c[0], d[1] - c[1]
    cross = rx * sy - ry * sx
    if cross == 0:
        return None
    t = ((c[0] - a[0]) * sy - (c[1] - a[1]) * sx) / cross
    u = ((c[0] - a[0]) * ry - (c[1] - a[1]) * rx) / cross
    if not (0 <= t < 1 and 0 <= u < 1):
        return None
    return round(a[0] + t * rx), round(a[1] + t * ry)


def _near(a: Sequence[PointPx], b: Sequence[PointPx]) -> bool:
    """Whether two paths that advance alike come within 60 px of each other at any step."""
    return any(abs(p[0] - q[0]) + abs(p[1] - q[1]) < 60 for p, q in zip(a, b, strict=False))


def _touch(a: BoxPx, b: BoxPx) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
