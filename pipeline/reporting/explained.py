"""What `t2s explain` shows: text for a terminal, and a page with the pictures that the models saw."""

import io
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import numpy as np
import shapely
from numpy.typing import NDArray
from PIL import Image

from pipeline.explain import Explained
from pipeline.pixels import UnreadablePixels, open_scene
from pipeline.read import read_window
from pipeline.reporting.html import note, table, text
from pipeline.reporting.page import asset
from pipeline.trace import regions_of

_WRAP = 100


def lines(found: Sequence[Explained]) -> Iterator[str]:
    """For a terminal; what a model wrote is cleared of control characters."""
    for item in found:
        document = item.to_json()
        yield f"{document['tile']}  {item.query.query_id}: {document['status']}  ({_plain(item.query.text)})"
        if document.get("reason"):
            yield f"  reason     {_plain(document['reason'])}"
        if document.get("reasoning"):
            yield f"  reasoning  {_plain(document['reasoning'])}"
        for instance in document.get("instances", []):
            box = " ".join(f"{v:.0f}" for v in instance["box_tile_px"])
            points = " ".join(f"({x:.0f}, {y:.0f})" for x, y in instance["points_tile_px"])
            yield (
                f"  box        {box}  points {points}  predicted IoU {instance['predicted_iou']:.2f}  "
                f"probability here {instance['probability_here']:.2f}"
            )


def page(found: Sequence[Explained], title: str, signed: Mapping[str, tuple[str, ...]] = MappingProxyType({})) -> str:
    """One file, offline, with no script: each tile with its boxes, points and masks drawn on it.

    `signed`: by scene, the addresses that open, where the run's lack a signature; they are not written.
    """
    pictures = _Pictures(signed)
    blocks = "".join(_block(item, pictures) for item in found)
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{text(title)}</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{text(policy)}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{asset('page.css')}</style></head><body><main><h1>{text(title)}</h1>"
        "<p class=\"soft\">Boxes and points are the prompter's (dashed, and crosses), outlines the segmenter's masks "
        "at even odds, the ring is the point that was asked about.</p>"
        f"{blocks}</main></body></html>\n"
    )


def _block(item: Explained, pictures: "_Pictures") -> str:
    document = item.to_json()
    status = document["status"].replace("_", " ")
    parts = [f"<h2>{text(item.query.text)}: {text(status)} <span class='soft'>{text(document['tile'])}</span></h2>"]
    url = pictures.url(item)
    parts.append(note(url.removeprefix("!")) if url.startswith("!") else _drawing(item, url))
    if document.get("reason"):
        parts.append(note(document["reason"]))
    if document.get("reasoning"):
        parts.append(f"<blockquote>{text(document['reasoning'])}</blockquote>")
    heads = [("object", True), ("box in the tile", False), ("predicted IoU", True), ("probability here", True)]
    rows = [
        f"<td class=n>{i}</td><td>{text(' '.join(f'{v:.0f}' for v in one['box_tile_px']))}</td>"
        f"<td class=n>{one['predicted_iou']:.2f}</td><td class=n>{one['probability_here']:.2f}</td>"
        for i, one in enumerate(document.get("instances", []), start=1)
    ]
    if rows:
        parts.append(table("", heads, rows, label="objects"))
    if document.get("reply"):
        parts.append(f"<details><summary>the whole reply</summary><pre>{text(document['reply'])}</pre></details>")
    return f'<section class="explained">{"".join(parts)}</section>'


def _drawing(item: Explained, url: str) -> str:
    side = item.plan.grids[item.tile.key.level].tile_px
    x, y = item.at_tile_px
    over = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{side / 50:.1f}" class="here"/>'
    if item.result is not None:
        for i, prompt in enumerate(item.result.prompts):
            over += _mask_path(item.logits(i) > 0)
            x0, y0, x1, y1 = prompt.box_tile_px
            over += f'<rect x="{x0:.1f}" y="{y0:.1f}" width="{x1 - x0:.1f}" height="{y1 - y0:.1f}" class="box"/>'
            arm = side / 60
            over += "".join(
                f'<path class="point" d="M{px - arm:.1f} {py:.1f}h{2 * arm:.1f}M{px:.1f} {py - arm:.1f}'
                f'v{2 * arm:.1f}"/>'
                for px, py in prompt.points_tile_px
            )
    return (
        f'<svg class="tile" viewBox="0 0 {side} {side}" role="img" aria-label="the tile">'
        f'<image href="{url}" width="{side}" height="{side}"/>{over}</svg>'
    )


def _mask_path(mask: NDArray[np.bool_]) -> str:
    rings = [r for p in regions_of(mask.astype(np.uint8)).polygons for r in (p.exterior, *p.interiors)]
    path = "".join(
        "M" + "L".join(f"{x:.0f} {y:.0f}" for x, y in shapely.get_coordinates(ring)[:-1].tolist()) + "Z"
        for ring in rings
    )
    return f'<path d="{path}" class="mask"/>'


class _Pictures:
    """Of tiles as the models saw them, each read once."""

    def __init__(self, signed: Mapping[str, tuple[str, ...]]) -> None:
        self._signed = signed
        self._urls: dict[str, str] = {}

    def url(self, item: Explained) -> str:
        """A `data:` URL; after a `!`, why there is none."""
        name = str(item.tile.key)
        if name not in self._urls:
            self._urls[name] = self._read(item)
        return self._urls[name]

    def _read(self, item: Explained) -> str:
        scene = replace(item.scene, signed=self._signed.get(item.scene.scene_id, ()))
        side = item.plan.grids[item.tile.key.level].tile_px
        try:
            with open_scene(scene) as dataset:
                pixels = read_window(dataset, scene, item.tile.window_scene_px, side, item.plan.stretch)
        except UnreadablePixels as error:
            return f"!No picture: {error}"
        sink = io.BytesIO()
        Image.fromarray(pixels.image).save(sink, "WEBP", quality=85, method=2)
        return f"data:image/webp;base64,{b64encode(sink.getvalue()).decode()}"


def _plain(said: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in said).split())
