"""OUT/report.html: one file that opens anywhere, offline, and says what a run found and what it could not see."""

import math
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import geopandas as gpd

from pipeline.rebuilt import plans_of
from pipeline.reporting import sections
from pipeline.reporting.budget import MAX_PAGE_BYTES, Budget
from pipeline.reporting.colours import inks
from pipeline.reporting.contents import map_of_run
from pipeline.reporting.found import find
from pipeline.reporting.gallery import gallery
from pipeline.reporting.page import Page, render
from pipeline.reporting.pictures import Cropper, Shown
from pipeline.storage import Store

NAME = "report.html"

_PICTURES_SHARE = 0.05
_DECODED_MPX_PER_S = 50.0
_SMALLEST = 4
"""How often the budget is halved before a page is what it is."""


def write_report(
    store: Store,
    manifest: Mapping[str, Any],
    truth: Mapping[str, gpd.GeoDataFrame] | None = None,
    *,
    scores: Mapping[str, float] | None = None,
    all_pictures: bool = False,
    signed: Mapping[str, tuple[str, ...]] = MappingProxyType({}),
) -> None:
    """Write the report of a run whose mosaics and features are finished.

    `manifest`: the content of run.json. `truth`: by scene, frames with `query_id` and `geometry` in any CRS, drawn as
    outlines. `scores`: by query, the IoU with it. `all_pictures`: pictures of large scenes without overviews may take
    as long as they take; else a twentieth of what the run took. `signed`: by scene, the addresses that open, where that
    in the manifest lacks a signature; it is not written. A scene that can no longer be read is drawn without its
    picture, and the report says so. Memory is bounded by what is drawn.
    """
    budget = Budget()
    spent_mpx = _PICTURES_SHARE * _DECODED_MPX_PER_S * manifest["timings"].get("wall_s", 0.0)
    budget = replace(budget, decode_mpx=math.inf if all_pictures else max(budget.decode_mpx, spent_mpx))
    for _ in range(_SMALLEST):
        page = _page(store, manifest, truth, budget, scores=scores, signed=signed).encode()
        if len(page) <= MAX_PAGE_BYTES:
            break
        budget = budget.smaller()
    store.write(NAME, page)


def _page(
    store: Store,
    manifest: Mapping[str, Any],
    truth: Mapping[str, gpd.GeoDataFrame] | None,
    budget: Budget,
    *,
    scores: Mapping[str, float] | None,
    signed: Mapping[str, tuple[str, ...]],
) -> str:
    query_ids = [q["query_id"] for q in manifest["queries"]]
    per_kind = max(1, min(3, budget.crops // max(1, 3 * len(query_ids))))
    failed = {failure["scene_id"] for failure in manifest["failures"]}
    found = find(
        store, manifest, max_drawn=budget.features, max_scenes=budget.scenes, failed=failed, per_kind=per_kind
    )  # fmt: skip
    by_id = {entry["scene_id"]: entry for entry in manifest["scenes"]}
    entries = [by_id[scene_id] for scene_id in found.scenes]
    plans, ink = plans_of({**manifest, "scenes": entries}, store), inks(query_ids)
    shown = [Shown.of(entry, signed) for entry in entries]
    content = (
        map_of_run(store, manifest, shown, found=found, inks=ink, budget=budget, plans=plans, truth=truth)
        if entries
        else None
    )
    cropper = Cropper(shown, content.looks if content else ())
    pictures = gallery(manifest, found, cropper, ink, max_queries=max(1, budget.crops // (3 * per_kind)))
    before = [
        sections.headline(manifest, found, store.url),
        sections.queries(manifest, found, ink, scores, budget.listed),
    ]
    after = [
        pictures,
        sections.listing("Failed", "a machine fault or unreadable pixels", manifest["failures"], budget.listed),
        sections.listing(
            "Unparsable", "the model gave no usable answer", manifest.get("unparsable", []), budget.listed
        ),
        sections.seams(manifest.get("seams", []), budget.listed),
        sections.times(manifest["timings"]),
        sections.fine_print(manifest, store.url),
    ]
    return render(Page(f"t2s {manifest['run_id']}: {manifest['status']}", before, after, content))
