"""Opening raster files, local or remote: the only place that knows about drivers and virtual filesystems."""

import hashlib
import json
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import fsspec
import rasterio
from rasterio._err import CPLE_BaseError
from rasterio.abc import FileContainer, MultiByteRangeResourceContainer
from rasterio.enums import Resampling
from rasterio.errors import RasterioError, RasterioIOError
from rasterio.session import DummySession
from rasterio.vrt import WarpedVRT

from pipeline.credentials import public
from pipeline.vrts import beside_problem, is_vrt, vrt_problem

logger = logging.getLogger(__name__)
UNFETCHED = logger.getChild("unfetched")
"""Hears, in the thread that reads, of bytes of a remote file that could not be had: see `_RemoteFile`."""

DRIVERS = ("GTiff", "VRT", "JP2OpenJPEG")
"""GDAL drivers that may look at a file. All others stay shut: formats nobody asked for are only a way to attack us."""

RASTER_ERRORS = (RasterioError, CPLE_BaseError, OSError)
"""What opening and reading raise. Of what rasterio reads late (colours, say) GDAL's own errors come through."""

_BLOCK_BYTES = 256 * 1024
CACHE_BYTES = 128 * 2**20
"""Decoded blocks that a process keeps: what lies under four rows of 512 px tiles of three 16-bit bands, 12,000 px wide,
so that the next four rows decode none of them again. GDAL's own choice, a twentieth of the machine, is too much where
there is a process for each of many cores, and grows with the scene up to there."""
_LOCKED = {
    "GDAL_VRT_ENABLE_PYTHON": "NO",
    "CPL_VSIL_CURL_ALLOWED_FILENAME": "none",
    "GDAL_HTTP_PROXY": "http://127.0.0.1:0",
    "GDAL_NUM_THREADS": "1",
}
"""What no environment may loosen. GDAL runs no code of a file and fetches nothing, for URLs are fsspec's business. It
decodes in the thread that reads: what goes wrong in its own threads, with JPEG 2000, is lost and looks like pixels."""
_VERSION_KEYS = ("ETag", "etag", "md5Hash", "generation", "LastModified", "last_modified", "mtime", "created")


def is_url(href: str) -> bool:
    """True for what fsspec opens, False for a local path."""
    return "://" in href


@contextmanager
def open_raster(
    href: str, *, at_once: bool = False, overview_level: int | None = None, cache_bytes: int = CACHE_BYTES
) -> Iterator[Any]:
    """A `rasterio.DatasetReader`, for one thread. Raises `RasterioIOError` where no driver of `DRIVERS` reads the file.

    What makes GDAL open more than the file itself is looked at first: see `vrts`. A VRT behind a URL is not opened.
    URLs are read through fsspec, as outputs are written, so that one set of credentials serves both. Files beside them
    (`.msk`, `.ovr`, `.aux.xml`) are not looked for: a URL means what is in the file.

    Args:
        href: a path or a URL.
        at_once: all blocks of a window are asked for together, which only who listens to `UNFETCHED` may ask for.
        overview_level: from 0, where an overview is to be opened in place of the raster.
        cache_bytes: decoded blocks that are kept, at most. GDAL has one cache for the process: the last to open says.
    """
    files = _RemoteFilesAtOnce if at_once else _RemoteFiles
    options: dict[str, Any] = {"opener": files(href)} if is_url(href) else {}
    if overview_level is not None:
        options["overview_level"] = overview_level
    # credentials are fsspec's business: no session, for rasterio would make one of boto3 each time
    env = rasterio.Env(session=DummySession(), **_settings(href, cache_bytes))
    if not is_url(href):
        _check_what_it_opens(Path(href))
    # of a VRT behind a URL, nobody could look at the sources first
    drivers = tuple(d for d in DRIVERS if d != "VRT" or not is_url(href))
    with env, _first_that_opens(href, drivers, options) as dataset:
        if dataset.tags(ns="OVERVIEWS"):
            raise RasterioIOError("names a file of overviews elsewhere, which is not opened; `gdaladdo -clean` it")
        yield dataset


def _check_what_it_opens(path: Path) -> None:
    """Raises `RasterioIOError` where GDAL would open more for a local file than it may."""
    if path.is_file():  # else the drivers say what is wrong
        problem = vrt_problem(path) if is_vrt(path) else beside_problem(path)
        if problem is not None:
            raise RasterioIOError(problem)


def _settings(href: str, cache_bytes: int) -> dict[str, Any]:
    """GDAL's settings for reading a file. What the user's environment says goes first."""
    settings: dict[str, Any] = {"GDAL_CACHEMAX": cache_bytes}
    if is_url(href):
        # GDAL would ask the server for a hundred files that might lie beside this one
        settings["GDAL_DISABLE_READDIR_ON_OPEN"] = "EMPTY_DIR"
    return {key: value for key, value in settings.items() if key not in os.environ} | _LOCKED


@contextmanager
def default_warp(dataset: Any) -> Iterator[Any]:  # noqa: ANN401 -- rasterio ships no types
    """A dataset that has only ground control points, warped to their CRS by GDAL's default transform.

    Nearest neighbour, so that nodata values and palette indices survive; the last band is the footprint (0 = outside)
    unless the dataset has an alpha band, which then says it. Raises `RasterioIOError` where the points place no grid.
    """
    crs = dataset.gcps[1]
    has_alpha = any(c.name == "alpha" for c in dataset.colorinterp)
    try:
        # No transform is passed: with one, GDAL 3.10 ignores the control points and gives zeros.
        warped = WarpedVRT(
            dataset,
            src_crs=crs,
            crs=crs,
            src_nodata=None,
            nodata=None,
            add_alpha=not has_alpha,
            resampling=Resampling.nearest,
        )
    except CPLE_BaseError as error:  # here alone rasterio lets GDAL's own errors through
        raise RasterioIOError(f"ground control points place no grid: {error}") from error
    with warped:
        yield warped


def missing_files(dataset: Any) -> list[str]:  # noqa: ANN401
    """Local files that a dataset (a VRT, say) is made of and that are not there."""
    return [f for f in dataset.files if not f.startswith("/vsi") and not is_url(f) and not Path(f).exists()]


def version_of(href: str, dataset: Any) -> str:  # noqa: ANN401
    """32 hex digits that change whenever the file does, without reading it.

    Local: names, sizes and modification times of the file and what belongs to it (masks, overviews, a VRT's sources).
    A file that is merely touched counts as new: that costs time, never truth. `.aux.xml` is left out, for viewers
    write statistics there, and what we use of it (CRS, nodata) is in the scene. Remote: the store's ETag or, where it
    has none, all it says about the object's version; side-car files are not looked at.
    """
    if is_url(href):
        facts = _remote_facts(href)
    else:
        facts = [_local_facts(Path(f)) for f in sorted(dataset.files) if not f.endswith(".aux.xml")]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]


def _local_facts(path: Path) -> list[str]:
    if not path.exists():  # inside an archive or remote: the VRT that names it is all we know
        return [str(path)]
    stat = path.stat()
    return [path.name, str(stat.st_size), str(stat.st_mtime_ns)]


def _remote_facts(href: str) -> list[list[str]]:
    try:
        fs, path = fsspec.core.url_to_fs(href)
        info = fs.info(path)
    except Exception as error:
        raise OSError(
            f"its version cannot be asked for: {error}"
        ) from error  # every store's client raises its own kinds
    known = [[key, str(info[key])] for key in _VERSION_KEYS if info.get(key)]
    if not known:
        logger.warning("%s: the server names no version; a change that keeps the size goes unnoticed", public(href))
    tags = [pair for pair in known if pair[0].lower() == "etag"]
    return [*(tags or known), ["size", str(info.get("size"))]]


@contextmanager
def _first_that_opens(href: str, drivers: Sequence[str], options: dict[str, Any]) -> Iterator[Any]:
    errors: list[RasterioIOError] = []
    for driver in drivers:
        try:
            dataset = rasterio.open(href, driver=driver, **options)
        except RasterioIOError as error:
            errors.append(error)
            continue
        with dataset:
            yield dataset
        return
    raise errors[0]


class _RemoteFile:
    """One open object, of which GDAL asks all blocks of a window at once."""

    def __init__(self, fs: Any, path: str) -> None:  # noqa: ANN401 -- fsspec ships no types
        self._fs, self._path, self._file = fs, path, _open(fs, path)

    def get_byte_ranges(self, offsets: list[int], sizes: list[int]) -> list[bytes]:
        """Concurrently. GDAL has joined ranges that follow one another.

        Raises nothing, for rasterio would leave the exception pending in the interpreter: where bytes cannot be had,
        the reason goes to `UNFETCHED` and zeros stand in for the bytes.
        """
        ends = [offset + size for offset, size in zip(offsets, sizes, strict=True)]
        try:
            found = self._fs.cat_ranges([self._path] * len(offsets), offsets, ends, on_error="raise")
        except Exception as error:  # noqa: BLE001 -- every store's client raises its own kinds
            UNFETCHED.error("bytes cannot be fetched: %s", repr(error))
            found = []
        if [len(part) for part in found] == sizes:
            return [bytes(part) for part in found]
        if found:
            UNFETCHED.error("the file ends before byte %d, which its header names", max(ends))
        return [bytes(size) for size in sizes]

    def read(self, n: int = -1) -> bytes:
        return bytes(self._file.read(n))

    def seek(self, offset: int, whence: int = 0) -> int:
        return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _open(fs: Any, path: str) -> Any:  # noqa: ANN401
    # small blocks: fsspec's own read-ahead fetches 50 MB for one header
    return fs.open(path, "rb", block_size=_BLOCK_BYTES, cache_type="blockcache")


class _RemoteFiles(FileContainer):  # type: ignore[misc]
    """What rasterio needs of a filesystem."""

    def __init__(self, href: str) -> None:
        self._fs, _ = fsspec.core.url_to_fs(href)

    def open(self, path: str, mode: str = "r", **_: Any) -> Any:  # noqa: ANN401, ARG002
        return _open(self._fs, path)

    def isfile(self, path: str) -> bool:
        try:  # over http(s), fsspec's `isfile` would begin to fetch the file
            return bool(self._fs.info(path)["type"] == "file")
        except FileNotFoundError:
            return False

    def isdir(self, path: str) -> bool:
        return bool(self._fs.isdir(path))

    def ls(self, path: str) -> list[str]:
        return list(self._fs.ls(path, detail=False))

    def mtime(self, path: str) -> int:  # noqa: ARG002
        return 0  # GDAL asks only for its directory listings

    def size(self, path: str) -> int:
        return int(self._fs.size(path))

    def rm(self, path: str) -> None:
        raise PermissionError(f"{path}: scenes are only read")


class _RemoteFilesAtOnce(_RemoteFiles, MultiByteRangeResourceContainer):  # type: ignore[misc]
    def open(self, path: str, mode: str = "r", **_: Any) -> _RemoteFile:  # noqa: ANN401, ARG002
        return _RemoteFile(self._fs, path)
