"""What `t2s plan --preview` writes: the map of a run that has not been started, with the tiles on it."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from pipeline.normalise import IDENTITY
from pipeline.plan import ScenePlan
from pipeline.prepare import Prepared, sampled_stretch, scene_plan
from pipeline.reporting.budget import Budget
from pipeline.reporting.colours import inks
from pipeline.reporting.contents import MapContent, Plane, content, described_queries, tile_layer
from pipeline.reporting.html import cell, duration, note, plural, table, text
from pipeline.reporting.page import Page, render
from pipeline.reporting.pictures import Shown, quicklooks
from pipeline.reporting.sections import ground
from pipeline.reporting.tiles import WORST_FIRST, Cover, coarseness, covers
from pipeline.scenes import Problem, Scene

_READERS = 4
_NOTHING: Mapping[str, Any] = {
    name: []
    for name in (
        "id", "query", "scene", "score", "area", "tiles", "edge", "at", "box", "why", "texts", "prompts",
    )
}  # fmt: skip


def preview(prepared: Prepared, expected: Mapping[str, Any], problems: Sequence[Problem]) -> str:
    """The page. Reads pixels: pictures of the first scenes, and samples for their stretch.

    `expected`: what `estimate` says.
    """
    shown, notes = _shown(prepared, Budget().scenes)
    map_content = _map(prepared, shown, Budget(), notes) if shown else None
    before = [_headline(prepared, expected), _problems(problems), _queries(prepared)]
    return render(Page(f"t2s plan of {prepared.store.url}", before, (), map_content))


def _shown(prepared: Prepared, most: int) -> tuple[list[Shown], list[str]]:
    first = prepared.scenes[:most]
    with ThreadPoolExecutor(_READERS) as readers:
        sampled = [stretch for _, stretch in readers.map(sampled_stretch, first)]
    notes = [fault for _, fault in sampled if fault]
    if len(prepared.scenes) > most:
        notes.append(f"{len(prepared.scenes):,} scenes, of which the first {most} are drawn.")
    return [Shown(scene, stretch) for scene, (stretch, _) in zip(first, sampled, strict=True)], notes


def _map(prepared: Prepared, shown: Sequence[Shown], budget: Budget, notes: list[str]) -> MapContent:
    plane = Plane.of([one.scene for one in shown])
    looks, of_pictures = quicklooks(
        shown, plane.frame, max_bytes=budget.picture_bytes, decode_mpx=budget.decode_mpx * 4
    )
    plans = [scene_plan(prepared, scene, IDENTITY, "") for scene in plane.scenes]
    n_tiles = sum(plan.counts()[min(plan.grids)] for plan in plans)
    if n_tiles > budget.tiles:
        notes.append(f"{n_tiles:,} tiles are too many to draw one by one; the map shows the ground that they are on.")
    planned = _each(plans) if n_tiles <= budget.tiles else _ground(plans, budget.tiles)
    tiles, said = tile_layer(plane.frame, planned, {})
    queries, ink = prepared.spec.queries, inks([q.query_id for q in prepared.spec.queries])
    nothing: dict[str, list[Any]] = {"xs": [], "ys": [], "row": []}
    data = {
        "out": prepared.store.url,
        "preview": True,
        "queries": described_queries(queries, ink, {}),
        "scenes": plane.described({}),
        "features": _NOTHING,
        "prompts": {"boxes": [], "points": []},
        "tiles": said,
        "shapes": [nothing for _ in queries],
        "truth": None,
    }
    return content(plane, looks, tiles, inks=ink, data=data, notes=[*notes, *of_pictures])


def _each(plans: Sequence[ScenePlan]) -> Iterator[tuple[Scene, Cover]]:
    """The own part of each tile of the finest level; what overlaps would hide the borders."""
    for plan in plans:
        level = min(plan.grids)
        for tile in plan.tiles():
            key = tile.key
            if key.level == level:
                window = plan.grids[level].core(key.row, key.col)
                yield plan.scene, Cover(window, "planned", f"{key.level}/{key.row}/{key.col}")


def _ground(plans: Sequence[ScenePlan], most: int) -> Iterator[tuple[Scene, Cover]]:
    """What the tiles of the finest level lie on, in few rectangles."""
    pending, nowhere = WORST_FIRST.index("pending"), WORST_FIRST.index("not_planned")
    grids = [plan.grids[min(plan.grids)] for plan in plans]
    codes = [
        np.where(plan.planned(grid.level), pending, nowhere).astype(np.uint8)
        for plan, grid in zip(plans, grids, strict=True)
    ]
    factor = coarseness(list(zip(grids, codes, strict=True)), most, covers)
    for plan, grid, code in zip(plans, grids, codes, strict=True):
        yield from ((plan.scene, cover._replace(status="planned")) for cover in covers(grid, code, factor))


def _headline(prepared: Prepared, expected: Mapping[str, Any]) -> str:
    seconds, tokens = expected["seconds"], expected["tokens"]
    facts = {
        "scenes": f"{expected['scenes']:,}",
        "of ground": ground(prepared.scenes),
        "tiles": f"{expected['tiles']:,}",
        "tile-queries": f"{expected['tile_queries']:,}",
        "Mpx for the models": f"{expected['pixels'] / 1e6:,.1f}",
        "expected time": "unknown" if seconds is None else duration(seconds),
        "expected tokens": "unknown" if tokens is None else f"{tokens:,}",
    }
    cards = "".join(
        f'<div><b>{text(value)}</b><span class="soft">{text(name)}</span></div>' for name, value in facts.items()
    )
    known = "" if seconds is not None else note(
        "How long it takes is known once these models have run here: t2s segment with --sample 20 tells, and shows "
        "what the answers look like."
    )  # fmt: skip
    side = f"{prepared.tile_px} px tiles, {prepared.overlap_px} px of overlap"
    return (
        f'<header><p class="soft">t2s plan</p><h1>{plural(expected["tiles"], "tile")} in '
        f'{plural(expected["scenes"], "scene")} <span class="status">NOT STARTED</span></h1>'
        f'<p class="soft">{text(side)}; results would go to '
        f'<code>{text(prepared.store.url)}</code></p><div class="facts">{cards}</div>{known}</header>'
    )


def _problems(problems: Sequence[Problem]) -> str:
    return "".join(note(str(problem)) for problem in problems)


def _queries(prepared: Prepared) -> str:
    heads = [("query", False), ("id", False), ("threshold", True)]
    rows = [
        cell(q.text) + cell(q.query_id) + cell(prepared.spec.threshold_of(q), number=True)
        for q in prepared.spec.queries[: Budget().listed]
    ]
    return f"<section><h2>What would be asked</h2>{table('', heads, rows, label='queries')}</section>"
