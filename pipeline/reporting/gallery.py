"""Of each query its best, median and worst features, as pictures that lead to the map."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pyproj import CRS

from pipeline.reporting.charts import area_histogram, score_histogram
from pipeline.reporting.colours import Ink
from pipeline.reporting.found import Found
from pipeline.reporting.html import area, plural, swatch, text
from pipeline.reporting.pictures import Crop, Cropper


def gallery(
    manifest: Mapping[str, Any], found: Found, cropper: Cropper, inks: Mapping[str, Ink], *, max_queries: int
) -> str:
    """The section: for each query that found something, its histograms and its features, best first."""
    with_some = [q for q in manifest["queries"] if found.by_query[q["query_id"]].n]
    shown = with_some[:max_queries]
    if not shown:
        return ""
    crops = _crops(found, cropper, [query["query_id"] for query in shown])
    blocks = "".join(_query(query, found, crops, inks[query["query_id"]]) for query in shown)
    without = [q["query_id"] for q in manifest["queries"] if not found.by_query[q["query_id"]].n]
    notes = f'<p class="soft">Nothing was found for: {text(", ".join(without))}.</p>' if without else ""
    if len(shown) < len(with_some):
        notes += f'<p class="note">{len(with_some):,} queries found something; the first {len(shown)} are shown.</p>'
    return (
        '<section id="gallery"><h2>Best, median and worst</h2><p class="soft">By score, the mean probability within '
        "the outline. Look at the worst first: where they are wrong, raise the threshold (<code>t2s restitch</code>) "
        f"or reword the query. A picture leads to its place on the map.</p>{blocks}{notes}</section>"
    )


def _crops(found: Found, cropper: Cropper, query_ids: Sequence[str]) -> dict[int, Crop | None]:
    """By row of the features that are drawn."""
    rows = [row for query_id in query_ids for _, row in found.gallery[query_id]]
    scenes, geometries = found.drawn["scene_id"].to_numpy(), found.drawn.geometry.to_numpy()
    crops = cropper.crops([(scenes[row], geometries[row]) for row in rows], CRS.from_user_input(found.drawn.crs))
    return dict(zip(rows, crops, strict=True))


def _query(query: Mapping[str, Any], found: Found, crops: Mapping[int, Crop | None], ink: Ink) -> str:
    statistics = found.by_query[query["query_id"]]
    cards = "".join(_cards(query["query_id"], found, crops))
    return (
        f'<div class="query"><h3>{swatch(ink.colour, ink.dash)}{text(query["query"])} '
        f'<span class="soft">{text(query["query_id"])}, {plural(statistics.n, "feature")}</span></h3>'
        f'<div class="charts">{score_histogram(statistics, ink.colour)}{area_histogram(statistics, ink.colour)}</div>'
        f'<div class="cards">{cards}</div></div>'
    )


def _cards(query_id: str, found: Found, crops: Mapping[int, Crop | None]) -> Iterator[str]:
    scores, areas = found.drawn["score"].to_numpy(), found.drawn["area_m2"].to_numpy()
    for kind, row in found.gallery[query_id]:
        said = f"{kind}: score {scores[row]:.2f}, {area(areas[row])}"
        yield (
            f'<button type="button" class="card" data-row="{row}" aria-label="{text(said)}; show on the map">'
            f'{_picture(crops[row])}<span><b class="{kind}">{kind}</b> {scores[row]:.2f}</span>'
            f'<span class="soft">{area(areas[row])}</span></button>'
        )


def _picture(crop: Crop | None) -> str:
    if crop is None:
        return '<span class="soft">no picture</span>'
    return (
        f'<svg viewBox="0 0 {crop.width} {crop.height}" aria-hidden="true"><image href="{crop.url}" '
        f'width="{crop.width}" height="{crop.height}"/><path d="{crop.path}" class="under"/>'
        f'<path d="{crop.path}" class="over"/></svg>'
    )
