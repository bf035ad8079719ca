"""What a user's words for scenes stand for: paths, directories, globs, URLs and STAC items become files."""

import glob
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urljoin

import fsspec

from pipeline.acquired import utc
from pipeline.addresses import asset_problem, host_of, scheme_problem
from pipeline.rasters import is_url
from pipeline.searches import SearchFailed, is_search, search
from pipeline.storage import store_errors
from pipeline.texts import one_line

_TIFF_SUFFIXES = {".tif", ".tiff"}
_ITEM_SUFFIXES = {".json", ".geojson"}
_COULD_BE_RASTERS = ("image/tiff", "image/vnd.stac.geotiff", "image/jp2")
_BEST_ROLES = ("visual", "data")
_MAX_ITEM_BYTES = 16 * 2**20


@dataclass(frozen=True, slots=True)
class Source:
    """One raster file, and what is known of it from elsewhere."""

    href: str
    """Absolute path or URL, with what it takes to open it."""
    name: str | None = None
    """The STAC item's id."""
    datetime: str | None = None
    """The STAC item's, ISO 8601 in UTC."""


class Expanded(NamedTuple):
    """What one input came to."""

    sources: list[Source]
    problems: list[tuple[str, str]]
    """(the input or the STAC item, what is wrong with it and the way out)."""


def expand(given: str, allowed_hosts: Sequence[str] = ()) -> Expanded:
    """The files that an input stands for. Reads listings and STAC items, but no raster; raises nothing on bad input.

    `s3://bucket/prefix/` stands for every GeoTIFF below it; the address of a search (see `searches`) and a file of
    items for the rasters of all its items. A STAC item (`item.json`, path or URL) stands for its one raster asset, or
    the one whose role says `visual` or `data`; `item.json#KEY` names an asset, also for a search or a file of items. It
    may lie on the host of the item or of `allowed_hosts`: whoever writes an
    item shall not decide what this machine asks for.
    """
    plain, _, asset = given.removeprefix("file://").partition("#")
    if not _names_item(plain) and not is_search(plain):
        plain, asset = given.removeprefix("file://"), ""  # "#" may be in any other file's name
    if unsafe := scheme_problem(plain):
        return Expanded([], [(given, unsafe)])
    hosts = (*allowed_hosts, host_of(plain))
    if is_search(plain):
        return _searched(plain, asset, hosts)
    try:
        hrefs, problem = _expand_url(plain) if is_url(plain) else _expand_path(plain)
    except _NoStore as error:
        hrefs, problem = [], str(error)
    except store_errors() as error:
        hrefs, problem = [], f"cannot be listed: {one_line(error)}; check the address and the credentials."
    sources, problems = [], [] if problem is None else [(given, problem)]
    for href in hrefs:
        found = _of_file(href, asset, hosts) if _names_item(href) else Expanded([Source(href)], [])
        sources += found.sources
        problems += found.problems
    return Expanded(sources, problems)


def _of_file(href: str, asset: str, hosts: Sequence[str]) -> Expanded:
    try:
        return _of_items(_items(href), href, asset, hosts)
    except _NotAnItem as error:
        return Expanded([], [(href, str(error))])
    except store_errors() as error:
        return Expanded([], [(href, f"cannot be read: {one_line(error)}; check the address and the credentials.")])


def _names_item(href: str) -> bool:
    path = href.split("?", maxsplit=1)[0] if is_url(href) else href  # what follows may be a signature
    return Path(path).suffix.lower() in _ITEM_SUFFIXES


def _expand_path(given: str) -> tuple[list[str], str | None]:
    path = Path(os.path.normpath(Path(given).absolute()))
    if path.is_dir():
        found = [p for p in sorted(path.iterdir()) if p.suffix.lower() in _TIFF_SUFFIXES and p.is_file()]
        return [str(p) for p in found], None if found else "holds no *.tif or *.tiff; use `dir/**/*.tif` to descend."
    if path.is_file():
        return [str(path)], None
    if glob.has_magic(given):
        matches = [m for m in sorted(glob.glob(str(path), recursive=True)) if Path(m).is_file()]  # noqa: PTH207 -- absolute
        return matches, None if matches else "matches no file; check the pattern and quote it."
    return [], "no such file or directory; check the path."


def _expand_url(given: str) -> tuple[list[str], str | None]:
    if given.startswith(("http://", "https://")):
        return [given], None
    try:
        fs, path = fsspec.core.url_to_fs(given)
    except (ImportError, ValueError) as error:  # no such protocol, its client is not installed, or no such address
        raise _NoStore(f"cannot be opened: {one_line(error)}; check the address.") from error
    fs.invalidate_cache()  # listings are cached per process; a long-lived one must see new versions of files
    if glob.has_magic(path):
        matches = sorted(fs.glob(path))
        return [fs.unstrip_protocol(m) for m in matches], None if matches else "matches no object; check the pattern."
    if given.endswith("/"):  # buckets have no folders
        matches = sorted(p for p in fs.find(path) if Path(p).suffix.lower() in _TIFF_SUFFIXES)
        return [fs.unstrip_protocol(m) for m in matches], None if matches else "holds no *.tif or *.tiff below it."
    try:
        is_file = fs.info(path)["type"] == "file"  # needs no right to list
    except FileNotFoundError:
        return [], "no such object; check the address."
    if is_file:
        return [given], None
    matches = sorted(p for p in fs.ls(path, detail=False) if Path(p).suffix.lower() in _TIFF_SUFFIXES)
    return [fs.unstrip_protocol(m) for m in matches], None if matches else "holds no *.tif or *.tiff; use `**/*.tif`."


class _NoStore(Exception):
    """An address that no filesystem is for; the text says why and what to do."""


class _NotAnItem(Exception):
    """A JSON file that names no raster; the text says why and what to do."""


def _searched(url: str, asset: str, hosts: Sequence[str]) -> Expanded:
    try:
        items = search(url, hosts)
    except SearchFailed as error:
        return Expanded([], [(url, str(error))])
    if not items:
        return Expanded([], [(url, "finds no item; check collections, bbox and datetime.")])
    return _of_items(items, url.split("?", maxsplit=1)[0], asset, hosts)


def _of_items(items: Sequence[Any], base: str, asset: str, hosts: Sequence[str]) -> Expanded:
    """The rasters of items; `base`: what relative addresses are relative to, where an item does not say."""
    sources: list[Source] = []
    problems: list[tuple[str, str]] = []
    for item in items:
        try:
            sources.append(_of_item(item, base, asset, hosts))
        except _NotAnItem as error:
            name = item.get("id") if isinstance(item, dict) else None
            problems.append((base if name is None or len(items) == 1 else f"{base} item {name}", str(error)))
    return Expanded(sources, problems)


def _items(href: str) -> list[Any]:
    """Those of a file: itself, or the features of a collection of items."""
    try:
        document: Any = json.loads(_text(href))
    except (ValueError, RecursionError) as error:
        raise _NotAnItem(f"is no JSON ({error}); give a GeoTIFF or a STAC item.") from error
    kind = document.get("type") if isinstance(document, dict) else None
    if kind in {"Collection", "Catalog"}:
        raise _NotAnItem(f"is a STAC {kind.lower()}; name its items, or download them and name their folder.")
    if kind == "FeatureCollection":
        features = document.get("features")
        if not isinstance(features, list) or not features:
            raise _NotAnItem("is no STAC item but a collection of none; give one with items.")
        return features
    return [document]


def _of_item(item: Any, href: str, wanted: str, hosts: Sequence[str]) -> Source:  # noqa: ANN401 -- whatever it holds
    kind = item.get("type") if isinstance(item, dict) else None
    assets = item.get("assets") if kind == "Feature" and "id" in item and "stac_version" in item else None
    if not isinstance(assets, dict):
        raise _NotAnItem("is no STAC item; give a GeoTIFF or a STAC item.")
    assets = {key: asset for key, asset in assets.items() if isinstance(asset, dict) and _is_text(asset.get("href"))}
    properties = item.get("properties")
    times = [properties.get(key) for key in ("datetime", "start_datetime")] if isinstance(properties, dict) else []
    taken = next(filter(_is_text, times), None)
    place = _beside(href, assets[_choice(href, assets, wanted)]["href"])
    if refused := asset_problem(place, hosts):
        raise _NotAnItem(refused)
    return Source(place, str(item["id"]), utc(taken))


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _choice(href: str, assets: dict[str, Any], wanted: str) -> str:
    """The asset's key."""
    if wanted:
        if wanted not in assets:
            raise _NotAnItem(f"has no asset {wanted}; it has {', '.join(assets)}.")
        return wanted
    rasters = [key for key, asset in assets.items() if _may_be_raster(asset)]
    by_role = [[key for key in rasters if role in _roles(assets[key])] for role in _BEST_ROLES]
    for keys in ([key for key in rasters if key == "visual"], *by_role, rasters):
        if len(keys) == 1:
            return keys[0]
    if not rasters:
        raise _NotAnItem(f"has no raster asset ({', '.join(assets) or 'it has none at all'}); give a GeoTIFF.")
    raise _NotAnItem(f"has several raster assets ({', '.join(rasters)}); name one: {href}#{rasters[0]}.")


def _roles(asset: dict[str, Any]) -> set[str]:
    roles = asset.get("roles")
    return {role for role in roles if isinstance(role, str)} if isinstance(roles, list) else set()


def _may_be_raster(asset: dict[str, Any]) -> bool:
    if {"thumbnail", "overview", "metadata"} & _roles(asset):
        return False
    media_type = str(asset.get("type", "")).split(";")[0].strip()
    by_name = Path(str(asset.get("href", "")).split("?")[0]).suffix.lower() in {*_TIFF_SUFFIXES, ".jp2", ".vrt"}
    return media_type in _COULD_BE_RASTERS or (not media_type and by_name)


def _beside(item_href: str, href: str) -> str:
    """An asset's address: relative ones are relative to the item."""
    href = href.removeprefix("file://")
    if is_url(href):
        return href
    if item_href.startswith(("http://", "https://")):
        try:
            return urljoin(item_href, href)
        except ValueError as error:
            raise _NotAnItem(f"has an asset at {href}, which is no address ({error}).") from error
    if is_url(item_href):
        return f"{item_href.rsplit('/', maxsplit=1)[0]}/{href.removeprefix('./')}"
    return os.path.normpath(Path(item_href).parent / href)


def _text(href: str) -> str:
    with fsspec.open(href, "rb") if is_url(href) else Path(href).open("rb") as file:
        text = bytes(file.read(_MAX_ITEM_BYTES + 1))
    if len(text) > _MAX_ITEM_BYTES:
        raise _NotAnItem(f"has more than {_MAX_ITEM_BYTES >> 20} MB; give a STAC item.")
    return text.decode()
