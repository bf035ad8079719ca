"""STAC items: which of an item's assets are the scene, and where they lie."""

import json
import os
import posixpath
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urljoin

import shapely

from pipeline import bands
from pipeline.acquired import utc
from pipeline.addresses import asset_problem
from pipeline.areas import Area
from pipeline.bands import Bands, Named
from pipeline.rasters import is_url
from pipeline.texts import one_line

TIFF_SUFFIXES = {".tif", ".tiff"}
_RASTER_SUFFIXES = {*TIFF_SUFFIXES, ".jp2", ".vrt"}
_COULD_BE_RASTERS = ("image/tiff", "image/vnd.stac.geotiff", "image/jp2")
_BEST_ROLES = ("visual", "data")
_COLOURS = 3
_MOST_SAID = 12
_LONGEST_SAID = 60
_MOST_DEGREES = 1e3
"""Coordinates beyond are none."""


class NotAnItem(Exception):
    """A document that names no raster; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the command says of all scenes, as far as it decides which files they are."""

    asset: str = ""
    """Key of an asset, or three with commas between them: red, green, blue. Empty leaves it to the item."""
    bands: Bands | None = None
    """Numbers, or names of bands; None leaves it to the file."""
    area: Area | None = None
    """Items that lie all outside of it are left out."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of bands, where they are named."""
        return tuple(band for band in self.bands or () if isinstance(band, str))


class Layer(NamedTuple):
    """One band of a scene that is made of several files."""

    href: str
    """Absolute path or URL, with what it takes to open it."""
    band: int | str | None
    """Its number from 1, or its name; None where it is the file's only one."""
    named: tuple[Named, ...] = ()
    """What the item calls the file's bands."""


@dataclass(frozen=True, slots=True)
class Source:
    """One scene to be, and what is known of it from elsewhere."""

    href: str
    """Absolute path or URL, with what it takes to open it; of several files that of the red one."""
    name: str | None = None
    """The STAC item's id."""
    datetime: str | None = None
    """The STAC item's, ISO 8601 in UTC."""
    named: tuple[Named, ...] = ()
    """What the STAC item calls the file's bands."""
    layers: tuple[Layer, ...] = ()
    """Red, green and blue, where they are files of their own."""
    choice: str = ""
    """Which asset of several it is, where the user left that to the item."""


def source_of(item: Any, href: str, wanted: Wanted, hosts: Sequence[str]) -> Source | None:  # noqa: ANN401 -- whatever it holds
    """The scene that an item stands for; None where it lies outside of the area that is wanted. Opens nothing.

    Args:
        item: JSON.
        href: of the item; relative addresses of assets are relative to it.
        wanted: by it and by what the item says, see `inputs.expand`.
        hosts: where assets may lie.

    Raises:
        NotAnItem: It is none, or names no raster that may be opened.

    """
    kind = item.get("type") if isinstance(item, dict) else None
    assets = item.get("assets") if kind == "Feature" and "id" in item and "stac_version" in item else None
    if not isinstance(assets, dict):
        raise NotAnItem("is no STAC item; give a GeoTIFF or a STAC item.")
    if wanted.area is not None and (bbox := _bbox(item)) is not None and wanted.area.misses(bbox):
        return None
    assets = {key: asset for key, asset in assets.items() if isinstance(asset, dict) and _is_text(asset.get("href"))}
    properties = item.get("properties")
    times = [properties.get(key) for key in ("datetime", "start_datetime")] if isinstance(properties, dict) else []
    taken = next(filter(_is_text, times), None)
    chosen = _choose(assets, wanted)
    places = [beside(href, assets[key]["href"]) for key in chosen]
    if refused := next(filter(None, (asset_problem(place, hosts) for place in places)), None):
        raise NotAnItem(refused)
    named = [bands.of_asset(assets[key]) for key in chosen]
    rasters = [key for key in assets if _may_be_raster(assets[key])]
    return Source(
        places[0],
        str(item["id"]),
        utc(taken),
        named=named[0] if len(chosen) == 1 else (),
        layers=_layers(places, named, wanted) if len(chosen) > 1 else (),
        choice="" if wanted.asset or len(rasters) < 2 else f"{_said(chosen)} of {_said(rasters)}",  # noqa: PLR2004
    )


def beside(item_href: str, href: str) -> str:
    """An address that a document names: relative ones are relative to the document. Raises `NotAnItem`."""
    href = href.removeprefix("file://")
    if is_url(href):
        return href
    if item_href.startswith(("http://", "https://")):
        try:
            return urljoin(item_href, href)
        except ValueError as error:
            raise NotAnItem(f"names {one_line(href, 120)}, which is no address ({error}).") from error
    if is_url(item_href):
        scheme, _, rest = item_href.partition("://")
        host, _, path = rest.partition("/")
        # to a bucket `..` is a name like any other, and from its root no way leads up
        return f"{scheme}://{host}{posixpath.normpath(posixpath.join('/', posixpath.dirname(path), href))}"
    return os.path.normpath(Path(item_href).parent / href)


def _said(keys: Iterable[str]) -> str:
    """Of a stranger's item, in a line."""
    keys = list(keys)
    more = f" and {len(keys) - _MOST_SAID} more" if len(keys) > _MOST_SAID else ""
    return ", ".join(one_line(key, _LONGEST_SAID) for key in keys[:_MOST_SAID]) + more


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _bbox(item: Mapping[str, Any]) -> tuple[float, float, float, float] | None:
    """West, south, east, north of its box or else its geometry; None where the item does not say or says no place."""
    box = item.get("bbox")
    if box is None:
        geometry = shapely.from_geojson(json.dumps(item.get("geometry")), on_invalid="ignore")
        box = None if geometry is None else list(map(float, geometry.bounds))
    if not isinstance(box, list) or not all(type(v) in {int, float} and abs(v) < _MOST_DEGREES for v in box):
        return None
    if len(box) == 6:  # noqa: PLR2004 -- with heights
        box = [*box[:2], *box[3:5]]
    if len(box) != 4 or box[1] > box[3]:  # noqa: PLR2004
        return None
    west, south, east, north = map(float, box)
    return west, south, east, north


def _layers(places: Sequence[str], named: Sequence[tuple[Named, ...]], wanted: Wanted) -> tuple[Layer, ...]:
    given: Sequence[int | str | None] = wanted.bands or (None,)
    numbers = [*given] * (_COLOURS if len(given) == 1 else 1)
    # where the item tells of one band, it is that one, whatever it is called
    return tuple(Layer(*layer) for layer in zip(places, numbers, named, strict=False))


def _choose(assets: Mapping[str, Any], wanted: Wanted) -> list[str]:
    """The asset's key, or those that are shown as red, green and blue."""
    if wanted.asset:
        return _given(assets, wanted.asset)
    rasters = [key for key, asset in assets.items() if _may_be_raster(asset)]
    if wanted.names and (by_name := _by_names(assets, rasters, wanted.names)):
        return by_name
    for keys in _by_preference(assets, rasters):
        if len(keys) == 1:
            return keys
    if not rasters:
        raise NotAnItem(f"has no raster asset ({_said(assets) or 'it has none at all'}); give a GeoTIFF.")
    if wanted.names:
        known = sorted({str(band) for key in rasters for band in bands.of_asset(assets[key]) if str(band)})
        there = f"has several raster assets ({_said(rasters)}) with the bands {_said(known) or 'of no name'}"
        raise NotAnItem(f"{there}, and not all of {', '.join(wanted.names)}; name one: --asset {_said(rasters[:1])}.")
    raise NotAnItem(f"has several raster assets ({_said(rasters)}); name one: --asset {_said(rasters[:1])}.")


def _given(assets: Mapping[str, Any], asset: str) -> list[str]:
    if asset in assets:
        return [asset]
    keys = [key.strip() for key in asset.split(",")]
    lacking = [key for key in keys if key not in assets]
    if lacking:
        raise NotAnItem(f"has no asset {lacking[0]}; it has {_said(assets) or 'none'}.")
    if len(keys) != _COLOURS:
        raise NotAnItem(f"is to be shown by the assets {asset}, which are not one or three; use e.g. red,green,blue.")
    return keys


def _by_names(assets: Mapping[str, Any], rasters: Sequence[str], names: Sequence[str]) -> list[str]:
    """The one asset that has all the bands, else the one for each; none where the item does not say of all."""
    having = [[key for key in rasters if _has(assets[key], name)] for name in names]
    if not all(having):
        return []
    whole = [key for key in rasters if all(key in keys for keys in having)]
    for keys in _by_preference(assets, whole):
        if len(keys) == 1:
            return keys
    chosen = []
    for name, keys in zip(names, having, strict=True):
        best = [key for key in keys if _rank(assets[key]) == min(_rank(assets[other]) for other in keys)]
        best = [key for key in best if key.lower() == name.lower()] or best
        if len(best) > 1:
            raise NotAnItem(f"has several assets with a band {name} ({_said(best)}); name three: --asset A,B,C.")
        chosen += best
    return chosen if len(set(chosen)) > 1 else chosen[:1]


def _by_preference(assets: Mapping[str, Any], rasters: Sequence[str]) -> list[list[str]]:
    """By falling preference what may be the scene; where one asset alone is left, it is."""
    by_role = [[key for key in rasters if role in _roles(assets[key])] for role in _BEST_ROLES]
    return [[key for key in rasters if key == "visual"], *by_role, list(rasters)]


def _has(asset: Mapping[str, Any], name: str) -> bool:
    return any(name.lower() in (band.common, band.name) for band in bands.of_asset(asset))


def _rank(asset: Mapping[str, Any]) -> tuple[int, int]:
    """A file of one band goes before a picture made of several; of two of the same pixels, what is read faster."""
    media_type = str(asset.get("type", ""))
    return len(bands.of_asset(asset)), 0 if "cloud-optimized" in media_type else 1 if "tiff" in media_type else 2


def _roles(asset: Mapping[str, Any]) -> set[str]:
    roles = asset.get("roles")
    return {role for role in roles if isinstance(role, str)} if isinstance(roles, list) else set()


def _may_be_raster(asset: Mapping[str, Any]) -> bool:
    if {"thumbnail", "overview", "metadata"} & _roles(asset):
        return False
    media_type = str(asset.get("type", "")).split(";")[0].strip()
    by_name = Path(str(asset.get("href", "")).split("?")[0]).suffix.lower() in _RASTER_SUFFIXES
    return media_type in _COULD_BE_RASTERS or (not media_type and by_name)
