"""What a VRT may hold. It is text that makes GDAL open other things, so it is read here before GDAL sees it.

Allowed are mosaics and warps of local TIFF, JPEG 2000 and VRT files, with GDAL's built-in pixel functions. Refused is
what fetches, runs or reads anything else: `/vsi` paths, URLs, other drivers, raw bands, Python, elements unknown here.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

MAX_BYTES = 64 * 2**20
"""About 200,000 sources."""
MAX_DEPTH = 4
"""VRTs of VRTs."""
_HEAD_BYTES = 1024
"""In so many bytes GDAL looks for `<VRTDataset`, whatever the file is called."""
_RASTERS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51")
"""How TIFF, BigTIFF, JPEG 2000 files and JPEG 2000 code streams begin."""
_FILES = ("SourceFilename", "SourceDataset")
_ELEMENTS = frozenset(
    """
    VRTDataset SRS GeoTransform GCPList GCP Metadata MDI VRTRasterBand NoDataValue HideNoDataValue ColorInterp
    ColorTable Entry Description UnitType Offset Scale CategoryNames Category Histograms HistItem HistMin HistMax
    BucketCount IncludeOutOfRange Approximate HistCounts MaskBand Overview OverviewList BlockXSize BlockYSize
    SimpleSource ComplexSource AveragedSource NoDataFromMaskSource KernelFilteredSource Kernel Size Coefs
    SourceFilename SourceBand SourceProperties SrcRect DstRect ScaleOffset ScaleRatio LUT NODATA UseMaskBand
    ColorTableComponent Exponent SrcMin SrcMax DstMin DstMax Clamp MaskValueThreshold RemappedValue
    PixelFunctionType PixelFunctionArguments SourceTransferType BufferRadius GDALWarpOptions WarpMemoryLimit
    ResampleAlg WorkingDataType Option Options SourceDataset Transformer MaxError ApproxTransformer BaseTransformer
    GenImgProjTransformer SrcGeoTransform SrcInvGeoTransform DstGeoTransform DstInvGeoTransform SrcGCPTransformer
    GCPTransformer TPSTransformer SrcTPSTransformer Order Reversed ReprojectTransformer ReprojectionTransformer
    SourceSRS TargetSRS BandList BandMapping SrcNoDataReal SrcNoDataImag DstNoDataReal DstNoDataImag SrcAlphaBand
    DstAlphaBand Cutline CutlineBlendDist
    """.split()  # noqa: SIM905 -- read as words
)
"""Of datasets and bands, of sources, of built-in pixel functions, of warps."""
_SUBCLASSES = frozenset({"VRTWarpedDataset", "VRTSourcedRasterBand", "VRTWarpedRasterBand", "VRTDerivedRasterBand"})
_OPENING_DOMAINS = frozenset({"GEOLOCATION", "OVERVIEWS"})
"""Metadata that names files which GDAL then opens."""
_PREFIX = re.compile(r"[A-Za-z][A-Za-z0-9_+.-]+:")
"""`NETCDF:`, `https:`: of two letters at least, for one is a Windows drive."""


def is_vrt(path: Path) -> bool:
    """Whether GDAL would take a file for a VRT. Raises `OSError`."""
    with path.open("rb") as file:
        return b"<VRTDataset" in file.read(_HEAD_BYTES)


def vrt_problem(path: Path, depth: int = 1) -> str | None:
    """Why a local VRT is not opened; None where it may be. One line: what, and the way out. Raises `OSError`.

    Sources that are not there are no problem of this kind.
    """
    if depth > MAX_DEPTH:
        return f"is a VRT of VRTs more than {MAX_DEPTH} deep; name its files instead"
    if path.stat().st_size > MAX_BYTES:
        return f"is a VRT of more than {MAX_BYTES // 2**20} MB; name its files instead"
    text = path.read_bytes()
    # what GDAL's lenient reader and a strict one might take for different things
    odd = next((mark for mark in (b"<!DOCTYPE", b"<!ENTITY", b"<![CDATA[") if mark in text), None)
    if odd is not None or any(b"<" in comment for comment in re.findall(rb"<!--(.*?)-->", text, re.DOTALL)):
        return f"is a VRT with {(odd or b'markup in a comment').decode()}; remove it"
    try:
        root = ET.fromstring(text)  # noqa: S314 -- no document type, so no entities to expand
    except (ET.ParseError, ValueError) as error:
        return f"is a VRT, but no XML: {error}; make it anew"
    sources = set()
    for element in _walk(root):
        refused = _refusal(element)
        if refused is not None:
            return f"is a VRT with {refused}; use gdalbuildvrt or gdal_translate on local files"
        if element.tag in _FILES:
            sources.add(_place(element, path.parent))
    return next((problem for s in sorted(sources) if (problem := _source_problem(s, depth)) is not None), None)


def beside_problem(path: Path) -> str | None:
    """Why a raster is not opened with the masks and overviews that lie beside it. Raises `OSError`."""
    for suffix in (".ovr", ".msk", ".OVR", ".MSK"):
        beside = path.with_name(path.name + suffix)
        if beside.is_file() and not _is_raster(beside):
            return f"{beside.name} beside it is no TIFF; remove it"
    return None


def _walk(root: ET.Element) -> Iterator[ET.Element]:
    """Every element, but for XML that somebody keeps as metadata."""
    left = [root]
    while left:
        element = left.pop()
        yield element
        if not (element.tag == "Metadata" and element.get("domain", "").startswith("xml:")):
            left.extend(reversed(element))


def _refusal(element: ET.Element) -> str | None:
    subclass = element.get("subClass")
    if element.tag not in _ELEMENTS:
        return f"<{element.tag[:40]}>, which is not known to be safe"
    if subclass is not None and subclass not in _SUBCLASSES:
        return f"{subclass[:40]}, which may read more than rasters"
    if element.tag == "Metadata" and element.get("domain") in _OPENING_DOMAINS:
        return f"metadata {element.get('domain')}, which names further files"
    if element.tag in _FILES:
        name = (element.text or "").strip()
        if not name or name.startswith(("/vsi", "<", "\\")) or _PREFIX.match(name) or "://" in name:
            return f"the source {name[:80]!r}, which is no local file"
    return None


def _place(element: ET.Element, folder: Path) -> Path:
    name = (element.text or "").strip()
    return folder / name if element.get("relativeToVRT") == "1" or element.get("relativetoVRT") == "1" else Path(name)


def _source_problem(source: Path, depth: int) -> str | None:
    if not source.exists():
        return None
    if not source.is_file():
        return f"is a VRT of {source}, which is no file; name its files instead"
    if is_vrt(source):
        problem = vrt_problem(source, depth + 1)
        return None if problem is None else f"is a VRT of {source}, which {problem}"
    if not _is_raster(source):
        return f"is a VRT of {source}, which is no TIFF, JPEG 2000 or VRT; convert it with gdal_translate"
    problem = beside_problem(source)
    return None if problem is None else f"is a VRT of {source}: {problem}"


def _is_raster(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(max(map(len, _RASTERS))).startswith(_RASTERS)
