"""The newest row per place and query, over the runs of a schedule and the scenes within a run.

A *look* is one query on one scene in one run. It is as new as its scene (of scenes without a date: as its run), and of
looks at the same scene the one of the newer run counts. A feature is still true unless a newer look at the same
question saw its place: the place of a feature is one point inside it. So where a newer scene shows that a lake is gone,
its old row is gone as well; where nobody looked again, the old row stays. What the border of a newer scene cuts is
judged by that point alone.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import shapely

from pipeline import features
from pipeline.footprints import looked_at
from pipeline.geodesy import geographic_crs
from pipeline.geoparquet import created
from pipeline.georef import proj_crs
from pipeline.manifest import NAME, read_manifest
from pipeline.mosaics import finished
from pipeline.preflight import figures_of
from pipeline.scenes import Scene
from pipeline.storage import Store
from t2s_core.errors import BadInput

SCHEMA = pa.schema(
    [
        *features.SCHEMA,
        *(pa.field(name, pa.string(), nullable=False) for name in ("query_id", "scene_id", "run_href")),
    ]
)
"""The columns of features, where they came from, and the directory of the run."""


@dataclass(frozen=True)
class Look:
    """One query on one scene in one run."""

    store: Store
    scene: Scene
    query_id: str
    text: str
    age: tuple[datetime, str]
    """When what it shows was so, and when it was looked at; a newer look compares greater."""


def run_stores(urls: Iterable[str]) -> list[Store]:
    """The directories of runs among `urls` and directly below them. Raises `BadInput` where there is none."""
    stores: dict[str, Store] = {}
    problems = []
    for url in urls:
        store = Store.at(url)
        found = [store] if store.exists(NAME) else [store.child(name) for name in _folders(store)]
        found = [run for run in found if run.exists(NAME)]
        stores |= {run.url: run for run in found}
        if not found:
            problems.append(f"{store.url}: no run is here or in a folder directly below; name what --out named")
    if problems:
        raise BadInput(*problems)
    return list(stores.values())


def _folders(store: Store) -> list[str]:
    if not store.fs.exists(store.root):
        return []
    return sorted(entry["name"].rstrip("/").rpartition("/")[2] for entry in store.fs.ls(store.root, detail=True)
                  if entry["type"] == "directory")  # fmt: skip


def looks_of(store: Store) -> list[Look]:
    """The finished looks of a run."""
    manifest = read_manifest(store)
    assert manifest is not None
    started = manifest["history"][0]["started"]
    looks = []
    for entry in manifest["scenes"]:
        scene = Scene.from_json(entry)
        when = datetime.fromisoformat(scene.datetime or started)
        age = (when if when.tzinfo else when.replace(tzinfo=UTC), manifest["started"])
        looks += [
            Look(store, scene, query["query_id"], query["query"], age)
            for query in manifest["queries"]
            if finished(store, scene.scene_id, query["query_id"]) is not None
            and store.exists(features.partition_name(scene.scene_id, query["query_id"]))
        ]
    return looks


def latest(urls: Sequence[str]) -> Iterator[pa.Table]:
    """The rows that are still true, with the columns of `SCHEMA`, a look at a time; see the module's docstring.

    `urls`: directories of runs, or folders that hold such. Memory holds the features of one look and an outline of
    each. Raises `BadInput` where no run is, or where their scenes lie on several celestial bodies.
    """
    by_question: dict[str, list[Look]] = {}
    for look in _looks(urls):
        by_question.setdefault(look.text.casefold(), []).append(look)
    for looks in by_question.values():
        newer: list[shapely.Geometry] = []
        for look in sorted(looks, key=lambda one: one.age, reverse=True):
            yield _still_true(look, newer)
            ground = looked_at(look.store, look.scene, look.query_id)
            shapely.prepare(ground)
            newer.append(ground)


def write_latest(urls: Sequence[str], out: str) -> int:
    """Put `latest` into one GeoParquet file; returns the number of rows. Raises `BadInput` as `latest` does."""
    folder, _, name = out.rpartition("/")
    store, n = Store.at(folder or "."), 0
    look = next(iter(_looks(urls)), None)
    if look is None:
        raise BadInput(f"{', '.join(urls)}: no run here has finished a scene; resume them first")
    metadata = {"t2s:schema_version": features.SCHEMA_VERSION}
    with created(store, name, SCHEMA, geographic_crs(proj_crs(look.scene.geobox)), metadata) as file:
        for table in latest(urls):
            file.add(table)
            n += table.num_rows
    return n


def _looks(urls: Sequence[str]) -> list[Look]:
    """Of all runs. One table has one geographic CRS, so all have to be of one celestial body."""
    looks = [look for store in run_stores(urls) for look in looks_of(store)]
    figures = figures_of(look.scene for look in looks)
    if len(figures) > 1:
        run_of = {id(look.scene): look.store.url for look in looks}
        named = ", ".join(f"{name} ({run_of[id(scene)]})" for name, scene in figures)
        raise BadInput(f"the runs lie on {len(figures)} celestial bodies or figures of one: {named}; name those of one")
    return looks


def _still_true(look: Look, newer: Sequence[shapely.Geometry]) -> pa.Table:
    name = features.partition_name(look.scene.scene_id, look.query_id)
    with look.store.fs.open(look.store.path(name), "rb") as file:
        table = pq.read_table(file, schema=features.SCHEMA)
    places = shapely.point_on_surface(shapely.from_wkb(table["geometry"].to_numpy(zero_copy_only=False)))
    true = np.ones(len(places), np.bool_)
    for ground in newer:
        true[true] = ~shapely.intersects(ground, places[true])
    table = table.filter(pa.array(true)).replace_schema_metadata(None)
    for column, value in (("query_id", look.query_id), ("scene_id", look.scene.scene_id), ("run_href", look.store.url)):
        table = table.append_column(SCHEMA.field(column), pa.repeat(value, table.num_rows))
    return table
