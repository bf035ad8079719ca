"""A run that has ended, to read from: `open_run("results").features()`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import geopandas as gpd
import pandas as pd
import xarray as xr

from pipeline.features import read_features
from pipeline.geodesy import geographic_crs
from pipeline.georef import proj_crs
from pipeline.latest import SCHEMA as LATEST_SCHEMA
from pipeline.latest import latest
from pipeline.manifest import RunStatus, read_run
from pipeline.mosaics import open_mosaic
from pipeline.objects import partition_name
from pipeline.queries import Query
from pipeline.scenes import Scene
from pipeline.spec import RunSpec
from pipeline.storage import Store
from t2s_core.errors import BadInput


@dataclass(frozen=True)
class FinishedRun:
    """What a run left. Frames are in degrees: OGC:CRS84, or the geographic CRS of another body."""

    store: Store
    manifest: Mapping[str, Any]
    scenes: Sequence[Scene]
    queries: Sequence[Query]

    def features(self) -> gpd.GeoDataFrame:
        """Every feature of every scene, exactly as in its mask."""
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

    def mosaic(self, scene_id: str, query_id: str) -> xr.Dataset:
        """Probability, mask and coverage on the scene's grid, lazily."""
        return open_mosaic(self.store, scene_id, query_id)


def open_run(url: str) -> FinishedRun:
    """A run that has ended. Raises `BadInput` where there is none."""
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
