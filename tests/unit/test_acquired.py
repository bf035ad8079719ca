"""Times in files become UTC, and what is no time becomes none."""

from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from tiffs import draw_tiff, noise

from pipeline.acquired import datetime_of, utc


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("2022:01:17 10:43:43", "2022-01-17T10:43:43Z"),
        ("2022-01-17 10:43:43", "2022-01-17T10:43:43Z"),
        ("2022-01-17T10:43:43.024Z", "2022-01-17T10:43:43.024000Z"),
        ("2022-01-17T23:43:43-05:00", "2022-01-18T04:43:43Z"),
        ("20220117104343", "2022-01-17T10:43:43Z"),
        ("2022-01-17T10:43:43.1234567Z", "2022-01-17T10:43:43.123456Z"),
        (' "2022-01-17T10:43:43" ', "2022-01-17T10:43:43Z"),
        ("2022-01-17", None),
        ("20220117", None),
        ("0000:00:00 00:00:00", None),
        ("0001-01-01T00:00:00+05:00", None),
        ("yesterday", None),
        ("", None),
        (None, None),
    ],
)
def test_times_as_they_are_written(written: str | None, read: str | None) -> None:
    assert utc(written) == read


@given(st.datetimes(min_value=datetime(1900, 1, 1)), st.integers(-14 * 60, 14 * 60))  # noqa: DTZ001 -- hypothesis wants naive
def test_every_zone_becomes_utc(moment: datetime, offset_min: int) -> None:
    aware = moment.replace(tzinfo=timezone(timedelta(minutes=offset_min)))
    if aware.year < 9999 and aware.timestamp() != 0:  # beyond lies what no zone can move; the epoch means no time
        assert datetime.fromisoformat(str(utc(aware.isoformat()))) == aware


@pytest.mark.parametrize(
    ("tags", "read"),
    [
        ({"": {"TIFFTAG_DATETIME": "2022:01:17 10:43:43"}}, "2022-01-17T10:43:43Z"),
        (
            {
                "IMAGERY": {"ACQUISITIONDATETIME": "2021-03-04 05:06:07"},
                "": {"TIFFTAG_DATETIME": "2022:01:17 10:43:43"},
            },
            "2021-03-04T05:06:07Z",
        ),
        ({"IMD": {"IMAGE_1.firstLineTime": "2009-10-21T12:34:56.000000Z;"}}, None),
        ({"IMD": {"IMAGE_1.firstLineTime": "2009-10-21T12:34:56.000000Z"}}, "2009-10-21T12:34:56Z"),
        (
            {"": {"DATE_ACQUIRED": "2020-06-01", "SCENE_CENTER_TIME": '"17:22:33.5Z"'}},
            "2020-06-01T17:22:33.500000Z",
        ),
        ({"": {"PRODUCT_START_TIME": "soon", "TIFFTAG_DATETIME": "2022:01:17 10:43:43"}}, "2022-01-17T10:43:43Z"),
        ({"": {"DATE_ACQUIRED": "2020-06-01"}}, None),
    ],
)
def test_the_surest_tag_is_believed(tmp_path: Path, tags: dict[str, dict[str, str]], read: str | None) -> None:
    path = draw_tiff(tmp_path / "a.tif", noise(1, 4, 4))
    with rasterio.open(path, "r+") as dataset:
        for domain, entries in tags.items():
            dataset.update_tags(ns=domain or None, **entries)
    with rasterio.open(path) as dataset:
        assert datetime_of(dataset) == read
