"""Where scenes may come from: schemes that are known, and hosts that the user named."""

import fnmatch
import re
from collections.abc import Iterable
from urllib.parse import urlsplit

from pipeline.rasters import is_url

SCHEMES = ("file", "http", "https", "s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "memory")
"""`memory` holds what this process put there. fsspec knows others, some of which run commands or unpack archives."""
_ODD = re.compile(r"[\s\\\x00-\x1f\x7f]|::")
"""What readers of addresses disagree about, and fsspec's mark for one address inside another."""


def host_of(url: str) -> str:
    """Host and port of an http(s) address, else the bucket or container; lower case. Empty for local paths."""
    return urlsplit(url).netloc.lower() if is_url(url) else ""


def scheme_problem(href: str) -> str | None:
    """Why an address is not opened, whoever names it; None for local paths. One line."""
    if not is_url(href):
        return None
    try:
        parts = urlsplit(href)
    except ValueError as error:
        return f"is no address ({error}); check it."
    if parts.scheme.lower() not in SCHEMES:
        return f"{parts.scheme}:// is not opened; use a path or one of {', '.join(SCHEMES[:-1])}."
    if _ODD.search(href.split("?", maxsplit=1)[0]):
        return "holds white space, `\\` or `::`, which readers of addresses take for different things; encode them."
    return None


def asset_problem(href: str, allowed_hosts: Iterable[str], what: str = "its asset") -> str | None:
    """Why a file that a STAC item names is not opened; None where it may be. One line that calls the file `what`.

    `allowed_hosts`: hosts, or patterns such as `*.example.org`; those of everything that the user named are among them.
    """
    problem = scheme_problem(href)
    if problem is not None:
        return f"{what} {href[:120]!r} {problem}"
    if not is_url(href):
        return None
    host = host_of(href)
    if not host:  # clients take what follows for a bucket, or for a file of this machine
        return f"{what} {href[:120]!r} names no host; give the file itself."
    if "@" in host:
        return f"{what} has an address that holds a user's name; give the file itself."
    if not any(fnmatch.fnmatchcase(host, pattern.lower()) for pattern in allowed_hosts):
        return f"{what} is on {host}, which you did not name; add --allow-hosts {host} if you trust it."
    return None
