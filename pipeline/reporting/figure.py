"""The map: pictures, features, truth and tiles, each a layer with a name by which the page switches it.

Nothing that a user or a model wrote goes into the figure: texts are the page's, which inserts them as text.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from bokeh import models
from bokeh.models import ColumnDataSource, HoverTool, PanTool, TapTool, WheelZoomTool
from bokeh.plotting import figure
from numpy.typing import NDArray

from pipeline.reporting.colours import FAILED, HATCH, STATUS, Ink
from pipeline.reporting.pictures import Quicklook

Box = tuple[float, float, float, float]


@dataclass
class TileLayer:
    """Rectangles of tiles, which may be askew on the map."""

    xs: list[list[float]] = field(default_factory=list)
    ys: list[list[float]] = field(default_factory=list)
    statuses: list[str] = field(default_factory=list)

    def add(self, corners: NDArray[np.float64], status: str) -> None:
        """`corners`: (4, 2) on the map."""
        self.xs.append(corners[:, 0].tolist())
        self.ys.append(corners[:, 1].tolist())
        self.statuses.append(status)


@dataclass
class Layers:
    """All that is drawn, in the order in which it is drawn."""

    outlines: Sequence[NDArray[np.float64]]
    """Of all scenes, (n, 2)."""
    looks: Sequence[Quicklook]
    tiles: TileLayer
    query_ids: Sequence[str]
    """Whose outlines the page puts in: as JSON of its own they cost a tenth."""
    truth: bool
    """Whether it puts in those of the truth."""
    scaled: bool = True
    """Whether one scale holds in all of it."""


def draw(layers: Layers, inks: Mapping[str, Ink], view: Box) -> Any:  # noqa: ANN401 -- Bokeh ships no types
    """A figure that fills whatever holds it. `view`: left, bottom, right, top."""
    left, bottom, right, top = view
    new: Any = figure  # Bokeh's stubs know only a part of it
    bokeh: Any = models
    shown = new(
        name="map",
        x_range=bokeh.Range1d(left, right),
        y_range=bokeh.Range1d(bottom, top),
        toolbar_location=None,
        tools=[],
        sizing_mode="stretch_both",
        min_border=0,
        outline_line_color="#888888",
        background_fill_color="#f4f4f2",
    )
    shown.axis.visible = False
    shown.grid.visible = False
    _pictures(shown, layers)
    tappable = [_tiles(shown, layers.tiles, failed=False), _tiles(shown, layers.tiles, failed=True)]
    if layers.truth:
        source = _empty("xs", "ys")
        for name, colour, width in (("truth_under", "white", 3.5), ("truth", "black", 1.5)):
            shown.multi_polygons(
                "xs", "ys", source=source, fill_alpha=0, line_color=colour, line_width=width, name=name,
                line_dash="dashed" if name == "truth" else "solid",
            )  # fmt: skip
    tappable += _features(shown, layers.query_ids, inks)
    _selection(shown)
    wheel = WheelZoomTool()
    shown.add_tools(
        PanTool(), wheel, TapTool(renderers=tappable), HoverTool(renderers=tappable, tooltips=None, name="hover")
    )
    shown.toolbar.active_scroll = wheel
    if layers.scaled:
        shown.add_layout(
            bokeh.ScaleBar(range=shown.x_range, unit="m", location="bottom_left", background_fill_alpha=0.8)
        )
    return shown


def _pictures(shown: Any, layers: Layers) -> None:  # noqa: ANN401
    looks = layers.looks
    if looks:
        left, bottom, right, top = np.array([look.box for look in looks]).T
        source = ColumnDataSource(
            {"url": [k.url for k in looks], "x": left, "y": top, "w": right - left, "h": top - bottom}
        )
        shown.image_url("url", "x", "y", "w", "h", source=source, anchor="top_left", name="pictures")
    outlines = [o for o in layers.outlines if len(o)]
    shown.patches(
        [o[:, 0].tolist() for o in outlines], [o[:, 1].tolist() for o in outlines],
        fill_alpha=0, line_color="#666666", line_width=1, name="scenes",
    )  # fmt: skip
    # Small scenes far apart would not be seen at all from far off.
    middles = np.array([o.mean(axis=0) for o in outlines]).reshape(-1, 2)
    shown.scatter(
        middles[:, 0], middles[:, 1], size=9, fill_color="white", line_color="black", line_width=1.5, name="middles"
    )


def _tiles(shown: Any, tiles: TileLayer, *, failed: bool) -> Any:  # noqa: ANN401
    rows = [i for i, status in enumerate(tiles.statuses) if (status == "failed") is failed]
    statuses = [tiles.statuses[i] for i in rows]
    source = ColumnDataSource(
        {
            "xs": [tiles.xs[i] for i in rows],
            "ys": [tiles.ys[i] for i in rows],
            "row": rows,
            "colour": [STATUS[s] for s in statuses],
            "hatch": [HATCH.get(s, " ") for s in statuses],
        }
    )
    layer = shown.patches(
        "xs", "ys", source=source, fill_color="colour", fill_alpha=0.45 if failed else 0.25,
        line_color=FAILED if failed else "#333333", line_width=2 if failed else 0.75, hatch_pattern="hatch",
        hatch_color=FAILED if failed else "#555555",
        hatch_scale=10, name="failed" if failed else "tiles",
    )  # fmt: skip
    layer.nonselection_glyph = None
    layer.visible = failed
    return layer


def _features(
    shown: Any,  # noqa: ANN401
    query_ids: Sequence[str],
    inks: Mapping[str, Ink],
) -> list[Any]:
    layers = []
    for number, query_id in enumerate(query_ids):
        ink = inks[query_id]
        layer = shown.multi_polygons(
            "xs", "ys", source=_empty("xs", "ys", "row"), fill_color=ink.colour, fill_alpha=0.3,
            line_color=ink.colour, line_width=2.5, line_dash=ink.dash, name=f"query-{number}",
        )  # fmt: skip
        layer.nonselection_glyph = None
        layer.hover_glyph = None
        layers.append(layer)
    return layers


def _selection(shown: Any) -> None:  # noqa: ANN401
    """Layers that the page fills with what is selected."""
    shown.multi_polygons(
        "xs", "ys", source=_empty("xs", "ys"), fill_alpha=0, line_color="black", line_width=6,
        name="selected_under",
    )  # fmt: skip
    shown.multi_polygons(
        "xs", "ys", source=_empty("xs", "ys"), fill_alpha=0, line_color="white", line_width=3,
        name="selected",
    )  # fmt: skip
    shown.patches(
        "xs", "ys", source=_empty("xs", "ys"), fill_alpha=0, line_color="black", line_width=2.5,
        line_dash="dashed", name="boxes",
    )  # fmt: skip
    shown.scatter(
        "x", "y", source=_empty("x", "y"), marker="cross", size=14, line_color="black",
        line_width=4, name="points_under",
    )  # fmt: skip
    shown.scatter(
        "x", "y", source=_empty("x", "y"), marker="cross", size=12, line_color="white",
        line_width=2, name="points",
    )  # fmt: skip


def _empty(*columns: str) -> Any:  # noqa: ANN401
    return ColumnDataSource({name: [] for name in columns})
