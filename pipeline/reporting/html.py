"""Pieces of a page. Whatever is not made here is escaped here."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

_MINUTES_FROM_S = 120
_HOURS_FROM_MIN = 120
_FEW = 10


def text(value: object) -> str:
    """Anything as text that no browser takes for markup, in an attribute either."""
    return escape(str(value))


def cell(value: object, *, number: bool = False) -> str:
    """A cell of a table."""
    return f'<td class="n">{text(value)}</td>' if number else f"<td>{text(value)}</td>"


def table(caption: str, heads: Sequence[tuple[str, bool]], rows: Iterable[str], *, label: str = "") -> str:
    """A table that scrolls sideways where it is too wide, with keys too.

    `heads`: what is written there, and whether numbers stand below it. `rows`: cells, as `cell` makes them.
    """
    head = "".join(f'<th scope="col"{" class=n" if number else ""}>{text(name)}</th>' for name, number in heads)
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    said = f"<caption>{text(caption)}</caption>" if caption else ""
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{text(label or caption)}">'
        f"<table>{said}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def note(said: str) -> str:
    """Something that a reader must know."""
    return f'<p class="note">{text(said)}</p>'


def swatch(colour: str, dash: str = "solid") -> str:
    """A query's colour. Decoration: its name stands beside it."""
    style = {"dotdash": "dashed"}.get(dash, dash)
    return f'<span class="swatch" aria-hidden="true" style="background:{colour}66;border:2px {style} {colour}"></span>'


def script_json(name: str, data: Mapping[str, Any]) -> str:
    """Data for the page's script, in an element that no browser runs and no text can end."""
    packed = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    return f'<script type="application/json" id="{name}">{packed}</script>'


def duration(seconds: float) -> str:
    """For people."""
    if seconds < _MINUTES_FROM_S:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < _HOURS_FROM_MIN else f"{minutes // 60} h {minutes % 60} min"


def area(square_metres: float) -> str:
    """For people: three digits, in square metres or square kilometres."""
    if square_metres >= 1e6:  # noqa: PLR2004 -- a square kilometre
        return f"{square_metres / 1e6:,.3g} km²" if square_metres < 1e9 else f"{square_metres / 1e6:,.0f} km²"  # noqa: PLR2004
    return f"{square_metres:,.0f} m²" if square_metres >= _FEW else f"{square_metres:.2g} m²"


def rounded(value: float) -> str:
    """For people: three digits, and never an exponent."""
    digits = max(0, 2 - math.floor(math.log10(value))) if value > 0 else 0
    return f"{value:,.{digits}f}"


def plural(n: int, one: str, many: str = "") -> str:
    """`1 scene`, `3 scenes`."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"
