"""Objects that two scenes saw: each way of making them untrue is found, and said."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import shapely
from affine import Affine
from breaking import described, failing, rows_of
from regions import NORTH_UP, ROADS, WATER, draw_scene, make_models, run, spec_of

from pipeline.findings import Findings, Published
from pipeline.manifest import read_manifest
from pipeline.queries import Mode
from pipeline.rebuilt import plans_of
from pipeline.storage import Store
from pipeline.validate import validate_run
from pipeline.validate_objects import check_objects

TABLE = "objects/query_id=the-water/part-0.parquet"
FEATURES = "features/query_id=the-water/scene_id=west/part-0.parquet"
Rows = list[dict[str, Any]]


def overlapping(folder: Path, mode: Mode = "semantic") -> Path:
    """A run over two scenes, the second 64 px to the east of the first and of the same ground."""
    west = draw_scene(folder / "west.tif", 120, 200, tags={"TIFFTAG_DATETIME": "2024:05:06 07:08:09"})
    east = draw_scene(folder / "east.tif", 120, 200, seed=1, transform=NORTH_UP @ Affine.translation(64, 0))
    run(spec_of(make_models(folder), west, east, queries=[WATER, ROADS], mode=mode), folder / "out")
    return folder / "out"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return overlapping(tmp_path_factory.mktemp("whole"))


@pytest.fixture
def out(whole: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    return shutil.copytree(whole, tmp_path / "out")


def shared(rows: Rows) -> dict[str, Any]:
    """An object that both scenes saw."""
    return next(row for row in rows if row["n_scenes"] == 2)


def alone(rows: Rows) -> dict[str, Any]:
    """An object that is one feature."""
    return next(row for row in rows if len(row["feature_ids"]) == 1)


def lost(rows: Rows) -> None:
    rows.remove(alone(rows))


def twice(rows: Rows) -> None:
    rows.append(alone(rows) | {"object_id": "0" * 16})


def split(rows: Rows) -> None:
    """The first feature of an object gets a row of its own, and both rows are otherwise as they should be."""
    row = shared(rows)
    rows.append(row | {"feature_ids": row["feature_ids"][:1]})
    row["feature_ids"] = row["feature_ids"][1:]


def merged(rows: Rows) -> None:
    """Two objects that have nothing to do with each other become one."""
    one, other = rows[0], rows.pop()
    both = shapely.union(*(shapely.from_wkb(row["geometry"]) for row in (one, other)))
    one |= described(both) | {"feature_ids": sorted(one["feature_ids"] + other["feature_ids"])}


def named_nothing(rows: Rows) -> None:
    alone(rows)["feature_ids"] = ["0" * 16]


def same_id(rows: Rows) -> None:
    rows[0]["object_id"] = rows[1]["object_id"]


def other_id(rows: Rows) -> None:
    rows[0]["object_id"] = "0" * 16


def of_one_feature(rows: Rows) -> None:
    """The outline of what one of both scenes saw; box and area with it."""
    row = shared(rows)
    row |= described(shapely.buffer(shapely.from_wkb(row["geometry"]), -1e-5))


def grown(rows: Rows) -> None:
    row = alone(rows)
    row |= described(shapely.buffer(shapely.from_wkb(row["geometry"]), 1e-7, join_style="mitre"))


def wrong_box(rows: Rows) -> None:
    rows[0]["bbox"]["xmax"] += 1e-7


def wrong_area(rows: Rows) -> None:
    rows[0]["area_m2"] *= 1.001


def wrong_count(rows: Rows) -> None:
    shared(rows)["n_scenes"] = 1


def wrong_scenes(rows: Rows) -> None:
    shared(rows)["scene_ids"] = ["north", "west"]


def wrong_score(rows: Rows) -> None:
    shared(rows)["score"] *= 0.99


def wrong_time(rows: Rows) -> None:
    shared(rows)["datetime"] = None


def other_reasoning(rows: Rows) -> None:
    rows[0]["reasoning"] = "I made this up."


def other_query(rows: Rows) -> None:
    rows[0]["query"] = "the sea"


BROKEN: list[tuple[Callable[[Rows], None], str]] = [
    (lost, "is in no object"),
    (twice, "is in several objects"),
    (split, "is only a part of one by the rule"),
    (merged, "is several objects by the rule"),
    (named_nothing, "names no feature, or one that is not there"),
    (same_id, "two rows have the same object_id"),
    (other_id, "object_id is 0000000000000000, not"),
    (of_one_feature, "geometry is not the union of its features"),
    (grown, "geometry is not the union of its features"),
    (wrong_box, "bbox is not the geometry's bounds"),
    (wrong_area, "area_m2 is not the geodesic area"),
    (wrong_count, "n_scenes is 1, not 2"),
    (wrong_scenes, "scene_ids is ['north', 'west'], not ['east', 'west']"),
    (wrong_score, "the mean of its features"),
    (wrong_time, "datetime is None, not 2024-05-06"),
    (other_reasoning, "are not those of its largest feature"),
    (other_query, "are not those of its largest feature"),
]


def said(out: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """All that the check finds wrong."""
    monkeypatch.setattr("pipeline.findings.MAX_SAID", 100)
    store, found = Store.at(str(out)), Findings()
    manifest = read_manifest(store)
    assert manifest is not None
    check_objects(Published(store, manifest, tuple(plans_of(manifest, store))), found)
    assert found.n_problems
    return found.detail("tables")


@pytest.mark.parametrize("mode", ["semantic", "instance"])
def test_what_a_run_leaves_is_found_whole(mode: Mode, tmp_path: Path) -> None:
    out = overlapping(tmp_path, mode)
    assert failing(out) == {}
    assert 2 in pq.read_table(out / TABLE, partitioning=None)["n_scenes"].to_pylist()
    details = {check["name"]: check["detail"] for check in validate_run(str(out))["checks"]}
    assert details["objects"] == "2 tables"


@pytest.mark.parametrize(("do", "what"), BROKEN, ids=[do.__name__ for do, _ in BROKEN])
def test_each_untruth_is_found(
    out: Path, do: Callable[[Rows], None], what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows_of(out, TABLE, do)
    assert what in said(out, monkeypatch)


def test_a_table_that_is_missing_damaged_or_of_older_features(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = pq.read_table(out / TABLE, partitioning=None)
    metadata = table.schema.metadata
    for key, value, what in (
        (b"t2s:fingerprint", b"of another day", "t2s:fingerprint is of another day, not"),
        (b"t2s:schema_version", b"0", "schema version is 0, not 1"),
    ):
        pq.write_table(table.replace_schema_metadata({**metadata, key: value}), out / TABLE)
        assert what in said(out, monkeypatch)
    pq.write_table(table.drop_columns(["n_scenes"]), out / TABLE)
    assert "has no column n_scenes of int32" in said(out, monkeypatch)
    (out / TABLE).write_bytes((out / TABLE).read_bytes()[:-200])
    assert "cannot be checked" in said(out, monkeypatch)
    (out / TABLE).unlink()
    assert f"{TABLE}: cannot be checked: FileNotFoundError" in said(out, monkeypatch)


def test_what_is_untrue_of_objects_is_said_of_objects_alone(out: Path) -> None:
    rows_of(out, TABLE, wrong_count)
    assert set(failing(out)) == {"objects", "checksums"}


def test_a_damaged_partition_of_features_breaks_the_objects_too(out: Path) -> None:
    (out / FEATURES).write_bytes(b"PAR1")
    assert "cannot be checked" in failing(out)["objects"]


def test_a_table_of_another_query_is_remarked(out: Path) -> None:
    stray = out / "objects/query_id=the-sea/part-0.parquet"
    stray.parent.mkdir()
    shutil.copyfile(out / TABLE, stray)
    document = validate_run(str(out))
    assert document["ok"]
    details = {check["name"]: check["detail"] for check in document["checks"]}
    assert "1 files that run.json knows nothing of, e.g. objects/query_id=the-sea/part-0.parquet" in details["objects"]
