"""The report's figures: what was found in a scene, and what became of its tiles. Everything is in scene pixels."""

from collections.abc import Mapping, Sequence
from typing import Any

import geopandas as gpd
import numpy as np
import shapely
from bokeh.models import ColumnDataSource, HoverTool
from bokeh.models.annotations import Legend
from bokeh.palettes import Colorblind
from bokeh.plotting import figure
from numpy.typing import NDArray

from pipeline.geodesy import Polygonal
from pipeline.georef import proj_crs
from pipeline.mosaics import COVERAGE
from pipeline.scenes import Scene
from pipeline.tiling import TileGrid

MAX_FEATURES = 2_000
"""Per map; more are sampled evenly along the Hilbert curve, and the report says so."""

_MAP_PX = 640
_STATUS_COLOURS = {
    "not_planned": "#f2f2f2",
    "ok": "#009e73",
    "no_target": "#a6dcc9",
    "skipped_nodata": "#d9d9d9",
    "skipped_irrelevant": "#c6dbef",
    "unparsable": "#e69f00",
    "pending": "#ffffff",
    "failed": "#d55e00",
}
_WORST_FIRST = (
    "failed",
    "unparsable",
    "pending",
    "ok",
    "no_target",
    "skipped_irrelevant",
    "skipped_nodata",
    "not_planned",
)
# Bokeh escapes what `@{...}` inserts; `{safe}` would switch that off, and these texts come from users and models.
_FEATURE_TIPS = """
<div style="max-width:26rem;white-space:normal;font:13px system-ui,sans-serif">
<b>@{query}</b><br>score @{score}{0.00} &middot; @{area_m2}{0,0.0} m&sup2; &middot; seen by @{n_tiles} tile(s)<br>
<span style="color:#555">@{reasoning}</span></div>"""
_TILE_TIPS = """
<div style="max-width:26rem;white-space:normal;font:13px system-ui,sans-serif">
tile @{tile}: <b>@{status}</b><br>@{detail}</div>"""


def query_colours(query_ids: Sequence[str]) -> dict[str, str]:
    """A colour-blind-safe colour per query; from the ninth on they repeat."""
    palette = Colorblind[8]
    return {query_id: palette[i % len(palette)] for i, query_id in enumerate(query_ids)}


def feature_map(
    scene: Scene,
    image_url: str | None,
    features: gpd.GeoDataFrame,
    queries: Sequence[Mapping[str, Any]],
    truth: gpd.GeoDataFrame | None = None,
) -> Any:  # noqa: ANN401 -- Bokeh ships no types
    """A pannable map of one scene: its picture, and each query's features as a layer that the legend switches.

    `features`: those of the scene, in geographic coordinates. `truth`: `query_id` and `geometry`, drawn as outlines.
    """
    height, width = scene.shape
    shown = _scene_figure(
        width, height, _MAP_PX, tools="pan,wheel_zoom,box_zoom,reset,save", active_scroll="wheel_zoom"
    )
    if image_url is not None:
        shown.image_url(url=[image_url], x=0, y=0, w=width, h=height, anchor="top_left")
    colours = query_colours([q["query_id"] for q in queries])
    entries: list[tuple[str, list[Any]]] = []
    layers: list[Any] = []
    for query in queries:
        mine = features[features["query_id"] == query["query_id"]]
        colour = colours[query["query_id"]]
        layer = shown.multi_polygons(
            "xs",
            "ys",
            source=_patches(mine, scene),
            fill_color=colour,
            fill_alpha=0.45,
            line_color=colour,
            line_width=1.5,
        )
        entries.append((f"{query['query_id']} ({len(mine)})", [layer]))
        layers.append(layer)
    if truth is not None and len(truth):
        rings = [_coordinates(g) for g in _in_scene_px(truth, scene)]
        outlines: dict[str, Any] = {"xs": [xs for xs, _ in rings], "ys": [ys for _, ys in rings]}
        layer = shown.multi_polygons(
            "xs", "ys", source=ColumnDataSource(outlines), fill_alpha=0, line_color="black", line_dash="dashed"
        )
        entries.append(("truth", [layer]))
    shown.add_layout(Legend(items=entries, click_policy="hide", orientation="horizontal", ncols=3), "below")
    shown.add_tools(HoverTool(renderers=layers, tooltips=_FEATURE_TIPS))
    return shown


def coverage_map(
    grid: TileGrid, coverage: Mapping[str, NDArray[np.uint8]], reasons: Mapping[tuple[int, int], Sequence[str]]
) -> Any:  # noqa: ANN401
    """The tiles of one level, each in the colour of its worst status over the queries.

    `coverage`: by query, (tile rows, tile columns) of codes into `mosaics.COVERAGE`. `reasons`: by (row, col), lines.
    """
    columns: dict[str, Any] = {k: [] for k in ("left", "right", "top", "bottom", "colour", "status", "tile", "detail")}
    for row in range(grid.rows):
        for col in range(grid.cols):
            statuses = {query_id: COVERAGE[codes[row, col]] for query_id, codes in coverage.items()}
            worst = next((s for s in _WORST_FIRST if s in statuses.values()), "not_planned")
            core = grid.core(row, col)
            lines = reasons.get((row, col)) or [f"{query_id}: {status}" for query_id, status in statuses.items()]
            values = (
                core.x0,
                core.x1,
                core.y0,
                core.y1,
                _STATUS_COLOURS[worst],
                worst,
                f"{row}/{col}",
                "; ".join(lines),
            )
            for name, value in zip(columns, values, strict=True):
                columns[name].append(value)
    shown = _scene_figure(
        grid.width, grid.height, 300, tools="pan,wheel_zoom,reset", title=f"tiles of level {grid.level}"
    )
    shown.quad(
        "left", "right", "top", "bottom", source=ColumnDataSource(columns), fill_color="colour", line_color="white",
        legend_group="status",
    )  # fmt: skip
    shown.legend.orientation = "horizontal"
    shown.add_layout(shown.legend[0], "below")
    shown.add_tools(HoverTool(tooltips=_TILE_TIPS))
    return shown


def sampled(features: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """At most `MAX_FEATURES` rows, evenly spread over the file's order, which runs along the Hilbert curve."""
    if len(features) <= MAX_FEATURES:
        return features
    return features.iloc[np.linspace(0, len(features) - 1, MAX_FEATURES).astype(int)]


def _scene_figure(width: int, height: int, longest_px: int, **options: Any) -> Any:  # noqa: ANN401
    """An empty figure over a scene of `width` x `height` pixels, undistorted, y down."""
    scale = longest_px / max(width, height)
    new: Any = figure  # Bokeh's stubs know only some of its options
    shown = new(
        frame_width=max(120, int(width * scale)),
        frame_height=max(120, int(height * scale)),
        x_range=(0, width),
        y_range=(height, 0),
        **options,
    )
    shown.grid.visible = False
    return shown


def _patches(features: gpd.GeoDataFrame, scene: Scene) -> ColumnDataSource:
    rings = [_coordinates(geometry) for geometry in _in_scene_px(features, scene)]
    texts = {name: features[name].tolist() for name in ("query", "score", "area_m2", "n_tiles", "reasoning")}
    return ColumnDataSource({"xs": [xs for xs, _ in rings], "ys": [ys for _, ys in rings], **texts})


def _in_scene_px(frame: gpd.GeoDataFrame, scene: Scene) -> list[Polygonal]:
    """Geometries on the scene's grid, without detail that a map of this size cannot show."""
    if frame.empty:
        return []
    on_ground = frame.geometry.to_crs(proj_crs(scene.geobox))
    a, b, c, d, e, f = (~scene.geobox.affine)[:6]
    detail_px = max(scene.shape) / _MAP_PX / 2
    return list(on_ground.affine_transform([a, b, d, e, c, f]).simplify(detail_px))


def _coordinates(geometry: Polygonal) -> tuple[list[Any], list[Any]]:
    """(xs, ys) as Bokeh nests them: polygons of rings, the outer one first."""
    polygons = shapely.get_parts(geometry)
    rings = [[shapely.get_coordinates(r) for r in (p.exterior, *p.interiors)] for p in polygons]
    xs = [[ring[:, 0].round(2).tolist() for ring in polygon] for polygon in rings]
    ys = [[ring[:, 1].round(2).tolist() for ring in polygon] for polygon in rings]
    return xs, ys
