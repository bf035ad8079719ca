"""Vector files of users: read with geopandas, which must not be led to other files or hosts by them."""

import io
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import fsspec
import geopandas as gpd

from pipeline.rasters import is_url

_MARKS = (b"<ogr", b"<vrtdataset", b"<gdal")
"""How files begin that make GDAL open something else: another file, a database, a web service."""
_HEAD_BYTES = 16 * 1024


def read_vector(href: str, *, parquet: bool) -> Any:  # noqa: ANN401 -- geopandas ships no types
    """A table, mostly a `GeoDataFrame`. Raises what geopandas raises; `ValueError` and `OSError` for what is not read.

    `parquet`: GeoParquet, a file or a local directory of them; else any vector file, a zipped one too.
    """
    source: Any = href
    if is_url(href):
        with fsspec.open(href, "rb") as file:
            source = io.BytesIO(file.read())
    elif not Path(href).exists():
        raise FileNotFoundError("no such file")  # GDAL would try it as the name of a service or a database
    if parquet:
        return gpd.read_parquet(source)
    for head in _heads(source):
        if any(mark in head.lower() for mark in _MARKS):
            raise ValueError("it refers to other files or services, which are not opened; export it to GeoPackage")
    return gpd.read_file(source)


def _heads(source: Any) -> Iterator[bytes]:  # noqa: ANN401 -- a path or a buffer
    """How the file begins and, in an archive, how each of its members does."""
    if isinstance(source, str) and Path(source).is_dir():
        for path in sorted(p for p in Path(source).iterdir() if p.is_file()):
            yield from _heads(str(path))
        return
    with Path(source).open("rb") if isinstance(source, str) else io.BytesIO(source.getbuffer()) as file:
        yield file.read(_HEAD_BYTES)
        if zipfile.is_zipfile(file):
            yield from _heads_in(file)


def _heads_in(file: IO[bytes]) -> Iterator[bytes]:
    try:
        with zipfile.ZipFile(file) as archive:
            for member in archive.infolist():
                with archive.open(member) as opened:
                    yield opened.read(_HEAD_BYTES)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:  # the last where it is encrypted
        raise ValueError(f"its archive is damaged or closed: {error}") from error
