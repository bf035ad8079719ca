"""When a scene was taken, as its file says."""

import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, date, datetime
from typing import Any

_NAMES: Mapping[str, tuple[str, ...]] = {
    # what GDAL reads from the suppliers' IMD, RPB and XML files beside a raster
    "IMAGERY": ("ACQUISITIONDATETIME",),
    "IMD": ("IMAGE_1.firstLineTime",),
    "": (
        "ACQUISITIONDATETIME",
        "DATATAKE_1_DATATAKE_SENSING_START",
        "PRODUCT_START_TIME",
        "ACQUISITION_START_TIME",
        "SENSING_TIME",
        "NITF_IDATIM",
        "datetime",
        "acquired",
        # last: TIFF means the time of the file by it, and only imagery suppliers write that of the image
        "TIFFTAG_DATETIME",
    ),
}
"""By metadata domain, names of tags; the first that holds a time wins."""
_FORMS = ("%Y:%m:%d %H:%M:%S", "%Y%m%d%H%M%S")


def datetime_of(dataset: Any) -> str | None:  # noqa: ANN401 -- rasterio ships no types
    """ISO 8601 in UTC, from the first of the well-known tags that holds a time; None where none does.

    Times without a zone are read as UTC: that is what suppliers write. Others are converted.
    """
    for domain, names in _NAMES.items():
        tags = dataset.tags(ns=domain) if domain else dataset.tags()
        for name in names:
            found = utc(tags.get(name))
            if found is not None:
                return found
    date, time = tags.get("DATE_ACQUIRED"), tags.get("SCENE_CENTER_TIME")  # Landsat's two halves
    return utc(f"{date}T{time}".replace('"', "")) if date and time else None


def utc(text: str | None) -> str | None:
    """A written time as ISO 8601 in UTC; None where it is none, or a day without a time: that is no moment."""
    # a fraction finer than a microsecond is more than can be kept
    text = re.sub(r"(\.\d{6})\d+", r"\1", (text or "").strip().strip('"'))
    try:
        moment = _moment(text)
        aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
        moment = aware.astimezone(UTC)
    except (ValueError, OverflowError):
        return None  # an unreadable date is no reason to refuse a scene: the column is nullable
    # GDAL gives the epoch where it could not read a supplier's time
    return None if moment.timestamp() == 0 else moment.isoformat().replace("+00:00", "Z")


def _moment(text: str) -> datetime:
    for form in _FORMS:
        with suppress(ValueError):
            return datetime.strptime(text, form)  # noqa: DTZ007 -- the caller adds the zone
    if _is_day(text):
        raise ValueError(f"{text} is a day")
    return datetime.fromisoformat(text)


def _is_day(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True
