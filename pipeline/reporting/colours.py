"""Colours that people with any colour vision tell apart (Okabe and Ito's), and what else tells layers apart.

Vermilion is kept for what failed, so no query has it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

FAILED = "#d55e00"
ALL_HUES = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#f0e442")
_DASHES = ("solid", "dashed", "dotted", "dotdash")

STATUS = {
    "ok": "#009e73",
    "no_target": "#a6dcc9",
    "skipped_irrelevant": "#c6dbef",
    "skipped_nodata": "#bdbdbd",
    "not_planned": "#ededed",
    "planned": "#56b4e9",
    "pending": "#ffffff",
    "unparsable": "#e69f00",
    "failed": FAILED,
}
HATCH = {"failed": "x", "unparsable": "/", "pending": "."}
"""For who sees no colours, and in print."""


@dataclass(frozen=True, slots=True)
class Ink:
    """How a query is drawn."""

    colour: str
    dash: str


def inks(query_ids: Sequence[str]) -> dict[str, Ink]:
    """One for each query; from the seventh on hues come again with another dash."""
    n = len(ALL_HUES)
    return {q: Ink(ALL_HUES[i % n], _DASHES[i // n % len(_DASHES)]) for i, q in enumerate(query_ids)}
