"""Pictures of scenes where they lie on the map, and of single features."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import Transformer
from rasterio import crs as raster_crs
from rasterio import warp
from rasterio.enums import Resampling
from rasterio.transform import Affine

from pipeline.georef import proj_crs
from pipeline.normalise import Stretch
from pipeline.pixels import UnreadablePixels, open_scene
from pipeline.quicklook import data_url, decoded, quicklook
from pipeline.rasters import RASTER_ERRORS
from pipeline.reporting.frame import MapFrame
from pipeline.scenes import Scene
from pipeline.texts import one_line
from pipeline.tiling import Window

RGBA = NDArray[np.uint8]

_LONGEST_PX = 1400
_SHORTEST_PX = 200
_ALL_PX = 9e6
"""Of all pictures together."""
_CROP_PX = 144
_MAX_CROPPED_PX = 2**24
"""Of a scene whose own picture shows too little: what a crop may cover."""
_QUALITIES = (80, 60, 40, 20)


@dataclass(frozen=True)
class Quicklook:
    """A scene's picture: as it was read, and where its page's one lies."""

    scene: Scene
    rgba: RGBA
    """In the scene's own frame: what features are cut from."""
    url: str
    box: tuple[float, float, float, float]
    """left, bottom, right, top on the map."""


def quicklooks(
    entries: Sequence[Mapping[str, Any]], frame: MapFrame, *, max_bytes: int, decode_mpx: float
) -> tuple[list[Quicklook], list[str]]:
    """Pictures of the manifest's `entries`, and notes on those that have none."""
    looks, notes = [], []
    longest_px = int(np.clip(np.sqrt(_ALL_PX / max(1, len(entries))), _SHORTEST_PX, _LONGEST_PX))
    left_px = decode_mpx * 1e6
    for entry in entries:
        scene = Scene.from_json(dict(entry))
        try:
            needed_px = _decoded(scene, longest_px)
            if needed_px > left_px:
                notes.append(
                    f"No picture of {scene.scene_id}: it has no overviews, and to decode {needed_px / 1e6:,.0f} Mpx "
                    "takes longer than a run should; t2s report draws it, gdaladdo makes overviews."
                )
                continue
            left_px -= needed_px
            rgba = quicklook(scene, Stretch.from_json(entry["stretch"]), longest_px)
            looks.append(_placed(scene, rgba, frame, max_bytes // max(1, len(entries))))
        except UnreadablePixels as error:
            notes.append(f"No picture of {scene.scene_id}: {error}")
    return looks, notes


def _decoded(scene: Scene, longest_px: int) -> int:
    """Of scenes with overviews next to nothing."""
    height, width = scene.shape
    with open_scene(scene) as dataset:
        return decoded(dataset, scene, Window(0, 0, width, height), max(1.0, max(scene.shape) / longest_px))


def _placed(scene: Scene, rgba: RGBA, frame: MapFrame, max_bytes: int) -> Quicklook:
    outline = frame.outline(scene)
    if not len(outline):
        raise UnreadablePixels(f"nothing of it lies on the map; {scene.href}")
    (left, bottom), (right, top) = outline.min(axis=0).tolist(), outline.max(axis=0).tolist()
    drawn = rgba if frame.is_upright(scene) else _warped(scene, rgba, frame, (left, bottom, right, top))
    return Quicklook(scene, rgba, _within(drawn, max_bytes), (left, bottom, right, top))


def _warped(scene: Scene, rgba: RGBA, frame: MapFrame, box: tuple[float, float, float, float]) -> RGBA:
    left, bottom, right, top = box
    height, width = rgba.shape[:2]
    pixel = max(right - left, top - bottom) / max(height, width)
    shape = max(1, round((top - bottom) / pixel)), max(1, round((right - left) / pixel))
    own = scene.geobox.affine @ Affine.scale(scene.shape[1] / width, scene.shape[0] / height)
    x0, y0 = frame.origin
    target = np.zeros((4, *shape), np.uint8)
    try:
        warp.reproject(
            np.ascontiguousarray(np.moveaxis(rgba, -1, 0)),
            target,
            src_transform=own,
            src_crs=raster_crs.CRS.from_wkt(proj_crs(scene.geobox).to_wkt()),
            dst_transform=Affine((right - left) / shape[1], 0, left + x0, 0, (bottom - top) / shape[0], top + y0),
            dst_crs=raster_crs.CRS.from_wkt(frame.crs.to_wkt()),
            resampling=Resampling.bilinear,
        )
    except RASTER_ERRORS as error:
        raise UnreadablePixels(f"its picture cannot be warped: {one_line(error)}; {scene.href}") from error
    return np.ascontiguousarray(np.moveaxis(target, 0, -1))


def _within(rgba: RGBA, max_bytes: int) -> str:
    """A `data:` URL of at most so many bytes, by quality first, then by size."""
    while True:
        for quality in _QUALITIES:
            url = data_url(rgba, quality=quality)
            if len(url) <= max_bytes or max(rgba.shape) <= _SHORTEST_PX // 2:
                return url
        rgba = np.ascontiguousarray(rgba[::2, ::2])


@dataclass(frozen=True)
class Crop:
    """A feature and its surroundings."""

    url: str
    width: int
    height: int
    path: str
    """Its outline in the crop's pixels, as SVG has it."""


class Cropper:
    """Cuts features out of scenes: from the quick-look where that shows enough, else from the file."""

    def __init__(self, entries: Sequence[Mapping[str, Any]], looks: Sequence[Quicklook]) -> None:
        self._scenes = {entry["scene_id"]: Scene.from_json(dict(entry)) for entry in entries}
        self._stretches = {entry["scene_id"]: Stretch.from_json(entry["stretch"]) for entry in entries}
        self._looks = {look.scene.scene_id: look.rgba for look in looks}

    def crop(self, scene_id: str, geometry: Any, transformer: Transformer) -> Crop | None:  # noqa: ANN401
        """None where there is no picture. `transformer`: from the geometry's CRS to the scene's."""
        scene = self._scenes[scene_id]
        outline = _in_scene_px(scene, geometry, transformer)
        window = _around(outline.bounds, scene.shape)
        try:
            rgba = self._rgba(scene, window)
        except UnreadablePixels:  # the file is gone or this part of it is damaged: the report says so elsewhere
            return None
        height, width = rgba.shape[:2]
        scale = width / window.width, height / window.height
        return Crop(data_url(rgba, quality=70), width, height, _path(outline, window, scale))

    def _rgba(self, scene: Scene, window: Window) -> RGBA:
        rgba = self._looks.get(scene.scene_id)
        if rgba is not None:
            across, down = rgba.shape[1] / scene.shape[1], rgba.shape[0] / scene.shape[0]
            if max(window.width * across, window.height * down) >= min(_CROP_PX, window.width, window.height):
                rows = slice(int(window.y0 * down), max(1, round(window.y1 * down)))
                cols = slice(int(window.x0 * across), max(1, round(window.x1 * across)))
                step = max(1, int(max(window.width * across, window.height * down)) // _CROP_PX)
                return np.ascontiguousarray(rgba[rows, cols][::step, ::step])
        if window.width * window.height > _MAX_CROPPED_PX:
            raise UnreadablePixels(f"a crop of it would take too long to decode; {scene.href}")
        return quicklook(scene, self._stretches[scene.scene_id], _CROP_PX, window_scene_px=window)


def _in_scene_px(scene: Scene, geometry: Any, transformer: Transformer) -> Any:  # noqa: ANN401
    a, b, c, d, e, f = (~scene.geobox.affine)[:6]

    def placed(xy: NDArray[np.float64]) -> NDArray[np.float64]:
        x, y = transformer.transform(xy[:, 0], xy[:, 1])
        return np.column_stack([a * x + b * y + c, d * x + e * y + f])

    return shapely.transform(geometry, placed)


def _around(bounds: tuple[float, float, float, float], shape: tuple[int, int]) -> Window:
    """A square about the bounds, half as large again, moved into the scene."""
    x0, y0, x1, y1 = bounds
    side = int(max(24.0, 1.5 * max(x1 - x0, y1 - y0)))
    width, height = min(side, shape[1]), min(side, shape[0])
    left = int(np.clip((x0 + x1) / 2 - width / 2, 0, shape[1] - width))
    top = int(np.clip((y0 + y1) / 2 - height / 2, 0, shape[0] - height))
    return Window(left, top, left + width, top + height)


def _path(outline: Any, window: Window, scale: tuple[float, float]) -> str:  # noqa: ANN401
    simple = shapely.simplify(outline, 0.5 / min(scale))
    parts = []
    for polygon in shapely.get_parts(simple):
        if polygon.geom_type != "Polygon":
            continue
        for ring in (polygon.exterior, *polygon.interiors):
            xy = (shapely.get_coordinates(ring) - [window.x0, window.y0]) * scale
            parts.append("M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in xy.tolist()) + "Z")
    return "".join(parts)
