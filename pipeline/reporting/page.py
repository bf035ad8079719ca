"""The page itself: everything in one file, and a policy by which a browser would load nothing else anyway."""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from bokeh.document import Document
from bokeh.resources import Resources

from pipeline.reporting.contents import MapContent
from pipeline.reporting.html import note, script_json, text

_ASSETS = files("pipeline.reporting")


@dataclass(frozen=True)
class Page:
    """What a report holds, as HTML."""

    title: str
    before: Sequence[str]
    """Before the map."""
    after: Sequence[str]
    content: MapContent | None
    """The map; None where there is nothing to draw."""


def render(page: Page) -> str:
    """The whole file. Only scripts whose hash its policy names run in it, and none of them is made of texts."""
    scripts, data, where = [], "", ""
    if page.content is not None:
        scripts = [*_bokeh(), asset("page.js")]
        data = script_json("t2s-map", _item(page.content.figure)) + script_json("t2s-data", page.content.data)
        where = asset("map.html").replace("<!-- notes -->", "".join(map(note, page.content.notes)))
    hashes = " ".join(map(_hash, scripts)) or "'none'"
    policy = f"default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src {hashes}"
    code = "".join(f"<script>{script}</script>" for script in scripts)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{text(policy)}">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{text(page.title)}</title>'
        f'<style>{asset("page.css")}</style></head><body><a class="skip" href="#features">Skip the map</a><main>'
        f"{''.join(page.before)}{where}{''.join(page.after)}</main>{data}{code}</body></html>\n"
    )


def _item(figure: Any) -> dict[str, Any]:  # noqa: ANN401 -- Bokeh ships no types
    """What `Bokeh.embed.embed_item` takes. `bokeh.embed.json_item` makes the same in twice the time."""
    document: Any = Document()
    document.add_root(figure)
    return {"doc": document.to_json(deferred=False), "root_id": figure.id, "target_id": None}


@cache
def asset(name: str) -> str:
    """A file of this package."""
    return _ASSETS.joinpath(name).read_text(encoding="utf-8")


@cache
def _bokeh() -> tuple[str, ...]:
    resources: Any = Resources(mode="inline", components=["bokeh"])
    return tuple(resources.js_raw)


def _hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
