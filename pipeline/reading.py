"""The pixels of batch after batch of one scene, or the reasons why they could not be had."""

import time
from collections.abc import Generator, Iterable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from pipeline.normalise import Stretch
from pipeline.plan import Batch, PlannedTile
from pipeline.read import TilePixels, UnreadablePixels, open_scene, read_windows, together
from pipeline.scenes import Scene
from pipeline.tiling import Window


@dataclass(frozen=True, slots=True)
class ReadBatch:
    """A batch with its pixels."""

    batch: Batch
    pixels: tuple[TilePixels | str, ...]
    """For each tile; the reason where it cannot be read. Data is what the scene and the area of interest both cover."""
    read_s: float


def read_batches(
    scene: Scene, batches: Iterable[Batch], tile_px: int, stretch: Stretch, *, fault: str = ""
) -> Generator[ReadBatch, None, None]:
    """Read batch after batch, the scene opened once for all. One thread must run it: GDAL datasets may not cross.

    `fault`: see `ScenePlan.fault`; where there is one, nothing is opened. Unreadable pixels raise nothing.
    """
    with closing(_SceneReader(scene, tile_px, stretch)) as reader:
        for batch in batches:
            start_s = time.perf_counter()
            windows = [tile.window_scene_px for tile in batch.tiles]
            pixels = reader.read(windows) if not fault else [fault] * len(windows)
            inside = tuple(_within_aoi(tile, found) for tile, found in zip(batch.tiles, pixels, strict=True))
            yield ReadBatch(batch, inside, time.perf_counter() - start_s)


class _SceneReader:
    """A scene that is opened when it is first read, and anew after damage."""

    def __init__(self, scene: Scene, tile_px: int, stretch: Stretch) -> None:
        self._scene, self._tile_px, self._stretch = scene, tile_px, stretch
        self._opened = ExitStack()
        self._dataset: Any = None

    def read(self, windows_scene_px: Sequence[Window]) -> list[TilePixels | str]:
        """Each window's pixels, or the reason why it has none."""
        try:
            dataset = self._open()
        except UnreadablePixels as error:
            return [str(error)] * len(windows_scene_px)
        groups = together(dataset, windows_scene_px, self._tile_px)
        return [pixels for group in groups for pixels in self._read(group)]

    def close(self) -> None:
        self._opened.close()
        self._dataset = None

    def _open(self) -> Any:  # noqa: ANN401 -- rasterio ships no types
        if self._dataset is None:
            self._dataset = self._opened.enter_context(open_scene(self._scene))
        return self._dataset

    def _read(self, windows_scene_px: Sequence[Window]) -> list[TilePixels | str]:
        """After damage each window is read alone: only those that touch it fail."""
        try:
            return [*read_windows(self._open(), self._scene, windows_scene_px, self._tile_px, self._stretch)]
        except UnreadablePixels as error:
            # GDAL keeps blocks that libjpeg filled up with grey: another reading would raise no complaint
            self.close()
            if len(windows_scene_px) == 1:
                return [str(error)]
        return [pixels for window in windows_scene_px for pixels in self._read([window])]


def _within_aoi(tile: PlannedTile, pixels: TilePixels | str) -> TilePixels | str:
    if tile.aoi_scene_px is None or isinstance(pixels, str):
        return pixels
    return replace(pixels, valid=pixels.valid & _inside(tile.aoi_scene_px, tile.window_scene_px))


def _inside(aoi_scene_px: bytes, window: Window) -> NDArray[np.bool_]:
    """(height, width) of the window, True where a pixel's centre is in the area of interest."""
    from rasterio.features import geometry_mask
    from rasterio.transform import Affine

    inside: NDArray[np.bool_] = geometry_mask(
        [shapely.from_wkb(aoi_scene_px)],
        out_shape=(window.height, window.width),
        transform=Affine.translation(window.x0, window.y0),
        invert=True,
    )
    return inside
