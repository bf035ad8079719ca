"""Static STAC catalogs and collections: files that link to items and to further files that do.

pystac would follow a link wherever it leads, and a circle of them until Python gives up.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

from pipeline.addresses import asset_problem
from pipeline.credentials import public
from pipeline.items import NotAnItem, beside

MAX_FILES = 100_000
"""Of items and catalogs together."""
MAX_DEPTH = 16
"""Catalogs within catalogs."""
CATALOGS = ("Catalog", "Collection")
_FOLLOWED = ("item", "child")
_AT_ONCE = 8


class Linked(NamedTuple):
    """What a link leads to."""

    href: str
    document: Any
    """JSON; None where there is a problem, or as long as it is unread."""
    problem: str = ""


def items_below(
    href: str, catalog: Mapping[str, Any], hosts: Sequence[str], read: Callable[[str], Any]
) -> Iterator[Linked]:
    """The documents that a catalog and its children link to as items, and what is wrong on the way there.

    By level: a catalog's own items come before those of its children. Every file is read once, so links in a circle
    end.

    Args:
        href: of the catalog; relative links are relative to where it was read.
        catalog: its JSON.
        hosts: where linked files may lie.
        read: gives a file's JSON, or raises `NotAnItem`. Several threads call it.

    """
    level, seen = [Linked(href, catalog)], {public(href)}
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for _ in range(MAX_DEPTH):
            links = [link for parent in level for link in _links(parent, hosts)]
            yield from (link for link in links if link.problem)
            new = {public(link.href): link.href for link in links if not link.problem}
            wanted = [place for name, place in new.items() if name not in seen]
            seen |= new.keys()
            if len(seen) > MAX_FILES:
                yield Linked(href, None, f"links to more than {MAX_FILES:,} files; name a catalog below it.")
                return
            level = []
            for found in pool.map(partial(_follow, read), wanted):
                if isinstance(found.document, dict) and found.document.get("type") in CATALOGS:
                    level.append(found)
                else:
                    yield found
            if not level:
                return
    yield Linked(href, None, f"nests more than {MAX_DEPTH} deep; name a catalog below it.")


def _links(parent: Linked, hosts: Sequence[str]) -> Iterator[Linked]:
    """Where they lead to, unread; of one that may not be followed, where it stands and why."""
    links = parent.document.get("links")
    for link in links if isinstance(links, list) else []:
        if isinstance(link, dict) and link.get("rel") in _FOLLOWED and isinstance(link.get("href"), str):
            try:
                place = beside(parent.href, link["href"])
            except NotAnItem as error:
                yield Linked(parent.href, None, str(error))
                continue
            refused = asset_problem(place, hosts, "its link")
            yield Linked(place, None) if refused is None else Linked(parent.href, None, refused)


def _follow(read: Callable[[str], Any], place: str) -> Linked:
    try:
        return Linked(place, read(place))
    except NotAnItem as error:
        return Linked(place, None, str(error))
