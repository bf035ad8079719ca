"""Scenes: georeferenced rasters as found by their headers. No pixel is read here."""

import math
import warnings
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from affine import Affine
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from rasterio.enums import ColorInterp, Interleaving, MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioIOError

from pipeline.acquired import datetime_of
from pipeline.addresses import host_of
from pipeline.credentials import public
from pipeline.geodesy import placement_problem
from pipeline.inputs import Source, expand
from pipeline.rasters import RASTER_ERRORS, default_warp, missing_files, open_raster, version_of
from pipeline.redaction import redacted
from pipeline.slugs import short_hash, slug
from pipeline.texts import one_line

DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64")
MAX_SCENE_PX = 2**40
"""A million by a million. Far more than anybody has, far less than a header can claim with nothing behind it."""
MAX_BLOCK_BYTES = 2**28
"""Of a decoded block: GDAL holds whole ones, however small the window. 256 MB is 8192 x 8192 px of four bytes."""
_HEADERS_AT_ONCE = 8


class Problem(NamedTuple):
    """Why an input cannot be used. As text: one line."""

    href: str
    """The input as an absolute path or URL; for what is no file, the option (`--bands`)."""
    problem: str
    """The value, the limit, the way out."""

    def __str__(self) -> str:
        # some problems name their input already, for where they are shown alone
        return self.problem if self.problem.startswith(f"{self.href}") else f"{self.href}: {self.problem}"


@dataclass(frozen=True, slots=True)
class NodataRule:
    """Which pixels are no data. Whatever the rule, NaN and infinity never are data."""

    kind: Literal["none", "value", "mask", "alpha"]
    """`value`: all three chosen bands equal `value` (a pixel that is 0 in one band alone is a dark pixel, not a hole).
    `mask`: the dataset's mask band is 0. `alpha`: the alpha band is 0."""
    value: float | None = None
    """For `value`: the finite value. Else None."""


@dataclass(frozen=True, slots=True)
class Scene:
    """One georeferenced raster, by what its header says."""

    scene_id: str
    """Slug, unique in the run."""
    href: str
    """Absolute path or URL, without credentials."""
    etag: str
    """Identifies this version of the file: see `rasters.version_of`."""
    geobox: GeoBox
    """The scene's own grid; for a warped scene that of its default warp."""
    bands: tuple[int, int, int]
    """1-based bands to be shown as red, green, blue. Gray and palette scenes name one band thrice."""
    dtype: str
    """NumPy's name for the type of these bands."""
    nodata: NodataRule
    datetime: str | None
    """ISO 8601 in UTC: its STAC item's, else from the file's tags; see `acquired`."""
    warped: bool
    """True where the file has only ground control points and is read through GDAL's default warp."""
    signed: str = field(default="", repr=False, compare=False)
    """The address that opens, where `href` lacks a signature or a password. Never written, and never in a text."""

    @property
    def address(self) -> str:
        """What opens: a path or a URL, as the user gave it."""
        return self.signed or self.href

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) in scene pixels."""
        return int(self.geobox.shape[0]), int(self.geobox.shape[1])

    def to_json(self) -> dict[str, Any]:
        """The manifest's entry; `from_json` gives an equal scene back."""
        return {
            "scene_id": self.scene_id,
            "href": self.href,
            "etag": self.etag,
            "crs": str(self.geobox.crs),
            "transform": list(self.geobox.affine[:6]),
            "shape": list(self.shape),
            "bands": list(self.bands),
            "dtype": self.dtype,
            "nodata": {"kind": self.nodata.kind, "value": self.nodata.value},
            "datetime": self.datetime,
            "warped": self.warped,
        }

    @classmethod
    def from_json(cls, entry: dict[str, Any]) -> "Scene":
        """A scene from the manifest's entry; keys that others added are ignored."""
        red, green, blue = entry["bands"]
        return cls(
            scene_id=entry["scene_id"],
            href=entry["href"],
            etag=entry["etag"],
            geobox=_geobox(entry["shape"], Affine(*entry["transform"]), entry["crs"]),
            bands=(red, green, blue),
            dtype=entry["dtype"],
            nodata=NodataRule(**entry["nodata"]),
            datetime=entry["datetime"],
            warped=entry["warped"],
        )


@dataclass(frozen=True, slots=True)
class Resolved:
    """What became of the inputs: every one is among the scenes or among the problems."""

    scenes: list[Scene]
    """In order of the inputs; within a glob or directory by name. A file given twice is one scene."""
    problems: list[Problem]


def resolve(
    inputs: Sequence[str],
    *,
    bands: tuple[int, ...] | None = None,
    nodata: float | None = None,
    allow_hosts: Sequence[str] = (),
) -> Resolved:
    """Turn paths, globs, directories, fsspec URLs and STAC items into scenes, reading headers only.

    Args:
        inputs: a directory means the `*.tif` and `*.tiff` directly in it; `dir/**/*.tif` descends. Globs work in URLs
            too, but not in http(s) ones, where `?` and `[` mean something else and nothing can be listed. For STAC
            items see `inputs.expand`.
        bands: one or three 1-based numbers (red, green, blue); None decides by the colour interpretation, else 1, 2, 3.
        nodata: overrides the files' own rule; NaN says that only NaN is no data.
        allow_hosts: where STAC items may name files, besides the hosts and buckets of the inputs themselves.

    Raises nothing on bad input: all problems of all inputs are in the result.
    """
    problems: list[Problem] = []
    sources: dict[str, Source] = {}
    hosts = (*allow_hosts, *filter(None, map(host_of, inputs)))
    for given in inputs:
        found = expand(given, hosts)
        for source in found.sources:
            sources.setdefault(public(source.href), source)
        problems += [Problem(public(href), redacted(problem)) for href, problem in found.problems]
    if bands is not None and (len(bands) not in {1, 3} or min(bands) < 1):
        chosen = ",".join(map(str, bands))
        problems.append(Problem("--bands", f"{chosen} is not one or three band numbers from 1; use e.g. 3,2,1."))
        bands = None
    scenes: list[Scene] = []
    with warnings.catch_warnings(), ThreadPoolExecutor(_HEADERS_AT_ONCE) as pool:
        warnings.simplefilter("ignore", NotGeoreferencedWarning)  # we report it as a problem
        for scene_or_problems in pool.map(lambda source: _look_at(source, bands, nodata), sources.values()):
            if isinstance(scene_or_problems, Scene):
                scenes.append(scene_or_problems)
            else:
                problems += scene_or_problems
    return Resolved(_with_unique_ids(scenes), problems)


def _look_at(source: Source, bands: tuple[int, ...] | None, nodata: float | None) -> Scene | list[Problem]:
    href = public(source.href)
    try:
        with open_raster(source.href) as dataset:
            checked = _Header(dataset, bands, nodata)
            if checked.problems:
                return [Problem(href, p) for p in checked.problems]
            return checked.scene(source)
    except (*RASTER_ERRORS, ImportError) as error:
        return [Problem(href, f"cannot be opened as a raster: {one_line(error)}; give a GeoTIFF, JPEG 2000 or VRT.")]


class _Header:
    """One open dataset against what we need of it."""

    def __init__(self, dataset: Any, bands: tuple[int, ...] | None, nodata: float | None) -> None:  # noqa: ANN401
        self._dataset = dataset
        self._nodata = nodata
        self._has_gcps = bool(dataset.gcps[0])
        self._warped = dataset.transform.is_identity and self._has_gcps
        self._grid, of_grid = self._placed()
        self.problems = [*of_grid, *self._file_problems()]
        if dataset.count == 0:
            self.problems.append("has no bands; give one of its subdatasets as a file of its own.")
            return
        self._bands = _choose_bands(dataset.colorinterp, bands)
        beyond = sorted({b for b in self._bands if b > dataset.count})
        if beyond:
            self.problems.append(f"band {beyond[0]} of {dataset.count}; choose from 1 to {dataset.count} with --bands.")
            return
        self._dtype = np.result_type(*(dataset.dtypes[b - 1] for b in self._bands)).name
        self.problems += self._value_problems()

    def _placed(self) -> tuple[GeoBox | None, list[str]]:
        """The scene's grid, or what is wrong with it."""
        dataset = self._dataset
        problems = [*self._georeference_problems(), *self._size_problems()]
        if problems:
            return None, problems
        if not self._warped:
            grid = _geobox(dataset.shape, dataset.transform, _crs_text(dataset.crs))
        else:
            points, crs = dataset.gcps
            longitudes = [point.x for point in points] if crs.is_geographic else [0.0]
            if max(longitudes) - min(longitudes) > 180:  # noqa: PLR2004 -- degrees
                text = f"{min(longitudes):.6g} to {max(longitudes):.6g} degrees, around the antimeridian"
                return None, [f"ground control points go from {text}; add 360 to the negative ones."]
            try:
                with default_warp(dataset) as warped:
                    grid = _geobox(warped.shape, warped.transform, _crs_text(warped.crs))
            except RasterioIOError as error:
                return None, [f"{one_line(error)}; give at least 3 that do not lie on one line."]
        problem = placement_problem(grid)
        return grid, [problem] if problem else []

    def _georeference_problems(self) -> list[str]:
        dataset, problems = self._dataset, []
        crs = dataset.gcps[1] if self._warped else dataset.crs
        if crs is None:
            problems.append("no coordinate reference system; assign one: `gdal_edit.py -a_srs EPSG:CODE FILE`.")
        elif not (crs.is_geographic or crs.is_projected):
            problems.append("its coordinate reference system is local, bound to no planet; assign a geodetic one.")
        if dataset.transform.is_identity and not self._has_gcps:
            way = "orthorectify it by its RPCs first" if dataset.rpcs else "georeference it first"
            problems.append(f"neither a transform nor ground control points; {way}.")
        elif dataset.transform.is_degenerate:
            problems.append(f"transform {tuple(dataset.transform[:6])} has no area; georeference it again.")
        return problems

    def _size_problems(self) -> list[str]:
        """Of what a header claims, before anything of that size is made."""
        dataset, problems = self._dataset, []
        if dataset.width * dataset.height > MAX_SCENE_PX:
            text = f"{dataset.width} x {dataset.height} px are more than {MAX_SCENE_PX:.2g}"
            problems.append(f"{text}; cut it into several scenes: `gdal_translate -srcwin`.")
        together = dataset.count if dataset.interleaving == Interleaving.pixel else 1
        for (height, width), dtype in zip(dataset.block_shapes, dataset.dtypes, strict=True):
            n_bytes = height * width * _value_bytes(dtype) * together
            if n_bytes > MAX_BLOCK_BYTES:
                text = (
                    f"blocks of {width} x {height} px take {n_bytes / 2**20:.0f} MB, more than {MAX_BLOCK_BYTES >> 20}"
                )
                return [*problems, f"{text}; rewrite it: `gdal_translate -co TILED=YES`."]
        return problems

    def _file_problems(self) -> list[str]:
        gone = missing_files(self._dataset)
        return [f"refers to {gone[0]}, which is not there ({len(gone)} such); restore it."] if gone else []

    def _value_problems(self) -> list[str]:
        problems = []
        if self._dtype not in DTYPES:
            problems.append(f"dtype {self._dtype} is not one of {', '.join(DTYPES)}; convert it: `gdal_translate -ot`.")
        elif self._nodata is not None and not _fits(self._nodata, self._dtype):
            problems.append(f"--nodata {self._nodata:g} is no {self._dtype}; give a value that its pixels can have.")
        tags = sorted({str(self._dataset.nodatavals[b - 1]) for b in self._bands})
        if self._nodata is None and len(tags) > 1:
            problems.append(f"its bands have different nodata values ({', '.join(tags)}); say which with --nodata.")
        return problems

    def scene(self, source: Source) -> Scene:
        """The scene, its id not yet unique. Only to be called where there are no problems."""
        assert self._grid is not None
        return Scene(
            scene_id=slug(source.name or Path(source.href.split("?", maxsplit=1)[0]).stem, prefix="s"),
            href=public(source.href),
            etag=version_of(source.href, self._dataset),
            geobox=self._grid,
            bands=self._bands,
            dtype=self._dtype,
            nodata=self._rule(),
            datetime=source.datetime or datetime_of(self._dataset),
            warped=self._warped,
            signed="" if public(source.href) == source.href else source.href,
        )

    def _rule(self) -> NodataRule:
        """What the user says, then the tag, the mask band, the alpha band."""
        first = self._bands[0] - 1
        value = self._dataset.nodatavals[first] if self._nodata is None else self._nodata
        if value is not None:
            # NaN and infinity are never data anyway; as a value they would equal nothing, not even themselves
            return NodataRule("value", float(value)) if math.isfinite(value) else NodataRule("none")
        flags = self._dataset.mask_flag_enums[first]
        if MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags:
            return NodataRule("mask")
        return NodataRule("alpha" if ColorInterp.alpha in self._dataset.colorinterp else "none")


def _choose_bands(colours: Sequence[ColorInterp], requested: tuple[int, ...] | None) -> tuple[int, int, int]:
    if requested is not None:
        red, green, blue = requested if len(requested) == 3 else requested * 3  # noqa: PLR2004 -- red, green, blue
        return red, green, blue
    rgb = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
    if all(colour in colours for colour in rgb):
        red, green, blue = (list(colours).index(colour) + 1 for colour in rgb)
        return red, green, blue
    shown = [i for i, colour in enumerate(colours, start=1) if colour != ColorInterp.alpha] or [1]
    if len(shown) < 3 or colours[shown[0] - 1] == ColorInterp.palette:  # noqa: PLR2004
        return shown[0], shown[0], shown[0]
    return shown[0], shown[1], shown[2]


def _with_unique_ids(scenes: Sequence[Scene]) -> list[Scene]:
    """All of those that share a stem get a hash of their href, so that the order of the inputs decides nothing."""
    counts = Counter(scene.scene_id for scene in scenes)
    return [
        scene if counts[scene.scene_id] == 1 else replace(scene, scene_id=f"{scene.scene_id}-{short_hash(scene.href)}")
        for scene in scenes
    ]


def _fits(value: float, dtype: str) -> bool:
    if np.issubdtype(dtype, np.floating):
        return True
    limits = np.iinfo(dtype)
    return float(value).is_integer() and limits.min <= value <= limits.max


def _value_bytes(dtype: str) -> int:
    # rasterio's name for what NumPy lacks, which is refused elsewhere
    return 4 if dtype == "complex_int16" else np.dtype(dtype).itemsize


def _geobox(shape: Sequence[int], transform: Affine, crs: str) -> GeoBox:
    return GeoBox((shape[0], shape[1]), transform, CRS(crs))


def _crs_text(crs: Any) -> str:  # noqa: ANN401
    """`EPSG:32633`, `IAU_2015:30100`; WKT for a CRS that no authority knows exactly so."""
    authority = crs.to_authority(confidence_threshold=100)
    # WKT 1 would lose which way axes point
    return ":".join(authority) if authority else str(crs.to_wkt(version="WKT2_2019"))
