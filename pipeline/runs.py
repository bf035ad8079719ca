"""A run that has ended, to read from: `open_run("results").features()`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import geopandas as gpd
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import xarray as xr

from pipeline.committed import committed
from pipeline.features import read_features
from pipeline.geodesy import geographic_crs
from pipeline.georef import proj_crs
from pipeline.latest import SCHEMA as LATEST_SCHEMA
from pipeline.latest import latest
from pipeline.manifest import RunStatus, read_run
from pipeline.mosaics import open_mosaic
from pipeline.objects import partition_name
from pipeline.queries import Query
from pipeline.rebuilt import plans_of
from pipeline.report import NAME as REPORT
from pipeline.results import read_rows
from pipeline.scenes import Scene
from pipeline.spec import RunSpec
from pipeline.storage import Store
from t2s_core.errors import BadInput

_RESULT_COLUMNS = (
    "key", "level", "row", "col", "window_scene_px", "status", "reason", "reasoning", "reply", "n_tokens", "prompts",
    "prompter", "segmenter", "run_id",
)  # fmt: skip


@dataclass(frozen=True, repr=False)
class Shown:
    """A page within a page: its scripts and styles touch nothing around it, nor can they reach it."""

    page: str
    height_px: int

    def _repr_html_(self) -> str:
        style = f"width:100%;height:{self.height_px}px;border:0"
        # Whatever encoding the page around it is taken for: the report's scripts run only as they were hashed.
        page = escape(self.page).encode("ascii", "xmlcharrefreplace").decode()
        return f'<iframe title="t2s report" sandbox="allow-scripts" style="{style}" srcdoc="{page}"></iframe>'


@dataclass(frozen=True, repr=False)
class FinishedRun:
    """What a run left. Frames are in degrees: OGC:CRS84, or the geographic CRS of another body."""

    store: Store
    manifest: Mapping[str, Any]
    """The content of run.json."""
    scenes: Sequence[Scene]
    queries: Sequence[Query]

    def features(self) -> gpd.GeoDataFrame:
        """Every feature of every scene, exactly as in its mask. Columns: see docs/reference/geoparquet.md."""
        return read_features(self.store)

    def objects(self) -> gpd.GeoDataFrame:
        """The same merged across scenes: what several of them saw is one row."""
        names = {query.query_id: partition_name(query.query_id) for query in self.queries}
        frames = [
            gpd.read_parquet(self.store.path(name), filesystem=self.store.fs).assign(query_id=query_id)
            for query_id, name in names.items()
        ]
        return gpd.GeoDataFrame(pd.concat(frames, ignore_index=True), geometry="geometry", crs=frames[0].crs)

    def latest(self) -> gpd.GeoDataFrame:
        """Features that no newer scene of the run contradicts: see `pipeline.latest`, which also takes many runs."""
        tables = [table.to_pandas() for table in latest([self.store.url])]
        frame = pd.concat([pd.DataFrame(columns=LATEST_SCHEMA.names), *tables], ignore_index=True)
        geometry = gpd.GeoSeries.from_wkb(frame.pop("geometry"))
        return gpd.GeoDataFrame(frame, geometry=geometry, crs=geographic_crs(proj_crs(self.scenes[0].geobox)))

    def mosaic(self, scene_id: str, query_id: str | None = None) -> xr.Dataset:
        """Probability, mask and coverage on the scene's grid, lazily: dask-backed, with CRS and coordinates.

        Arrays are (y, x) of one query; without `query_id`, (query_id, y, x) of all. Raises `BadInput` where the run has
        no such scene or query.
        """
        self._check(scene_id, query_id)
        if query_id is not None:
            return open_mosaic(self.store, scene_id, query_id)
        names = [query.query_id for query in self.queries]
        every = [open_mosaic(self.store, scene_id, name) for name in names]
        shared = {key: value for key, value in every[0].attrs.items() if all(m.attrs.get(key) == value for m in every)}
        stacked = xr.concat(
            every, pd.Index(names, dtype=object, name="query_id"), coords="minimal", compat="override", join="override",
            combine_attrs="drop",
        )  # fmt: skip
        return stacked.assign_attrs(shared)

    def tile_results(self, scene_id: str | None = None, query_id: str | None = None) -> pd.DataFrame:
        """What each tile came to, a row per tile and query that is committed: what `t2s explain` tells of a point.

        Columns: scene_id, query_id, and those of tile results but for pixels: level, row, col, window_scene_px (x0, y0,
        x1, y1), status, reason, reasoning, reply, n_tokens, prompts (each with box_tile_px and points_tile_px, in
        pixels of the tile as the models saw it), prompter, segmenter, run_id. All rows are in memory: for a region,
        name a scene. Raises `BadInput` as `mosaic`.
        """
        self._check(scene_id, query_id)
        tables = []
        for plan in plans_of(self.manifest, self.store):
            if scene_id not in {None, plan.scene.scene_id}:
                continue
            index = committed(self.store, plan, self.queries).index
            if query_id is not None:
                index = index.filter(pc.equal(index["query_id"], query_id))
            tables.append(self._rows(plan.scene.scene_id, index))
        frame = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
        return frame.drop(columns="key", errors="ignore")

    def show(self, height_px: int = 900) -> "Shown":
        """The report, for a notebook's cell to end with. Elsewhere, open `OUT/report.html` in a browser."""
        return Shown(self.store.read(REPORT).decode(), height_px)

    def __repr__(self) -> str:
        n_scenes, n_queries = len(self.scenes), len(self.queries)
        return f"<FinishedRun {self.store.url}: {self.manifest['status']}, {n_scenes} scenes, {n_queries} queries>"

    def _check(self, scene_id: str | None, query_id: str | None) -> None:
        scenes, queries = [s.scene_id for s in self.scenes], [q.query_id for q in self.queries]
        for what, asked, known in (("scene", scene_id, scenes), ("query", query_id, queries)):
            if asked is not None and asked not in known:
                few = ", ".join(known[:20])
                raise BadInput(f"{asked!r}: the run in {self.store.url} has no such {what}; it has {few}")

    def _rows(self, scene_id: str, index: pa.Table) -> pd.DataFrame:
        """Those that `index` names: a batch may hold others, of an earlier specification."""
        keys = dict(zip(index["key"].to_pylist(), index["query_id"].to_pylist(), strict=True))
        places = set(zip(index["batch"].to_pylist(), index["key"].to_pylist(), strict=True))
        rows = [
            {"scene_id": scene_id, "query_id": keys[row["key"]], **row}
            for batch in index["batch"].unique().to_pylist()
            for row in read_rows(self.store, batch, _RESULT_COLUMNS)
            if (batch, row["key"]) in places
        ]
        return pd.DataFrame(rows, columns=["scene_id", "query_id", *_RESULT_COLUMNS])


def open_run(url: str) -> FinishedRun:
    """A run that has ended: a folder or any fsspec URL. Raises `BadInput` where there is none."""
    store = Store.at(url)
    manifest = read_run(store)
    if manifest["status"] not in {RunStatus.SUCCESS, RunStatus.PARTIAL}:
        raise BadInput(f"{store.url}: the run is {manifest['status']}; finish it first: run the same command again")
    return FinishedRun(
        store,
        manifest,
        [Scene.from_json(entry) for entry in manifest["scenes"]],
        RunSpec(**manifest["spec"]).queries,
    )
