"""Pictures of scenes where they lie on the map, and of single features."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import CRS
from rasterio import crs as raster_crs
from rasterio import warp
from rasterio.enums import Resampling
from rasterio.transform import Affine

from pipeline.geodesy import to_crs
from pipeline.georef import proj_crs
from pipeline.normalise import Stretch
from pipeline.pixels import UnreadablePixels, open_scene
from pipeline.quicklook import CACHE_BYTES, data_url, decoded, read_quicklook
from pipeline.rasters import RASTER_ERRORS, is_url
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
_AT_ONCE = 4
"""Scenes that are read at the same time: mostly waiting, where they are far away."""


@dataclass(frozen=True)
class Shown:
    """A scene that is drawn."""

    scene: Scene
    stretch: Stretch

    @classmethod
    def of(cls, entry: Mapping[str, Any], signed: Mapping[str, tuple[str, ...]]) -> Self:
        """Of a manifest's entry. `signed`: by scene, the addresses that open, where the manifest's lack a signature."""
        scene = Scene.from_json(dict(entry))
        return cls(replace(scene, signed=signed.get(scene.scene_id, ())), Stretch.from_json(entry["stretch"]))


@dataclass(frozen=True)
class Quicklook:
    """A scene's picture: as it was read, and where its page's one lies."""

    scene: Scene
    rgba: RGBA
    """In the scene's own frame: what features are cut from."""
    url: str
    box: tuple[float, float, float, float]
    """left, bottom, right, top on the map."""


@dataclass(frozen=True)
class _Read:
    """What came of reading a scene's picture."""

    needed_px: int = 0
    """That GDAL decodes for it."""
    look: Quicklook | None = None
    problem: str = ""
    """Why there is none; where neither it nor a picture is there, too much would have been decoded."""


def quicklooks(
    shown: Sequence[Shown], frame: MapFrame, *, max_bytes: int, decode_mpx: float, way_out: str = ""
) -> tuple[list[Quicklook], list[str]]:
    """Pictures of scenes, and notes on those that have none.

    What `decode_mpx` allows is first shared out evenly, and what some leave of it goes to the others in their order.
    `way_out`: who draws a picture that would take more.
    """
    n = max(1, len(shown))
    longest_px = int(np.clip(np.sqrt(_ALL_PX / n), _SHORTEST_PX, _LONGEST_PX))
    left_px = decode_mpx * 1e6

    def read(one: Shown, most_px: float) -> _Read:
        try:
            return _read(one, longest_px, most_px, frame=frame, max_bytes=max_bytes // n)
        except UnreadablePixels as error:
            return _Read(problem=f"No picture of {one.scene.scene_id}: {error}{_way_out(one.scene)}")

    with ThreadPoolExecutor(_AT_ONCE) as readers:
        found = list(readers.map(lambda one: read(one, decode_mpx * 1e6 / n), shown))
    left_px -= sum(one.needed_px for one in found if one.look is not None)
    for i, (one, first) in enumerate(zip(shown, found, strict=True)):
        if first.look is None and not first.problem:
            if first.needed_px <= left_px:
                left_px -= first.needed_px
                found[i] = read(one, np.inf)
            else:
                found[i] = replace(first, problem=_too_dear(one.scene, first.needed_px, way_out))
    return [one.look for one in found if one.look is not None], [one.problem for one in found if one.problem]


def _too_dear(scene: Scene, needed_px: int, way_out: str) -> str:
    return (
        f"No picture of {scene.scene_id}: it has no overviews, and to decode {needed_px / 1e6:,.0f} Mpx "
        f"takes longer than this page should; {way_out}gdaladdo makes overviews."
    )


def _way_out(scene: Scene) -> str:
    if scene.signed or not is_url(scene.href):
        return ""
    return " (where it wants a signature: t2s report OUT with the signed address draws it)"


def _read(one: Shown, longest_px: int, most_px: float, *, frame: MapFrame, max_bytes: int) -> _Read:
    height, width = one.scene.shape
    whole = Window(0, 0, width, height)
    with open_scene(one.scene, cache_bytes=CACHE_BYTES) as dataset:
        needed_px = decoded(dataset, one.scene, whole, max(1.0, max(height, width) / longest_px))
        if needed_px > most_px:
            return _Read(needed_px)
        rgba = read_quicklook(dataset, one.scene, one.stretch, longest_px, window_scene_px=whole)
    return _Read(needed_px, _placed(one.scene, rgba, frame, max_bytes))


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

    def __init__(self, shown: Sequence[Shown], looks: Sequence[Quicklook]) -> None:
        self._shown = {one.scene.scene_id: one for one in shown}
        self._looks = {look.scene.scene_id: look.rgba for look in looks}

    def crops(self, wanted: Sequence[tuple[str, Any]], crs: CRS) -> list[Crop | None]:
        """Of (scene id, geometry) in `crs`; None where there is no picture. Each scene is opened once."""
        of_scene: dict[str, list[int]] = {}
        for i, (scene_id, _) in enumerate(wanted):
            of_scene.setdefault(scene_id, []).append(i)
        found: list[Crop | None] = [None] * len(wanted)

        def cut(scene_id: str) -> None:
            with _Cutter(self._shown[scene_id], self._looks.get(scene_id)) as cutter:
                for i in of_scene[scene_id]:
                    found[i] = cutter.crop(wanted[i][1], crs)

        with ThreadPoolExecutor(_AT_ONCE) as readers:
            for _ in readers.map(cut, of_scene):
                pass
        return found


class _Cutter(ExitStack):
    """Of one scene, which is opened with the first crop that its picture is too coarse for; in one thread."""

    def __init__(self, shown: Shown, look: RGBA | None) -> None:
        super().__init__()
        self._scene, self._stretch, self._look = shown.scene, shown.stretch, look
        self._dataset: Any = None

    def crop(self, geometry: Any, crs: CRS) -> Crop | None:  # noqa: ANN401
        """None where there is no picture."""
        outline = _in_scene_px(self._scene, geometry, crs)
        window = _around(outline.bounds, self._scene.shape)
        try:
            rgba = self._rgba(window)
        except UnreadablePixels:  # the file is gone or this part of it is damaged: the report says so elsewhere
            return None
        height, width = rgba.shape[:2]
        scale = width / window.width, height / window.height
        return Crop(data_url(rgba, quality=70), width, height, _path(outline, window, scale))

    def _rgba(self, window: Window) -> RGBA:
        look, (height, width) = self._look, self._scene.shape
        if look is not None:
            across, down = look.shape[1] / width, look.shape[0] / height
            if max(window.width * across, window.height * down) >= min(_CROP_PX, window.width, window.height):
                rows = slice(int(window.y0 * down), max(1, round(window.y1 * down)))
                cols = slice(int(window.x0 * across), max(1, round(window.x1 * across)))
                step = max(1, int(max(window.width * across, window.height * down)) // _CROP_PX)
                return np.ascontiguousarray(look[rows, cols][::step, ::step])
        if window.width * window.height > _MAX_CROPPED_PX:
            raise UnreadablePixels(f"a crop of it would take too long to decode; {self._scene.href}")
        if self._dataset is None:
            self._dataset = self.enter_context(open_scene(self._scene, cache_bytes=CACHE_BYTES))
        return read_quicklook(self._dataset, self._scene, self._stretch, _CROP_PX, window_scene_px=window)


def _in_scene_px(scene: Scene, geometry: Any, crs: CRS) -> Any:  # noqa: ANN401
    a, b, c, d, e, f = (~scene.geobox.affine)[:6]
    transformer = to_crs(crs, proj_crs(scene.geobox))

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
