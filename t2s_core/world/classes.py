"""The classes of things in the world, and what they are called in a reply."""

from enum import IntEnum


class Kind(IntEnum):
    """What a pixel shows. The values are those of the class raster; 0 is open ground, which nobody asks for."""

    GROUND = 0
    LAKE = 1
    RIVER = 2
    FOREST = 3
    FIELD = 4
    ROAD = 5
    BRIDGE = 6
    ROOF_RED = 7
    ROOF_BLUE = 8
    ROOF_WHITE = 9
    SOLAR = 10
    TANK = 11
    PITCH = 12
    CAR_PARK = 13
    HARBOUR = 14
    SHIP = 15


NAMES: dict[Kind, str] = {
    Kind.LAKE: "lake",
    Kind.RIVER: "river",
    Kind.FOREST: "forest",
    Kind.FIELD: "field",
    Kind.ROAD: "road",
    Kind.BRIDGE: "bridge",
    Kind.ROOF_RED: "red roof",
    Kind.ROOF_BLUE: "blue roof",
    Kind.ROOF_WHITE: "white roof",
    Kind.SOLAR: "solar farm",
    Kind.TANK: "storage tank",
    Kind.PITCH: "sports pitch",
    Kind.CAR_PARK: "car park",
    Kind.HARBOUR: "harbour",
    Kind.SHIP: "ship",
}
"""English name of every class that can be asked for, in the singular."""
