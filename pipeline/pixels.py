"""Raw pixels of an open scene: bands as the file holds them, and which of them are data."""

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, Resampling
from rasterio.windows import Window as RasterioWindow

from pipeline.rasters import CACHE_BYTES, RASTER_ERRORS, UNFETCHED, default_warp, version_of
from pipeline.scenes import Scene
from pipeline.stacks import Stack, open_files
from pipeline.texts import one_line
from pipeline.tiling import Window
from t2s_core.errors import T2sError

_STRIP_PX = 512
"""Rows that are looked at together where all bands of a window must be."""


class UnreadablePixels(T2sError):
    """Pixels that cannot be decoded or fetched. One line: reason, window, href. Never taken for "nothing there"."""


@contextmanager
def open_scene(scene: Scene, *, cache_bytes: int = CACHE_BYTES) -> Iterator[Any]:
    """A `rasterio` dataset on the scene's grid; a scene with only ground control points comes warped.

    For the thread that opens it: GDAL datasets may not cross threads, so each thread opens its own.
    `cache_bytes`: see `open_raster`.
    Raises `UnreadablePixels` if the file no longer opens or is another version than the scene was made from.
    """
    with ExitStack() as stack:
        try:
            files = stack.enter_context(open_files(scene.addresses, at_once=True, cache_bytes=cache_bytes))
            if scene.parts:
                opened = Stack([(file, part.band) for file, part in zip(files, scene.parts, strict=True)])
                version = opened.version(scene.addresses)
            else:
                version = version_of(scene.addresses[0], files[0])
                opened = stack.enter_context(default_warp(files[0])) if scene.warped else files[0]
        except RASTER_ERRORS as error:
            raise UnreadablePixels(f"cannot be opened: {one_line(error)}; {scene.href}") from error
        if version != scene.etag or opened.shape != scene.shape:
            # results are filed under the version that was planned: pixels of another one would be lies
            raise UnreadablePixels(f"the file has changed since the run began; run again; {scene.href}")
        yield opened


def read_bands(
    dataset: Any,  # noqa: ANN401 -- rasterio ships no types
    scene: Scene,
    window_scene_px: Window,
    out_shape: tuple[int, int] | None = None,
    resampling: Resampling = Resampling.nearest,
) -> NDArray[Any]:
    """(3, height, width) of the scene's dtype, in the order red, green, blue; palette scenes give indices.

    `window_scene_px` lies within the scene. `out_shape` (height, width) resamples, from overviews where there are some.
    Raises `UnreadablePixels`.
    """
    distinct = list(dict.fromkeys(scene.bands))
    bands = _read(dataset, scene, window_scene_px, distinct, out_shape, resampling=resampling)
    return bands if len(distinct) == len(scene.bands) else bands[[distinct.index(b) for b in scene.bands]]


def valid_pixels(dataset: Any, scene: Scene, window_scene_px: Window, bands: NDArray[Any]) -> NDArray[np.bool_]:  # noqa: ANN401
    """(height, width) of `bands`, True is data.

    `bands` is what `read_bands` gave for the same window: masks are read at its resolution. See `NodataRule`.
    """
    return valid_values(scene, bands) & outside_pixels(dataset, scene, window_scene_px, bands.shape[1:])


def valid_values(scene: Scene, bands: NDArray[Any]) -> NDArray[np.bool_]:
    """(height, width) of `bands`, True where their values are data, whatever masks say."""
    valid = np.ones(bands.shape[1:], dtype=np.bool_)
    if bands.dtype.kind == "f":
        for band in bands:
            valid &= np.isfinite(band)
    if scene.nodata.kind == "value":
        valid &= ~_all_equal(bands, scene.nodata.value)
    return valid


def outside_pixels(
    dataset: Any,  # noqa: ANN401
    scene: Scene,
    window_scene_px: Window,
    shape: tuple[int, int],
) -> NDArray[np.bool_]:
    """(height, width), `shape`: what mask and alpha bands say; True is data. True all over where there is neither."""
    if scene.nodata.kind == "alpha" or scene.warped:  # a warp's footprint is in its alpha band
        alpha = dataset.colorinterp.index(ColorInterp.alpha) + 1
        mask = _read(dataset, scene, window_scene_px, [alpha], shape)[0]
    elif scene.nodata.kind == "mask":
        with _decoding(scene, window_scene_px):
            mask = dataset.read_masks(scene.bands[0], window=_rasterio_window(window_scene_px), out_shape=shape)
    else:
        return np.ones(shape, dtype=np.bool_)
    return np.asarray(mask != 0, dtype=np.bool_)


def native_valid(dataset: Any, scene: Scene, window_scene_px: Window) -> NDArray[np.bool_]:  # noqa: ANN401
    """(height, width) of the window, True is data.

    Reads bands only where the rule looks at them, and then in strips: a coarse level's window is large.
    """
    if scene.nodata.kind == "value" or scene.dtype.startswith("float"):
        x0, y0, x1, y1 = window_scene_px
        strips = [Window(x0, y, x1, min(y + _STRIP_PX, y1)) for y in range(y0, y1, _STRIP_PX)]
        return np.concatenate([valid_pixels(dataset, scene, s, read_bands(dataset, scene, s)) for s in strips])
    return outside_pixels(dataset, scene, window_scene_px, (window_scene_px.height, window_scene_px.width))


def palette(dataset: Any, scene: Scene) -> NDArray[np.uint8] | None:  # noqa: ANN401
    """(n, 3) RGB of each palette index, or None if the scene's band has no palette."""
    if len(set(scene.bands)) > 1 or dataset.colorinterp[scene.bands[0] - 1] != ColorInterp.palette:
        return None
    # a WarpedVRT has no colour table of its own
    entries = getattr(dataset, "src_dataset", dataset).colormap(scene.bands[0])
    table = np.zeros((max(entries) + 1, 3), dtype=np.uint8)
    for index, rgba in entries.items():
        table[index] = rgba[:3]
    return table


def _all_equal(bands: NDArray[Any], value: float | None) -> NDArray[np.bool_]:
    """(height, width): True where every band has the value."""
    assert value is not None
    # NumPy would turn integers into floats to compare them with one
    same = int(value) if bands.dtype.kind in "iu" and value.is_integer() else value
    equal: NDArray[np.bool_] = bands[0] == same
    for band in bands[1:]:
        if not equal.any():
            break
        equal &= band == same
    return equal


def _read(
    dataset: Any,  # noqa: ANN401
    scene: Scene,
    window_scene_px: Window,
    bands: Sequence[int],
    out_shape: tuple[int, int] | None,
    *,
    resampling: Resampling = Resampling.nearest,
) -> NDArray[Any]:
    shape = (len(bands), *(out_shape or (window_scene_px.height, window_scene_px.width)))
    with _decoding(scene, window_scene_px):
        window = _rasterio_window(window_scene_px)
        pixels: NDArray[Any] = dataset.read(bands, window=window, out_shape=shape, resampling=resampling)
    return pixels


def _rasterio_window(window_scene_px: Window) -> RasterioWindow:
    return RasterioWindow(window_scene_px.x0, window_scene_px.y0, window_scene_px.width, window_scene_px.height)


@contextmanager
def _decoding(scene: Scene, window_scene_px: Window) -> Iterator[None]:
    """Turns what goes wrong while GDAL decodes into `UnreadablePixels`."""
    where = f"window {tuple(window_scene_px)}; {scene.href}"
    complaints = _Complaints()
    for log in _COMPLAINING:
        log.addHandler(complaints)
    try:
        yield
    except RASTER_ERRORS as error:
        reason = one_line(complaints.texts[0] if complaints.texts else error.__cause__ or error)
        raise UnreadablePixels(f"pixels cannot be read: {reason}; {where}") from error
    finally:
        for log in _COMPLAINING:
            log.removeHandler(complaints)
    if complaints.texts:
        raise UnreadablePixels(f"pixels are damaged: {complaints.texts[0]}; {where}")


_COMPLAINING = (logging.getLogger("rasterio._err"), UNFETCHED)


class _Complaints(logging.Handler):
    """What is only logged where pixels are not what they should be, of this thread.

    libjpeg warns where data is damaged, and fills up with grey; rasterio logs the warning: the one trace of it. GDAL
    keeps decoded blocks, so a second reading of the same damage may get no warning: open the scene anew before it.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        of_jpeg = "JPEG" in text and ("Corrupt" in text or "Premature" in text)
        if record.thread == self._thread and (of_jpeg or record.name == UNFETCHED.name):
            self.texts.append(" ".join(text.split()))
