"""Which band is called what: by a STAC item, else by the file itself."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pipeline.texts import one_line
from t2s_core.errors import BadInput

Bands = tuple[int, ...] | tuple[str, ...]
"""One or three numbers from 1, or names: what is shown as red, green, blue."""

COMMON_NAMES = frozenset(
    {
        "pan", "coastal", "blue", "green", "green05", "yellow", "red", "rededge", "rededge071", "rededge075",
        "rededge078", "nir", "nir08", "nir09", "cirrus", "swir16", "swir22", "lwir", "lwir11", "lwir12",
    }
)  # fmt: skip
"""Those of the STAC extension `eo`."""
_MOST_SAID = 20
_LONGEST = 40
"""Of a band's name."""


class Named(NamedTuple):
    """What a band is called, in lower case; empty where nobody says."""

    common: str = ""
    """`red`"""
    name: str = ""
    """`b04`"""

    def __str__(self) -> str:
        return f"{self.common} ({self.name})" if self.common and self.name else self.common or self.name


def of_asset(asset: Mapping[str, Any]) -> tuple[Named, ...]:
    """A STAC asset's bands in order, as STAC 1.1 (`bands`) or 1.0 (`eo:bands`) writes them; none where it is mute.

    The one band of an asset may be named by the asset itself, as STAC 1.1 has it.
    """
    listed = [[b for b in found if isinstance(b, dict)] if isinstance(found, list) else []
              for found in (asset.get("bands"), asset.get("eo:bands"))]  # fmt: skip
    if not any(listed):
        alone = _named([asset])
        return (Named(alone.common),) if alone.common else ()
    count = max(map(len, listed))
    return tuple(_named([bands[i] for bands in listed if i < len(bands)]) for i in range(count))


def of_file(dataset: Any) -> tuple[Named, ...]:  # noqa: ANN401 -- rasterio ships no types
    """A file's bands: by their descriptions where any of these is a common name, else by colour interpretation too."""
    described = [_plain(text or "") for text in dataset.descriptions]
    if COMMON_NAMES.intersection(described):
        return tuple(Named(text, text) if text in COMMON_NAMES else Named("", text) for text in described)
    colours = [colour.name if colour.name in COMMON_NAMES else "" for colour in dataset.colorinterp]
    return tuple(map(Named, colours, described))


def place(wanted: str, bands: Sequence[Named]) -> int | None:
    """Number, from 1, of the band of this common name, else of this name; None where there is none.

    Raises `BadInput` where several bands are called so.
    """
    for field in ("common", "name"):
        found = [i for i, band in enumerate(bands, start=1) if getattr(band, field) == wanted.lower()]
        if len(found) > 1:
            raise BadInput(f"{len(found)} of its bands are called {wanted}: {listed(bands)}; give numbers.")
        if found:
            return found[0]
    return None


def numbers(wanted: Sequence[str], of_item: Sequence[Named], dataset: Any) -> tuple[int, ...]:  # noqa: ANN401
    """The numbers of bands that are wanted by name. Where the item names any, the file is not asked.

    Raises `BadInput`, one line, that lists what there is.
    """
    bands = of_item if any(map(str, of_item)) else of_file(dataset)
    found = [place(name, bands) for name in wanted]
    lacking = [name for name, number in zip(wanted, found, strict=True) if number is None]
    if lacking:
        raise BadInput(
            f"no band is called {lacking[0]}; it has {listed(bands) or 'none'}; give numbers: --bands 3,2,1."
        )
    return tuple(number for number in found if number is not None)


def listed(bands: Sequence[Named]) -> str:
    """`1 red (b04), 2 green, 3`, cut where there are very many."""
    said = ", ".join(f"{i} {band}".rstrip() for i, band in enumerate(bands[:_MOST_SAID], start=1))
    return said if len(bands) <= _MOST_SAID else f"{said} and {len(bands) - _MOST_SAID} more"


def _named(entries: Sequence[Mapping[str, Any]]) -> Named:
    """Of entries that tell of one band, the first that says it."""
    commons = [entry.get(key) for entry in entries for key in ("eo:common_name", "common_name")]
    names = [entry.get("name") for entry in entries]
    common, name = (next((_plain(t) for t in texts if isinstance(t, str) and t), "") for texts in (commons, names))
    return Named(common, name)


def _plain(text: str) -> str:
    """Of a stranger's file, in a line, in lower case."""
    return one_line(text, _LONGEST).lower() if text.strip() else ""
