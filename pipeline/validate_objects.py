"""Laws of the objects across scenes: every feature is in exactly one, and an object is what its features say."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import shapely
from numpy.typing import NDArray
from pyproj import CRS

from pipeline import objects
from pipeline.findings import Findings, Published
from pipeline.geodesy import geographic_crs
from pipeline.georef import proj_crs
from pipeline.objects import FINGERPRINT, FeatureRows, fingerprint_of, object_id, objects_of, parts_of
from pipeline.queries import Query
from pipeline.validate_features import (
    check_by_others,
    check_schema,
    geometries_of,
    read_rows,
    say_rows,
    wrong_boxes,
    wrong_geometries,
)

_TOLERANCE = 1e-9
"""Of an area or a score, in proportion: sums may be taken in another order, and unions by another GEOS."""
_OF_THE_LARGEST = ("query", "label", "reasoning", "prompter", "segmenter", "run_id")


def check_objects(run: Published, found: Findings) -> None:
    """Each query has its table, of our schema, made of the features that are there now, as the rule joins them."""
    scenes = [plan.scene for plan in run.plans]
    crs = geographic_crs(proj_crs(scenes[0].geobox))
    for query in run.queries:
        name = objects.partition_name(query.query_id)
        with found.reading(name):
            with run.store.fs.open(run.store.path(name), "rb") as file:
                schema, n_rows = pq.read_schema(file), pq.read_metadata(file).num_rows
            check_schema(schema, objects.SCHEMA, name, found, version=objects.SCHEMA_VERSION, crs=crs)
            check_by_others(run.store, name, found)
            found.expect(name, "rows", found=n_rows, expected=run.manifest["objects"].get(query.query_id))
            _Objects(run, query, crs, found).check(schema.metadata)
    others = set(run.store.names(objects.FOLDER)) - {objects.partition_name(query.query_id) for query in run.queries}
    if others:
        found.note(f"{len(others)} files that run.json knows nothing of, e.g. {min(others)}; readers see their rows")


class _Objects:
    """The objects of a query beside the features that they are made of."""

    def __init__(self, run: Published, query: Query, crs: CRS, found: Findings) -> None:
        self._run, self._crs, self._found = run, crs, found
        self._name = objects.partition_name(query.query_id)
        self._mode = run.query_entry(query.query_id)["mode"]
        self._parts = parts_of(run.store, [plan.scene for plan in run.plans], query.query_id)
        self._features = FeatureRows(self._parts, query.query_id)
        self._feature_ids = pa.chunked_array(
            [chunk for part in self._parts for chunk in part.column("feature_id").chunks], pa.string()
        )
        self._object_of = np.full(len(self._features), -1, np.int64)
        """By feature, the row of the object that names it; -1 before one does."""
        self._object_ids: list[str] = []

    def check(self, metadata: dict[bytes, bytes]) -> None:
        """Row by row, and then what holds among rows."""
        stated = metadata.get(FINGERPRINT.encode(), b"").decode()
        expected = fingerprint_of(self._parts, self._mode)
        self._found.expect(self._name, FINGERPRINT, found=stated, expected=expected)
        for rows in read_rows(self._run.store, self._name, objects.SCHEMA.names):
            self._check_rows(rows)
        if len(set(self._object_ids)) < len(self._object_ids):
            self._problem("", "two rows have the same object_id")
        for i in np.flatnonzero(self._object_of < 0).tolist():
            self._problem(f"feature {self._feature_ids[i]}", "is in no object")
        self._check_grouping()

    def _check_rows(self, rows: pa.Table) -> None:
        say_rows(wrong_boxes(rows), rows, self._name, "bbox is not the geometry's bounds", self._found, of="object")
        for what, wrong in wrong_geometries(rows, self._crs).items():
            say_rows(wrong, rows, self._name, what, self._found, of="object")
        named = rows["feature_ids"].combine_chunks()
        ends = np.cumsum([0, *named.value_lengths().to_pylist()])
        numbers = pc.index_in(named.flatten(), value_set=self._feature_ids)
        known = ~numbers.is_null().to_numpy(zero_copy_only=False)
        numbers = numbers.fill_null(0).to_numpy()
        features = self._features.take(numbers)
        shapes, geometries = geometries_of(features), geometries_of(rows)
        stated, columns = (table.drop_columns(["geometry", "bbox"]).to_pylist() for table in (rows, features))
        for i, (row, (start, end)) in enumerate(zip(stated, pairwise(ends.tolist()), strict=True)):
            where, number = f"object {row['object_id']}", len(self._object_ids)
            self._object_ids.append(row["object_id"])
            if start == end or not known[start:end].all():
                self._problem(where, "names no feature, or one that is not there")
                continue
            for n in numbers[start:end].tolist():
                if self._object_of[n] not in {-1, number}:
                    self._problem(f"feature {self._feature_ids[n]}", "is in several objects")
                self._object_of[n] = number
            for what in (*_wrong_values(row, columns[start:end]), *_wrong_outline(geometries[i], shapes[start:end])):
                self._problem(where, what)

    def _check_grouping(self) -> None:
        """Which features are one object, found anew."""
        if (self._object_of < 0).any():
            return
        groups = np.unique(np.column_stack([self._object_of, objects_of(self._features, self._mode)]), axis=0)
        rows, times = np.unique(groups[:, 0], return_counts=True)
        for row in rows[times > 1].tolist():
            self._problem(f"object {self._object_ids[row]}", "is several objects by the rule")
        group, times = np.unique(groups[:, 1], return_counts=True)
        for row in groups[np.isin(groups[:, 1], group[times > 1]), 0].tolist():
            self._problem(f"object {self._object_ids[row]}", "is only a part of one by the rule")

    def _problem(self, where: str, what: str) -> None:
        self._found.problem(f"{self._name} {where}".rstrip(), what)


def _wrong_values(row: dict[str, Any], features: Sequence[dict[str, Any]]) -> list[str]:
    """What an object's row says that its features do not."""
    ids, scene_ids = (sorted({feature[name] for feature in features}) for name in ("feature_id", "scene_id"))
    areas = np.array([feature["area_m2"] for feature in features])
    expected = {
        "object_id": object_id(ids),
        "feature_ids": ids,
        "scene_ids": scene_ids,
        "n_scenes": len(scene_ids),
        "datetime": max((feature["datetime"] for feature in features if feature["datetime"] is not None), default=None),
    }
    wrong = [f"{name} is {row[name]}, not {value}" for name, value in expected.items() if row[name] != value]
    score = np.average([feature["score"] for feature in features], weights=areas)
    if not abs(row["score"] - score) <= _TOLERANCE:
        wrong.append(f"score is {row['score']}, not {score}, the mean of its features")
    largest = [tuple(feature[name] for name in _OF_THE_LARGEST) for feature in features
               if feature["area_m2"] == areas.max()]  # fmt: skip
    if tuple(row[name] for name in _OF_THE_LARGEST) not in largest:
        wrong.append(f"{', '.join(_OF_THE_LARGEST)} are not those of its largest feature")
    return wrong


def _wrong_outline(outline: shapely.Geometry, shapes: NDArray[np.object_]) -> list[str]:
    if not shapely.is_valid(outline):
        return []  # which is said elsewhere
    union = shapes[0] if len(shapes) == 1 else shapely.union_all(shapes)
    if shapely.equals_exact(shapely.normalize(outline), shapely.normalize(union)):
        return []  # as a rule; what follows is dear where outlines are long
    if shapely.area(shapely.symmetric_difference(outline, union)) <= _TOLERANCE * union.area:
        return []
    return ["geometry is not the union of its features"]
