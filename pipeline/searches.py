"""Searches of STAC APIs, spelled as the API spells them: `https://host/stac/search?collections=a&bbox=...#asset`."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from pipeline.addresses import asset_problem
from pipeline.texts import one_line

if TYPE_CHECKING:
    from requests import Request

MAX_ITEMS = 100_000
"""Of a search that names no limit of its own."""
_KNOWN = ("collections", "ids", "bbox", "datetime", "query", "filter", "filter-lang", "limit")


class SearchFailed(Exception):
    """Why a search gave no items; the text says what to do."""


def is_search(href: str) -> bool:
    """Whether an address is that of a STAC API's search."""
    return href.startswith(("http://", "https://")) and urlsplit(href).path.rstrip("/").endswith("/search")


def search(url: str, hosts: Sequence[str], bbox: Sequence[float] | None = None) -> list[dict[str, Any]]:
    """The items that an API finds, over all its pages, in its order.

    Args:
        url: `collections`, `ids` and `bbox` are separated by commas, `query` is JSON, `filter` is CQL2 text, and
            `limit` is the most items, over all pages.
        hosts: Where pages may lie. An API may not send us elsewhere.
        bbox: West, south, east, north in degrees, of a search that names neither a box nor items.

    Raises:
        SearchFailed: The address is odd, or the API does not answer as one.

    """
    import requests
    from pystac import STACError
    from pystac_client import Client
    from pystac_client.exceptions import APIError
    from pystac_client.stac_api_io import StacApiIO

    def stay(request: "Request") -> "Request":
        if refused := asset_problem(str(request.url), hosts, "a page"):
            raise ValueError(f"it sends us away: {refused}")
        return request

    wanted = _wanted(url)
    if bbox is not None and "ids" not in wanted:  # which APIs take for all that is asked, or refuse beside a box
        wanted.setdefault("bbox", list(bbox))
    root = url.split("?", maxsplit=1)[0].rstrip("/").removesuffix("/search")
    try:
        client = Client.open(root, stac_io=StacApiIO(max_retries=3), request_modifier=stay, timeout=60)
        return list(client.search(method="GET", **wanted).items_as_dicts())
    except (APIError, STACError, requests.RequestException, NotImplementedError, KeyError, ValueError) as error:
        raise SearchFailed(
            f"cannot be searched: {one_line(error, 300).rstrip('.')}; check the address of the API."
        ) from error


def _wanted(url: str) -> dict[str, Any]:
    """What pystac-client calls the parameters. Raises `SearchFailed`."""
    given = {key: values[-1] for key, values in parse_qs(urlsplit(url).query).items()}
    if unknown := sorted(set(given) - set(_KNOWN)):
        raise SearchFailed(f"has the unknown parameter {unknown[0]}; a search has {', '.join(_KNOWN)}.")
    wanted: dict[str, Any] = {"max_items": MAX_ITEMS}
    try:
        for key, value in given.items():
            if key in {"collections", "ids"}:
                wanted[key] = value.split(",")
            elif key == "bbox":
                wanted[key] = [float(part) for part in value.split(",")]
            elif key == "query":
                wanted[key] = json.loads(value)
            elif key == "limit":
                wanted["max_items"] = int(value)
            else:
                wanted[key.replace("-", "_")] = value
    except ValueError as error:
        raise SearchFailed(f"{key}={value[:80]} is not understood; see docs/reference/run-yaml.md.") from error
    return wanted
