"""OUT/report.html: one file that opens anywhere, offline, and says what a run found and what it could not see."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import geopandas as gpd
import numpy as np
from bokeh.embed import components
from bokeh.layouts import row
from bokeh.resources import Resources
from numpy.typing import NDArray

from pipeline.features import read_features
from pipeline.geodesy import area_m2
from pipeline.mosaics import open_mosaic
from pipeline.normalise import Stretch
from pipeline.pixels import UnreadablePixels
from pipeline.quicklook import data_url, quicklook
from pipeline.report_maps import MAX_FEATURES, coverage_map, feature_map, query_colours, sampled
from pipeline.scenes import Scene
from pipeline.storage import Store
from pipeline.tiling import TileGrid
from t2s_core.errors import BadInput

NAME = "report.html"
MAX_MAPS = 12
"""Scenes that are drawn; those with failures first, then those with most features."""
MAX_LISTED = 200
"""Failures that are listed; `t2s status` lists all."""

_COVERAGE = "coverage_l"
_STYLE = """
:root { color-scheme: light; --line: #ddd; --soft: #666 }
body { font: 15px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 80rem; padding: 1.5rem; color: #1b1b1b }
h1 { font-size: 1.6rem; margin: 0 } h2 { font-size: 1.2rem; margin: 2.2rem 0 .6rem }
h3 { font-size: 1rem; margin: 1.6rem 0 .4rem }
.facts { display: flex; flex-wrap: wrap; gap: 1rem; margin: 1.2rem 0 }
.facts div { border: 1px solid var(--line); border-radius: .5rem; padding: .6rem 1rem; min-width: 7rem }
.facts b { display: block; font-size: 1.35rem } .soft { color: var(--soft) }
.status { border-radius: .4rem; padding: .1rem .6rem; color: white; background: #555 }
.SUCCESS { background: #00785a } .PARTIAL { background: #9a6700 } .FAILED, .INTERRUPTED { background: #a4400a }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; padding: .35rem .6rem; border-bottom: 1px solid var(--line); vertical-align: top }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums }
.swatch { display: inline-block; width: .8rem; height: .8rem; border-radius: .15rem; margin-right: .4rem }
.note { background: #fff8e5; border-left: 4px solid #e69f00; padding: .5rem .8rem; margin: .6rem 0 }
pre { background: #f6f6f6; padding: .8rem; overflow: auto; font-size: .8rem } .scroll { overflow-x: auto }
"""


@dataclass(frozen=True)
class _Drawn:
    """One scene's section."""

    scene: Scene
    figure: Any
    notes: Sequence[str]


def write_report(
    store: Store, manifest: Mapping[str, Any], truth: Mapping[str, gpd.GeoDataFrame] | None = None
) -> None:
    """Write the report of a run whose mosaics and features are finished.

    `manifest`: the content of run.json. `truth`: by scene, frames with `query_id` and `geometry` in any CRS, drawn as
    outlines. A scene that can no longer be read is drawn without its picture, and the report says so.
    """
    features = read_features(store)
    drawn = [_draw(store, manifest, entry, features, truth) for entry in _scenes_to_draw(manifest, features)]
    script, divisions = components([d.figure for d in drawn]) if drawn else ("", ())
    sections = [
        _headline(manifest, features),
        _queries(manifest, features),
        "<h2>Where</h2>",
        _note_on_maps(manifest, drawn),
        *(_section(d, division) for d, division in zip(drawn, divisions, strict=True)),
        _listing("Failed", "a machine fault or unreadable pixels", manifest["failures"]),
        _listing("Unparsable", "the model gave no usable answer", manifest.get("unparsable", [])),
        _seams(manifest.get("seams", [])),
        _fine_print(manifest),
    ]
    scripts = Resources(mode="inline", components=["bokeh"]).render() if drawn else ""
    title = escape(f"t2s {manifest['run_id']}: {manifest['status']}")
    page = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style>{scripts}</head>'
        f"<body>{''.join(sections)}{script}</body></html>\n"
    )
    store.write(NAME, page.encode())


def _scenes_to_draw(manifest: Mapping[str, Any], features: gpd.GeoDataFrame) -> list[dict[str, Any]]:
    failed = {failure["scene_id"] for failure in manifest["failures"]}
    n_features = features["scene_id"].value_counts().to_dict()
    by_interest = sorted(
        manifest["scenes"],
        key=lambda s: (s["scene_id"] not in failed, -n_features.get(s["scene_id"], 0), s["scene_id"]),
    )
    return by_interest[:MAX_MAPS]


def _draw(
    store: Store,
    manifest: Mapping[str, Any],
    entry: Mapping[str, Any],
    features: gpd.GeoDataFrame,
    truth: Mapping[str, gpd.GeoDataFrame] | None,
) -> _Drawn:
    scene, notes = Scene.from_json(dict(entry)), []
    mine = features[features["scene_id"] == scene.scene_id]
    shown = sampled(mine)
    if len(shown) < len(mine):
        notes.append(f"{len(mine):,} features; the map shows {MAX_FEATURES:,} of them, evenly sampled.")
    picture = None
    try:
        picture = data_url(quicklook(scene, Stretch.from_json(entry["stretch"])))
    except UnreadablePixels as error:
        notes.append(f"No picture: {error}")
    seen = feature_map(scene, picture, shown, manifest["queries"], None if truth is None else truth.get(scene.scene_id))
    return _Drawn(scene, row(seen, _coverage(store, manifest, scene)), notes)


def _coverage(store: Store, manifest: Mapping[str, Any], scene: Scene) -> Any:  # noqa: ANN401 -- Bokeh ships no types
    spec = manifest["spec"]
    mosaics = {q["query_id"]: open_mosaic(store, scene.scene_id, q["query_id"]) for q in manifest["queries"]}
    any_of_them = next(iter(mosaics.values()))
    level = min(int(str(name).removeprefix(_COVERAGE)) for name in any_of_them if str(name).startswith(_COVERAGE))
    coverage: dict[str, NDArray[np.uint8]] = {q: mosaic[f"{_COVERAGE}{level}"].values for q, mosaic in mosaics.items()}
    reasons: dict[tuple[int, int], list[str]] = {}
    for failure in [*manifest["failures"], *manifest.get("unparsable", [])]:
        scene_id, tile_level, tile_row, tile_col = failure["tile"].rsplit("/", 3)
        if (scene_id, int(tile_level)) == (scene.scene_id, level):
            lines = reasons.setdefault((int(tile_row), int(tile_col)), [])
            lines.append(f"{failure['query_id']}: {failure['reason']}")
    height, width = scene.shape
    return coverage_map(TileGrid(width, height, spec["tile_px"], spec["overlap_px"], level), coverage, reasons)


def _headline(manifest: Mapping[str, Any], features: gpd.GeoDataFrame) -> str:
    status, seconds = escape(manifest["status"]), manifest["timings"].get("wall_s")
    facts = {
        "scenes": f"{len(manifest['scenes']):,}",
        "km² of scenes": _km2(manifest["scenes"]),
        "queries": f"{len(manifest['queries']):,}",
        "features": f"{len(features):,}",
        "tile-queries": f"{manifest['counts'].get('total', 0):,}",
        "failed": f"{manifest['counts'].get('failed', 0):,}",
        "unparsable": f"{manifest['counts'].get('unparsable', 0):,}",
    }
    if seconds is not None:
        facts["this invocation"] = _duration(seconds)
    cards = "".join(f'<div><b>{value}</b><span class="soft">{name}</span></div>' for name, value in facts.items())
    when = escape(str(manifest.get("started", "")))
    return (
        f'<h1>Run {escape(manifest["run_id"])} <span class="status {status}">{status}</span></h1>'
        f'<div class="soft">{when}</div><div class="facts">{cards}</div>'
    )


def _queries(manifest: Mapping[str, Any], features: gpd.GeoDataFrame) -> str:
    colours = query_colours([q["query_id"] for q in manifest["queries"]])
    rows = []
    for query in manifest["queries"]:
        threshold = escape(str(query.get("threshold", "")))
        mine = features[features["query_id"] == query["query_id"]]
        score = f"{np.average(mine['score'], weights=mine['area_m2']):.2f}" if len(mine) else "none"
        rows.append(
            f'<tr><td><span class="swatch" style="background:{colours[query["query_id"]]}"></span>'
            f"{escape(query['query_id'])}</td><td>{escape(query['query'])}</td>"
            f'<td>{escape(str(query.get("label") or ""))}</td><td class="n">{threshold}</td>'
            f'<td class="n">{len(mine):,}</td><td class="n">{mine["scene_id"].nunique():,}</td>'
            f'<td class="n">{mine["area_m2"].sum():,.0f}</td><td class="n">{score}</td></tr>'
        )
    return (
        '<h2>What was asked and found</h2><div class="scroll"><table><tr><th>id</th><th>query</th><th>label</th>'
        '<th class="n">threshold</th><th class="n">features</th><th class="n">in scenes</th><th class="n">m²</th>'
        f'<th class="n" title="mean probability, weighted by area">score</th></tr>{"".join(rows)}</table></div>'
    )


def _note_on_maps(manifest: Mapping[str, Any], drawn: Sequence[_Drawn]) -> str:
    how = "Drag to pan, scroll to zoom; click a legend entry to hide a layer; point at a shape to read it."
    how = f'<p class="soft">{how}</p>'
    if len(drawn) == len(manifest["scenes"]):
        return how
    choice = "those with failures first, then those with most features"
    left_out = f"{len(manifest['scenes']):,} scenes, of which {len(drawn)} are drawn: {choice}."
    return f"{how}<div class='note'>{left_out}</div>"


def _section(drawn: _Drawn, division: str) -> str:
    scene = drawn.scene
    height, width = scene.shape
    facts = f"{width} x {height} px, {escape(str(scene.geobox.crs))[:40]}, {escape(scene.datetime or 'no date')}"
    notes = "".join(f'<div class="note">{escape(note)}</div>' for note in drawn.notes)
    return (
        f'<h3>{escape(scene.scene_id)} <span class="soft">{facts}</span></h3>'
        f'<div class="soft">{escape(scene.href)}</div>{notes}<div class="scroll">{division}</div>'
    )


def _listing(title: str, meaning: str, entries: Sequence[Mapping[str, str]]) -> str:
    if not entries:
        return ""
    rows = "".join(
        f"<tr><td>{escape(e['tile'])}</td><td>{escape(e['query_id'])}</td><td>{escape(e['reason'])}</td></tr>"
        for e in entries[:MAX_LISTED]
    )
    more = (
        f'<p class="soft">{len(entries) - MAX_LISTED:,} more: t2s status lists them all.</p>'
        if len(entries) > MAX_LISTED
        else ""
    )
    return (
        f'<h2>{title}: {len(entries):,} <span class="soft">{meaning}</span></h2><div class="scroll"><table>'
        f"<tr><th>tile (scene/level/row/col)</th><th>query</th><th>reason</th></tr>{rows}</table></div>{more}"
    )


def _seams(checks: Sequence[Mapping[str, Any]]) -> str:
    """How often masks change at tile borders: what is flagged first, then the largest ratios."""
    if not checks:
        return ""
    worst = sorted(checks, key=lambda c: (not c["flagged"], c["p"], -(c["ratio"] or 0)))
    rows = "".join(
        f"<tr><td>{escape(c['scene_id'])}</td><td>{escape(c['query_id'])}</td><td class='n'>{c['rate']:.4%}</td>"
        f"<td class='n'>{c['rate_elsewhere']:.4%}</td><td class='n'>{c['p']:.4f}</td>"
        f"<td>{'unlikely by chance' if c['flagged'] else ''}</td></tr>"
        for c in worst[:MAX_LISTED]
    )
    n = sum(c["flagged"] for c in checks)
    meaning = "how often neighbouring pixels differ across tile borders, and elsewhere; one in 200 is flagged by chance"
    return (
        f'<h2>Seam check: {n:,} of {len(checks):,} masks flagged <span class="soft">{meaning}</span></h2>'
        '<div class="scroll"><table><tr><th>scene</th><th>query</th><th class="n">at tile borders</th>'
        f'<th class="n">elsewhere</th><th class="n">p</th><th></th></tr>{rows}</table></div>'
    )


def _fine_print(manifest: Mapping[str, Any]) -> str:
    parts = {name: manifest.get(name) for name in ("models", "versions", "timings", "counts", "skipped_scenes", "spec")}
    texts = {name: json.dumps(part, indent=1, ensure_ascii=False) for name, part in parts.items() if part}
    blocks = (
        f"<details><summary>{escape(name)}</summary><pre>{escape(text)}</pre></details>" for name, text in texts.items()
    )
    return f"<h2>How</h2>{''.join(blocks)}"


def _km2(entries: Sequence[Mapping[str, Any]]) -> str:
    total, unplaced = 0.0, 0
    for entry in entries:
        try:
            total += area_m2(Scene.from_json(dict(entry)).geobox) / 1e6
        except BadInput:  # corners beyond the edge of the Earth, as in full-disk images; its features may be fine
            unplaced += 1
    return f"{total:,.2f}" + (f" ({unplaced} scenes have corners off the map)" if unplaced else "")


def _duration(seconds: float) -> str:
    if seconds < 120:  # noqa: PLR2004 -- beyond, minutes read better
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"  # noqa: PLR2004
