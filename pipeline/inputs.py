"""What a user's words for scenes stand for: paths, directories, globs, URLs and STAC items become files."""

import glob
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import fsspec

from pipeline.addresses import host_of, scheme_problem
from pipeline.catalogs import CATALOGS, items_below
from pipeline.items import TIFF_SUFFIXES, NotAnItem, Source, Wanted, source_of
from pipeline.rasters import is_url
from pipeline.searches import SearchFailed, is_search, search
from pipeline.storage import store_errors
from pipeline.texts import one_line

__all__ = ["Expanded", "Source", "Wanted", "expand"]

_ITEM_SUFFIXES = {".json", ".geojson"}
_MAX_ITEM_BYTES = 16 * 2**20
_ANYTHING = Wanted()


class Expanded(NamedTuple):
    """What one input came to."""

    sources: list[Source]
    problems: list[tuple[str, str]]
    """(the input or the STAC item, what is wrong with it and the way out)."""
    n_outside: int = 0
    """Items that were left out because they lie outside of the area that is wanted."""


def expand(given: str, allowed_hosts: Sequence[str] = (), wanted: Wanted = _ANYTHING) -> Expanded:
    """The files that an input stands for. Reads listings and STAC items, but no raster; raises nothing on bad input.

    `s3://bucket/prefix/` stands for every GeoTIFF below it; the address of a search (see `searches`), a file of items,
    and a static collection or catalog (see `catalogs`) for the rasters of all their items.

    A STAC item (`item.json`, path or URL) stands for the asset that `wanted` names; else for the one that has the bands
    that are wanted by name, or three that have one each; else for its one raster asset, or the one that is called
    `visual` or whose role says `visual` or `data`. `item.json#KEY` names an asset, also for what stands for many items,
    and goes before `wanted`; `#RED,GREEN,BLUE` names three.

    An asset may lie on the host of the item or of `allowed_hosts`: whoever writes an item shall not decide what this
    machine asks for.
    """
    plain, _, asset = given.removeprefix("file://").partition("#")
    if not _names_item(plain) and not is_search(plain):
        plain, asset = given.removeprefix("file://"), ""  # "#" may be in any other file's name
    if unsafe := scheme_problem(plain):
        return Expanded([], [(given, unsafe)])
    hosts = (*allowed_hosts, host_of(plain))
    wanted = replace(wanted, asset=asset) if asset else wanted
    if is_search(plain):
        return _searched(plain, wanted, hosts)
    try:
        hrefs, problem = _expand_url(plain) if is_url(plain) else _expand_path(plain)
    except _NoStore as error:
        hrefs, problem = [], str(error)
    except store_errors() as error:
        hrefs, problem = [], f"cannot be listed: {one_line(error)}; check the address and the credentials."
    found = [_of_file(href, wanted, hosts) if _names_item(href) else Expanded([Source(href)], []) for href in hrefs]
    return _together([Expanded([], [] if problem is None else [(given, problem)]), *found])


def _together(parts: Sequence[Expanded]) -> Expanded:
    return Expanded(
        [source for part in parts for source in part.sources],
        [problem for part in parts for problem in part.problems],
        sum(part.n_outside for part in parts),
    )


def _of_file(href: str, wanted: Wanted, hosts: Sequence[str]) -> Expanded:
    try:
        document = _document(href)
        kind = document.get("type") if isinstance(document, dict) else None
        if kind in CATALOGS:
            return _of_catalog(href, document, wanted, hosts)
        return _of_items(_items(document), href, wanted, hosts)
    except NotAnItem as error:
        return Expanded([], [(href, str(error))])


def _names_item(href: str) -> bool:
    path = href.split("?", maxsplit=1)[0] if is_url(href) else href  # what follows may be a signature
    return Path(path).suffix.lower() in _ITEM_SUFFIXES


def _expand_path(given: str) -> tuple[list[str], str | None]:
    path = Path(os.path.normpath(Path(given).absolute()))
    if path.is_dir():
        found = [p for p in sorted(path.iterdir()) if p.suffix.lower() in TIFF_SUFFIXES and p.is_file()]
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
        matches = sorted(p for p in fs.find(path) if Path(p).suffix.lower() in TIFF_SUFFIXES)
        return [fs.unstrip_protocol(m) for m in matches], None if matches else "holds no *.tif or *.tiff below it."
    try:
        is_file = fs.info(path)["type"] == "file"  # needs no right to list
    except FileNotFoundError:
        return [], "no such object; check the address."
    if is_file:
        return [given], None
    matches = sorted(p for p in fs.ls(path, detail=False) if Path(p).suffix.lower() in TIFF_SUFFIXES)
    return [fs.unstrip_protocol(m) for m in matches], None if matches else "holds no *.tif or *.tiff; use `**/*.tif`."


class _NoStore(Exception):
    """An address that no filesystem is for; the text says why and what to do."""


def _searched(url: str, wanted: Wanted, hosts: Sequence[str]) -> Expanded:
    bbox = None if wanted.area is None else wanted.area.bbox
    try:
        items = search(url, hosts, bbox)
    except SearchFailed as error:
        return Expanded([], [(url, str(error))])
    if not items:
        place = "" if bbox is None else f" around the area of interest ({', '.join(f'{v:.6g}' for v in bbox)})"
        return Expanded([], [(url, f"finds no item{place}; check collections, bbox and datetime.")])
    base = url.split("?", maxsplit=1)[0]
    alone = len(items) == 1
    return _together(
        [
            _of_items([item], here or base, wanted, hosts, named=not (alone or here))
            for item in items
            for here in (_self_of(item),)
        ]
    )


def _self_of(item: Any) -> str | None:  # noqa: ANN401 -- whatever it holds
    """Where an item of an API says that it lies: a URL, for an API has nothing to say about our files."""
    links = item.get("links") if isinstance(item, dict) else None
    hrefs = [link.get("href") for link in links if isinstance(link, dict) and link.get("rel") == "self"] if isinstance(
        links, list) else []  # fmt: skip
    return next((href for href in hrefs if isinstance(href, str) and is_url(href)), None)


def _of_catalog(href: str, catalog: dict[str, Any], wanted: Wanted, hosts: Sequence[str]) -> Expanded:
    found = [
        Expanded([], [(linked.href, linked.problem)])
        if linked.problem
        else _of_items([linked.document], linked.href, wanted, hosts)
        for linked in items_below(href, catalog, hosts, _document)
    ]
    if not found:
        kind = str(catalog["type"]).lower()
        way = "search its API (https://HOST/search?collections=ID), or name its items"
        return Expanded([], [(href, f"is a STAC {kind} that links to no item; {way}.")])
    return _together(found)


def _of_items(
    items: Iterable[Any], base: str, wanted: Wanted, hosts: Sequence[str], *, named: bool = False
) -> Expanded:
    """The rasters of items; `base`: what relative addresses are relative to. `named`: problems say whose they are."""
    items = list(items)
    sources: list[Source] = []
    problems: list[tuple[str, str]] = []
    n_outside = 0
    for item in items:
        try:
            source = source_of(item, base, wanted, hosts)
        except NotAnItem as error:
            name = item.get("id") if isinstance(item, dict) and (named or len(items) > 1) else None
            problems.append((base if name is None else f"{base} item {name}", str(error)))
            continue
        if source is None:
            n_outside += 1
        else:
            sources.append(source)
    return Expanded(sources, problems, n_outside)


def _items(document: Any) -> list[Any]:  # noqa: ANN401
    """Those of a document: itself, or the features of a collection of items."""
    if not isinstance(document, dict) or document.get("type") != "FeatureCollection":
        return [document]
    features = document.get("features")
    if not isinstance(features, list) or not features:
        raise NotAnItem("is no STAC item but a collection of none; give one with items.")
    return features


def _document(href: str) -> Any:  # noqa: ANN401
    """A file's JSON. Raises `NotAnItem`."""
    try:
        return json.loads(_text(href))
    except (ValueError, RecursionError) as error:
        raise NotAnItem(f"is no JSON ({error}); give a GeoTIFF or a STAC item.") from error
    except store_errors() as error:
        raise NotAnItem(f"cannot be read: {one_line(error)}; check the address and the credentials.") from error


def _text(href: str) -> str:
    with fsspec.open(href, "rb") if is_url(href) else Path(href).open("rb") as file:
        text = bytes(file.read(_MAX_ITEM_BYTES + 1))
    if len(text) > _MAX_ITEM_BYTES:
        raise NotAnItem(f"has more than {_MAX_ITEM_BYTES >> 20} MB; give a STAC item.")
    return text.decode()
