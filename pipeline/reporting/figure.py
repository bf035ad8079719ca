"""The map: pictures, features, truth and tiles, each a layer with a name by which the page switches it.

Nothing that a user or a model wrote goes into the figure: texts are the page's, which inserts them as text.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from bokeh import models as bokeh_models
from numpy.typing import NDArray

from pipeline.reporting.colours import FAILED, HATCH, STATUS, Ink
from pipeline.reporting.pictures import Quicklook

models: Any = bokeh_models
"""Bokeh's stubs know only a part of it."""
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
    """A plot that fills whatever holds it. `view`: left, bottom, right, top.

    Of models as they are: what `bokeh.plotting` adds to each layer (glyphs for states that none of ours has) takes
    longer to make than all the rest of the page.
    """
    left, bottom, right, top = view
    wheel = models.WheelZoomTool()
    shown = models.Plot(
        name="map",
        x_range=models.Range1d(left, right),
        y_range=models.Range1d(bottom, top),
        toolbar_location=None,
        toolbar=models.Toolbar(tools=[models.PanTool(), wheel], active_scroll=wheel),
        sizing_mode="stretch_both",
        min_border=0,
        outline_line_color="#888888",
        background_fill_color="#f4f4f2",
    )
    _pictures(shown, layers)
    tappable = [_tiles(shown, layers.tiles, failed=False), _tiles(shown, layers.tiles, failed=True)]
    if layers.truth:
        source = _empty("xs", "ys")
        for name, colour, width in (("truth_under", "white", 3.5), ("truth", "black", 1.5)):
            _add(shown, name, source, models.MultiPolygons(
                xs="xs", ys="ys", fill_alpha=0, line_color=colour, line_width=width,
                line_dash="dashed" if name == "truth" else "solid",
            ))  # fmt: skip
    tappable += _features(shown, layers.query_ids, inks)
    _selection(shown)
    shown.toolbar.tools += [
        models.TapTool(renderers=tappable),
        models.HoverTool(renderers=tappable, tooltips=None, name="hover"),
    ]
    if layers.scaled:
        shown.add_layout(
            models.ScaleBar(range=shown.x_range, unit="m", location="bottom_left", background_fill_alpha=0.8)
        )
    return shown


def _add(shown: Any, name: str, source: Any, glyph: Any, *, visible: bool = True) -> Any:  # noqa: ANN401
    """A layer that looks the same whatever is selected: what is, is drawn anew on top."""
    layer = models.GlyphRenderer(
        data_source=source, glyph=glyph, selection_glyph=None, nonselection_glyph=None, muted_glyph=None,
        name=name, visible=visible,
    )  # fmt: skip
    shown.renderers.append(layer)
    return layer


def _pictures(shown: Any, layers: Layers) -> None:  # noqa: ANN401
    looks = layers.looks
    if looks:
        left, bottom, right, top = np.array([look.box for look in looks]).T
        source = models.ColumnDataSource(
            {"url": [k.url for k in looks], "x": left, "y": top, "w": right - left, "h": top - bottom}
        )
        _add(shown, "pictures", source, models.ImageURL(url="url", x="x", y="y", w="w", h="h", anchor="top_left"))
    outlines = [o for o in layers.outlines if len(o)]
    borders = models.ColumnDataSource(
        {"xs": [o[:, 0].tolist() for o in outlines], "ys": [o[:, 1].tolist() for o in outlines]}
    )
    _add(shown, "scenes", borders, models.Patches(xs="xs", ys="ys", fill_alpha=0, line_color="#666666", line_width=1))
    # Small scenes far apart would not be seen at all from far off.
    middles = np.array([o.mean(axis=0) for o in outlines]).reshape(-1, 2)
    dots = models.ColumnDataSource({"x": middles[:, 0], "y": middles[:, 1]})
    _add(shown, "middles", dots, models.Scatter(
        x="x", y="y", size=9, fill_color="white", line_color="black", line_width=1.5
    ))  # fmt: skip


def _tiles(shown: Any, tiles: TileLayer, *, failed: bool) -> Any:  # noqa: ANN401
    rows = [i for i, status in enumerate(tiles.statuses) if (status == "failed") is failed]
    statuses = [tiles.statuses[i] for i in rows]
    source = models.ColumnDataSource(
        {
            "xs": [tiles.xs[i] for i in rows],
            "ys": [tiles.ys[i] for i in rows],
            "row": rows,
            "colour": [STATUS[s] for s in statuses],
            "hatch": [HATCH.get(s, " ") for s in statuses],
        }
    )
    glyph = models.Patches(
        xs="xs", ys="ys", fill_color="colour", fill_alpha=0.45 if failed else 0.25,
        line_color=FAILED if failed else "#333333", line_width=2 if failed else 0.75, hatch_pattern="hatch",
        hatch_color=FAILED if failed else "#555555", hatch_scale=10,
    )  # fmt: skip
    return _add(shown, "failed" if failed else "tiles", source, glyph, visible=failed)


def _features(shown: Any, query_ids: Sequence[str], inks: Mapping[str, Ink]) -> list[Any]:  # noqa: ANN401
    layers = []
    for number, query_id in enumerate(query_ids):
        ink = inks[query_id]
        glyph = models.MultiPolygons(
            xs="xs", ys="ys", fill_color=ink.colour, fill_alpha=0.3, line_color=ink.colour, line_width=2.5,
            line_dash=ink.dash,
        )  # fmt: skip
        layers.append(_add(shown, f"query-{number}", _empty("xs", "ys", "row"), glyph))
    return layers


def _selection(shown: Any) -> None:  # noqa: ANN401
    """Layers that the page fills with what is selected."""
    for name, colour, width in (("selected_under", "black", 6), ("selected", "white", 3)):
        _add(shown, name, _empty("xs", "ys"), models.MultiPolygons(
            xs="xs", ys="ys", fill_alpha=0, line_color=colour, line_width=width
        ))  # fmt: skip
    _add(shown, "boxes", _empty("xs", "ys"), models.Patches(
        xs="xs", ys="ys", fill_alpha=0, line_color="black", line_width=2.5, line_dash="dashed"
    ))  # fmt: skip
    for name, colour, size, width in (("points_under", "black", 14, 4), ("points", "white", 12, 2)):
        _add(shown, name, _empty("x", "y"), models.Scatter(
            x="x", y="y", marker="cross", size=size, line_color=colour, line_width=width
        ))  # fmt: skip


def _empty(*columns: str) -> Any:  # noqa: ANN401
    return models.ColumnDataSource({name: [] for name in columns})
