"""Polygons on the map, as Bokeh nests them, with no more detail than the map can show."""

from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

_MOST_COARSE = 12
"""How often the allowed detail is halved before outlines are left as they are."""


def simplified(shapes: NDArray[np.object_], detail_m: NDArray[np.float64], max_vertices: int) -> NDArray[np.object_]:
    """(n,) shapes within `detail_m` (n,) of what they were, or further off where they had too many vertices."""
    drawn = shapes
    for _ in range(_MOST_COARSE):
        # Of what is left: from the whole outlines, each time would take as long as the first.
        drawn = np.asarray(shapely.simplify(drawn, detail_m, preserve_topology=True), object)
        if int(shapely.get_num_coordinates(drawn).sum()) <= max_vertices:
            break
        detail_m = 2 * detail_m
    return drawn


def rings(shapes: NDArray[np.object_], decimals: int) -> dict[str, Any]:
    """`xs` and `ys`: per shape, polygons of rings, the outer one first. Coordinates are rounded to `decimals`."""
    xs: list[Any] = []
    ys: list[Any] = []
    for shape in shapes:
        polygons = [[shapely.get_coordinates(r).round(decimals) for r in (p.exterior, *p.interiors)]
                    for p in shapely.get_parts(shape) if p.geom_type == "Polygon" and not p.is_empty]  # fmt: skip
        xs.append([[ring[:, 0].tolist() for ring in polygon] for polygon in polygons])
        ys.append([[ring[:, 1].tolist() for ring in polygon] for polygon in polygons])
    return {"xs": xs, "ys": ys}
