"""run.json: read as written, refused where it is something else."""

from pathlib import Path

import pytest

from pipeline.manifest import NAME, SCHEMA_VERSION, new_run_id, now, read_manifest, software_versions, write_manifest
from pipeline.storage import Store
from t2s_core.errors import BadInput


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.at(str(tmp_path))


def test_it_is_read_as_it_was_written(store: Store) -> None:
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "queries": [{"query": "wo ist Wasser? 水"}],
        "float": 0.1,
        "none": None,
    }
    write_manifest(store, manifest)
    assert read_manifest(store) == manifest


def test_no_manifest_is_none(store: Store) -> None:
    assert read_manifest(store) is None


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "7", '"run"', "null", "\xff"])
def test_another_file_of_that_name_is_refused_by_name(store: Store, text: str) -> None:
    store.write(NAME, text.encode("latin-1"))
    with pytest.raises(BadInput, match=r"run\.json is not a run's manifest; choose another --out"):
        read_manifest(store)


def test_another_schema_version_is_refused_with_both_versions(store: Store) -> None:
    write_manifest(store, {"schema_version": "999"})
    with pytest.raises(BadInput, match=f"has schema version 999, this t2s reads {SCHEMA_VERSION}"):
        read_manifest(store)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"scenes": [{"scene_id": "../../x"}]}, "scene_id='../../x' names no folder of a run"),
        ({"queries": [{"query_id": "a/../../b", "query": "x"}]}, "names no folder of a run"),
        ({"queries": [{"query_id": 7, "query": "x"}]}, "names no folder of a run"),
        ({"scenes": "x"}, "scenes is no list of entries"),
        ({"scenes": [{"scene_id": "a"}]}, "is damaged: a scene has no 'bands'"),
        ({"status": "<script>"}, "status '<script>' is none"),
        ({"spec": {"scenes": ["a.tif"], "queries": [], "threshold": "high"}}, "threshold"),
    ],
)
def test_what_it_says_cannot_lead_out_of_the_run(store: Store, changes: dict[str, object], why: str) -> None:
    write_manifest(store, {"schema_version": SCHEMA_VERSION} | changes)
    with pytest.raises(BadInput) as caught:
        read_manifest(store)
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)


def test_run_ids_differ_and_sort_by_time() -> None:
    ids = [new_run_id() for _ in range(200)]
    assert ids == sorted(ids)


def test_times_are_utc() -> None:
    assert now().endswith("+00:00")


def test_versions_of_what_shapes_a_result_are_known() -> None:
    assert {"t2s", "torch", "transformers", "rasterio"} <= set(software_versions())
