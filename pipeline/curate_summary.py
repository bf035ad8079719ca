"""What a data set of curated tiles holds, as rows for a person's eyes."""

from collections.abc import Mapping
from typing import Any

from pipeline.curate_splits import Split

_WINDOWS = {
    "crossing_blocks": "windows cross the border of a block",
    "unlabelled": "windows lie where no label is",
    "mostly_nodata": "windows are mostly no data",
    "unreadable": "windows could not be read",
}
_LEFT_OUT = {
    "sliver": "chip-queries show a sliver of their target, too little to count",
    "not_covered": "chip-queries lie where the labels are not known to be complete",
}


def count_rows(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row per query, and one for all: samples with their target and without, by split. `document`: dataset.json."""
    splits = [split.value for split in Split]
    rows = [
        {"query": entry["query"]}
        | {f"{split} {kind}": entry[split][kind] for split in splits for kind in ("present", "absent")}
        for entry in document["counts"]["queries"]
    ]
    total = {f"{s} {kind}": document["splits"][s][kind] for s in splits for kind in ("present", "absent")}
    return [*rows, {"query": "all"} | total]


def left_out_lines(document: Mapping[str, Any]) -> list[str]:
    """A line for each reason that something was left out for, and for each note."""
    counts = document["counts"]
    lines = [f"{counts['windows'][name]} {text}" for name, text in _WINDOWS.items() if counts["windows"].get(name)]
    lines += [f"{counts['left_out'][name]} {text}" for name, text in _LEFT_OUT.items() if counts["left_out"].get(name)]
    return [*lines, *document["notes"]]
