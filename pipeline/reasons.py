"""Reasons of failures by the cause that they share: one broken server is one line, however many tiles it failed."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

_PLACES = (
    (re.compile(r"\bwindow \([^)]*\)"), "window *"),
    (re.compile(r"\b(X offset|Y offset|offset|row|col|column|tile|strip|strile|block|scanline|line) \d+"), r"\1 *"),
    (re.compile(r"\b(got|expected|missing|read) \d+( bytes)?"), r"\1 *\2"),
)
"""Where in its file a tile lies, as GDAL and we spell it."""


def grouped(failures: Iterable[Mapping[str, str]]) -> list[dict[str, Any]]:
    """`{reason, count, example_tile}`, the most frequent first; in `reason` a `*` stands for what differs by tile.

    `failures`: see `Committed.reasons`. Numbers that tell causes apart, such as a server's status, are kept.
    """
    groups: dict[str, dict[str, Any]] = {}
    for failure in failures:
        reason = _without_place(failure["reason"], failure["tile"])
        group = groups.setdefault(reason, {"reason": reason, "count": 0, "example_tile": failure["tile"]})
        group["count"] += 1
    return sorted(groups.values(), key=lambda group: (-group["count"], group["reason"]))


def _without_place(reason: str, tile: str) -> str:
    reason = reason.replace(tile, "*")
    for pattern, replacement in _PLACES:
        reason = pattern.sub(replacement, reason)
    return reason
