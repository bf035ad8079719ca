"""What a raster's header says, against what we need of it. No pixel is read here."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from affine import Affine
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from rasterio.enums import ColorInterp, Interleaving, MaskFlags
from rasterio.errors import RasterioIOError

from pipeline.bands import Bands, Named, numbers
from pipeline.geodesy import placement_problem
from pipeline.rasters import default_warp, missing_files
from pipeline.texts import one_line
from t2s_core.errors import BadInput

DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64")
MAX_SCENE_PX = 2**40
"""A million by a million. Far more than anybody has, far less than a header can claim with nothing behind it."""
MAX_BLOCK_BYTES = 2**28
"""Of a decoded block: GDAL holds whole ones, however small the window. 256 MB is 8192 x 8192 px of four bytes."""


@dataclass(frozen=True, slots=True)
class NodataRule:
    """Which pixels are no data. Whatever the rule, NaN and infinity never are data."""

    kind: Literal["none", "value", "mask", "alpha"]
    """`value`: all three chosen bands equal `value` (a pixel that is 0 in one band alone is a dark pixel, not a hole).
    `mask`: the dataset's mask band is 0. `alpha`: the alpha band is 0."""
    value: float | None = None
    """For `value`: the finite value. Else None."""


class Header:
    """One open dataset against what we need of it.

    Attributes:
        problems: one line each. Where there are none, the others are there.
        grid: the scene's own; of a warped scene that of its default warp.
        warped: whether the file has only ground control points.
        bands: numbers of what is shown as red, green, blue.
        dtype: NumPy's name for the type of these bands.

    """

    def __init__(
        self,
        dataset: Any,  # noqa: ANN401 -- rasterio ships no types
        bands: Bands | None,
        nodata: float | None,
        named: Sequence[Named] = (),
    ) -> None:
        """Args: what the user says of bands and of no data, and what a STAC item calls the bands."""
        self._dataset = dataset
        self._given_nodata = nodata
        self._has_gcps = bool(dataset.gcps[0])
        self.warped = dataset.transform.is_identity and self._has_gcps
        self.grid, of_grid = self._placed()
        self.problems = [*of_grid, *self._file_problems()]
        if dataset.count == 0:
            self.problems.append("has no bands; give one of its subdatasets as a file of its own.")
            return
        try:
            self.bands = _choose_bands(dataset, bands, named)
        except BadInput as error:
            self.problems += error.problems
            return
        beyond = sorted({b for b in self.bands if b > dataset.count})
        if beyond:
            self.problems.append(f"band {beyond[0]} of {dataset.count}; choose from 1 to {dataset.count} with --bands.")
            return
        self.dtype = np.result_type(*(dataset.dtypes[b - 1] for b in self.bands)).name
        self.problems += self._value_problems()

    def _placed(self) -> tuple[GeoBox | None, list[str]]:
        """The scene's grid, or what is wrong with it."""
        dataset = self._dataset
        problems = [*self._georeference_problems(), *self._size_problems()]
        if problems:
            return None, problems
        if not self.warped:
            grid = geobox_of(dataset.shape, dataset.transform, _crs_text(dataset.crs))
        else:
            points, crs = dataset.gcps
            longitudes = [point.x for point in points] if crs.is_geographic else [0.0]
            if max(longitudes) - min(longitudes) > 180:  # noqa: PLR2004 -- degrees
                text = f"{min(longitudes):.6g} to {max(longitudes):.6g} degrees, around the antimeridian"
                return None, [f"ground control points go from {text}; add 360 to the negative ones."]
            try:
                with default_warp(dataset) as warped:
                    grid = geobox_of(warped.shape, warped.transform, _crs_text(warped.crs))
            except RasterioIOError as error:
                return None, [f"{one_line(error)}; give at least 3 that do not lie on one line."]
        problem = placement_problem(grid)
        return grid, [problem] if problem else []

    def _georeference_problems(self) -> list[str]:
        dataset, problems = self._dataset, []
        crs = dataset.gcps[1] if self.warped else dataset.crs
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
        if self.dtype not in DTYPES:
            problems.append(f"dtype {self.dtype} is not one of {', '.join(DTYPES)}; convert it: `gdal_translate -ot`.")
        elif self._given_nodata is not None and not _fits(self._given_nodata, self.dtype):
            problems.append(
                f"--nodata {self._given_nodata:g} is no {self.dtype}; give a value that its pixels can have."
            )
        tags = sorted({str(self._dataset.nodatavals[b - 1]) for b in self.bands})
        if self._given_nodata is None and len(tags) > 1:
            problems.append(f"its bands have different nodata values ({', '.join(tags)}); say which with --nodata.")
        return problems

    def nodata(self) -> NodataRule:
        """What the user says, then the tag, the mask band, the alpha band."""
        first = self.bands[0] - 1
        value = self._dataset.nodatavals[first] if self._given_nodata is None else self._given_nodata
        if value is not None:
            # NaN and infinity are never data anyway; as a value they would equal nothing, not even themselves
            return NodataRule("value", float(value)) if math.isfinite(value) else NodataRule("none")
        flags = self._dataset.mask_flag_enums[first]
        if MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags:
            return NodataRule("mask")
        return NodataRule("alpha" if ColorInterp.alpha in self._dataset.colorinterp else "none")


def _choose_bands(dataset: Any, wanted: Bands | None, named: Sequence[Named]) -> tuple[int, int, int]:  # noqa: ANN401
    """Raises `BadInput` where a band of a wanted name is not there."""
    if wanted:
        names = [band for band in wanted if isinstance(band, str)]
        chosen = numbers(names, named, dataset) if names else tuple(band for band in wanted if isinstance(band, int))
        red, green, blue = chosen if len(chosen) == 3 else chosen * 3  # noqa: PLR2004 -- red, green, blue
        return red, green, blue
    colours = dataset.colorinterp
    rgb = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
    if all(colour in colours for colour in rgb):
        red, green, blue = (list(colours).index(colour) + 1 for colour in rgb)
        return red, green, blue
    shown = [i for i, colour in enumerate(colours, start=1) if colour != ColorInterp.alpha] or [1]
    if len(shown) < 3 or colours[shown[0] - 1] == ColorInterp.palette:  # noqa: PLR2004
        return shown[0], shown[0], shown[0]
    return shown[0], shown[1], shown[2]


def _fits(value: float, dtype: str) -> bool:
    if np.issubdtype(dtype, np.floating):
        return True
    limits = np.iinfo(dtype)
    return float(value).is_integer() and limits.min <= value <= limits.max


def _value_bytes(dtype: str) -> int:
    # rasterio's name for what NumPy lacks, which is refused elsewhere
    return 4 if dtype == "complex_int16" else np.dtype(dtype).itemsize


def geobox_of(shape: Sequence[int], transform: Affine, crs: str) -> GeoBox:
    """Of (height, width), and a CRS as an authority string or WKT."""
    return GeoBox((shape[0], shape[1]), transform, CRS(crs))


def _crs_text(crs: Any) -> str:  # noqa: ANN401
    """`EPSG:32633`, `IAU_2015:30100`; WKT for a CRS that no authority knows exactly so."""
    authority = crs.to_authority(confidence_threshold=100)
    # WKT 1 would lose which way axes point
    return ":".join(authority) if authority else str(crs.to_wkt(version="WKT2_2019"))
