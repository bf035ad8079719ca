"""Truth on a chip's grid: for a query, which pixels are target and of which anything is known."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self, TypeAlias

import numpy as np
import rasterio
import rasterio.crs
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.features import rasterize
from rasterio.vrt import WarpedVRT
from shapely.geometry.base import BaseGeometry

from pipeline.aoi import Aoi, aoi_in_scene_px
from pipeline.curate_corrections import CorrectedLayer
from pipeline.curate_labels import RasterLayer, VectorLayer
from pipeline.mosaics import group_path, read_window
from pipeline.pixels import UnreadablePixels
from pipeline.rasters import RASTER_ERRORS, open_raster
from pipeline.scenes import Scene
from pipeline.stitch import NOBODY_LOOKED
from pipeline.texts import one_line
from pipeline.tiling import Window

_TOLERANCE_PX = 1e-6
"""How far GDAL's approximate transform may stray. Its default of an eighth of a pixel takes neighbours of the nearest
pixel; 0 is refused by rasterio."""

Layer: TypeAlias = VectorLayer | RasterLayer | CorrectedLayer


@dataclass(frozen=True, slots=True)
class ChipGrid:
    """The pixels of a chip."""

    window_scene_px: Window
    """A square; may leave a scene that is smaller than a tile."""
    level: int
    """Overview factor: a chip pixel is `level` x `level` scene pixels."""

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) in chip pixels."""
        return self.window_scene_px.height // self.level, self.window_scene_px.width // self.level

    @property
    def to_scene_px(self) -> Affine:
        """From chip pixels to scene pixels."""
        return Affine.translation(self.window_scene_px.x0, self.window_scene_px.y0) @ Affine.scale(self.level)

    def at_middles(self, native: NDArray[Any]) -> NDArray[Any]:
        """(window height, window width) of scene pixels to the chip's shape: the pixel at each chip pixel's middle."""
        half = self.level // 2
        return native[half :: self.level, half :: self.level]


@dataclass(frozen=True, slots=True)
class Seen:
    """What a layer says of one query on one chip."""

    target: NDArray[np.bool_]
    """(height, width): True where the target is."""
    known: NDArray[np.bool_]
    """(height, width): True where the layer is complete, so that what is not target is background."""


class Truth(Protocol):
    """One layer over one scene. For one thread."""

    @property
    def keys(self) -> frozenset[str]:
        """Keys of the queries that it knows of."""
        ...

    def on(self, grid: ChipGrid, key: str) -> Seen:
        """What it says of a query that it knows of. Raises `UnreadablePixels`."""
        ...


class SceneTruth:
    """All layers over one scene, together: a target in one of them is a target."""

    def __init__(self, layers: Sequence[Layer], scene: Scene, keys_of_ids: Mapping[str, str]) -> None:
        """`keys_of_ids`: key by query_id, for the layers of runs."""
        self._layers, self._scene, self._keys_of_ids = layers, scene, keys_of_ids
        self._stack = ExitStack()
        self._truths: list[Truth] = []

    def __enter__(self) -> Self:
        """Raises `UnreadablePixels` where a mask raster no longer opens."""
        with ExitStack() as stack:
            for layer in self._layers:
                self._truths.append(stack.enter_context(_truth_of(layer, self._scene, self._keys_of_ids)))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    @property
    def keys(self) -> list[str]:
        """Of all queries that a layer knows of, sorted."""
        return sorted({key for truth in self._truths for key in truth.keys})

    def on(self, grid: ChipGrid, key: str) -> Seen:
        """What all layers that know the query say together."""
        seen = [truth.on(grid, key) for truth in self._truths if key in truth.keys]
        target = np.logical_or.reduce([s.target for s in seen])
        return Seen(target, np.logical_or.reduce([target, *(s.known for s in seen)]))


def _truth_of(layer: Layer, scene: Scene, keys_of_ids: Mapping[str, str]) -> AbstractContextManager[Truth]:
    if isinstance(layer, RasterLayer):
        return _RasterTruth(layer, scene)
    if isinstance(layer, VectorLayer):
        return nullcontext(_VectorTruth(layer, scene))
    return nullcontext(_CorrectedTruth(layer, scene, keys_of_ids))


class _Shapes:
    """Polygons in scene pixels, drawn where they are wanted."""

    def __init__(self, area: BaseGeometry, crs: str, scene: Scene) -> None:
        inside = area if area.is_empty else aoi_in_scene_px(Aoi("", area, crs), scene)
        self._tree = shapely.STRtree(shapely.get_parts(inside))

    def on(self, grid: ChipGrid) -> NDArray[np.bool_]:
        """(height, width): True where a pixel's middle is inside."""
        found = self._tree.geometries[np.sort(self._tree.query(shapely.box(*grid.window_scene_px)))]
        if not len(found):
            return np.zeros(grid.shape, np.bool_)
        drawn = rasterize(list(found), out_shape=grid.shape, transform=grid.to_scene_px, dtype="uint8")
        return np.asarray(drawn, np.bool_)


class _VectorTruth:
    def __init__(self, layer: VectorLayer, scene: Scene) -> None:
        self._targets = {key: _Shapes(area, layer.crs, scene) for key, area in layer.areas.items()}
        self._cover = _Shapes(layer.cover.geometry, layer.cover.crs, scene)

    @property
    def keys(self) -> frozenset[str]:
        return frozenset(self._targets)

    def on(self, grid: ChipGrid, key: str) -> Seen:
        return Seen(self._targets[key].on(grid), self._cover.on(grid))


class _CorrectedTruth:
    def __init__(self, layer: CorrectedLayer, scene: Scene, keys_of_ids: Mapping[str, str]) -> None:
        ids = sorted(query_id for scene_id, query_id in layer.reviewed if scene_id == scene.scene_id)
        self._ids = {keys_of_ids[query_id]: query_id for query_id in ids}
        self._targets = {
            key: _Shapes(layer.area_of(scene.scene_id, query_id), layer.crs, scene)
            for key, query_id in self._ids.items()
        }
        self._cover = None if layer.cover is None else _Shapes(layer.cover.geometry, layer.cover.crs, scene)
        self._store, self._scene = layer.run.store, scene

    @property
    def keys(self) -> frozenset[str]:
        return frozenset(self._ids)

    def on(self, grid: ChipGrid, key: str) -> Seen:
        known = self._looked(grid, self._ids[key])
        if self._cover is not None:
            known &= self._cover.on(grid)
        return Seen(self._targets[key].on(grid), known)

    def _looked(self, grid: ChipGrid, query_id: str) -> NDArray[np.bool_]:
        """Where the run has an answer."""
        window = grid.window_scene_px
        height, width = self._scene.shape
        inside = window.intersection(Window(0, 0, width, height))
        looked = np.zeros((window.height, window.width), np.bool_)
        if inside is not None:
            _, mask = read_window(self._store, group_path(self._scene.scene_id, query_id), inside)
            looked[inside.slices_in(window)] = mask != NOBODY_LOOKED
        return np.ascontiguousarray(grid.at_middles(looked))


class _RasterTruth:
    def __init__(self, layer: RasterLayer, scene: Scene) -> None:
        self._layer, self._scene = layer, scene
        self._stack = ExitStack()
        self._last: tuple[ChipGrid, NDArray[Any], NDArray[np.bool_]] | None = None

    def __enter__(self) -> Self:
        try:
            self._dataset = self._stack.enter_context(open_raster(self._layer.href))
        except RASTER_ERRORS as error:
            raise UnreadablePixels(f"cannot be opened: {error}; {self._layer.href}") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    @property
    def keys(self) -> frozenset[str]:
        return frozenset(self._layer.values)

    def on(self, grid: ChipGrid, key: str) -> Seen:
        if self._last is None or self._last[0] != grid:  # a chip's queries come one after the other
            self._last = (grid, *self._warped(grid))
        _, values, known = self._last
        wanted = self._layer.values[key]
        target = values > 0 if wanted is None else np.isin(values, sorted(wanted))
        return Seen(target & known, known)

    def _warped(self, grid: ChipGrid) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Class values by the nearest pixel, and where there are some."""
        height, width = grid.shape
        nodata = self._dataset.nodata
        options = {"nodata": nodata} if nodata is not None else {"add_alpha": True}
        try:
            with WarpedVRT(
                self._dataset,
                crs=rasterio.crs.CRS.from_user_input(str(self._scene.geobox.crs)),
                transform=self._scene.geobox.affine @ grid.to_scene_px,
                height=height,
                width=width,
                resampling=Resampling.nearest,
                tolerance=_TOLERANCE_PX,
                **options,
            ) as warped:
                values = warped.read(1)
                known = values != nodata if nodata is not None else warped.read(2) != 0
        except (*RASTER_ERRORS, rasterio.errors.CRSError) as error:
            raise UnreadablePixels(
                f"pixels cannot be read: {one_line(error)}; window {tuple(grid.window_scene_px)}; {self._layer.href}"
            ) from error
        return values, np.asarray(known, np.bool_)
