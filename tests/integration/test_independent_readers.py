"""What a run leaves, as software reads it that never heard of t2s."""

import hashlib
import json
import os
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import duckdb
import geopandas as gpd
import numpy as np
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pytest
import rasterio
import rasterio.features
import shapely
import tensorstore
import xarray as xr
from outputs import finished_run
from regions import features_of, mask_of

from pipeline.cog import cog_name

NODE = Path(__file__).parents[1] / "node"
GROUPS = [("alpha", "the-water"), ("alpha", "nothing-at-all"), ("beta", "the-roads")]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished_run(tmp_path_factory.mktemp("run"))


def tensorstore_of(folder: Path) -> Any:
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{folder}/"}}
    return tensorstore.open(spec, open=True, read=True).result()


@pytest.mark.parametrize(("scene_id", "query_id"), GROUPS)
def test_tensorstore_reads_every_array(out: Path, scene_id: str, query_id: str) -> None:
    group = out / "masks.zarr" / scene_id / query_id
    for name in ("probability", "mask"):
        array = tensorstore_of(group / name)
        np.testing.assert_array_equal(array.read().result(), mask_of(out, scene_id, query_id, name))
        assert (array.dtype.name, array.fill_value, array.domain.labels) == ("uint8", 255, ("y", "x"))
    assert set(np.unique(tensorstore_of(group / "coverage_l1").read().result())) <= set(range(8))


@pytest.mark.parametrize(("scene_id", "query_id"), GROUPS)
def test_zarrita_reads_every_array(out: Path, scene_id: str, query_id: str) -> None:
    if shutil.which("node") is None:
        pytest.skip("Node is not on this machine")
    if not (NODE / "node_modules/zarrita").exists():
        assert "CI" not in os.environ, ".ci/run installs zarrita where npm is"
        pytest.skip("zarrita is not installed: npm install --prefix tests/node")
    group = out / "masks.zarr" / scene_id / query_id
    names = ["probability", "mask", "coverage_l1", *(["2/mask"] if scene_id == "alpha" else [])]
    done = subprocess.run(["node", NODE / "read.mjs", group, *names], capture_output=True, text=True, check=True)
    seen = json.loads(done.stdout)
    assert seen["attributes"]["t2s:state"] == "complete"
    assert seen["arrays"]["mask"]["attributes"]["flag_meanings"] == "background target nobody_looked"
    for name in names:
        expected = np.ascontiguousarray(tensorstore_of(group / name).read().result())
        assert seen["arrays"][name]["shape"] == list(expected.shape)
        assert seen["arrays"][name]["dtype"] == "uint8"
        assert seen["arrays"][name]["sha256"] == hashlib.sha256(expected.tobytes()).hexdigest()


def test_xarray_knows_grid_mapping_flags_and_fill(out: Path) -> None:
    mosaic = xr.open_zarr(out / "masks.zarr/alpha/the-water", decode_coords="all")
    assert mosaic["mask"].dtype == np.uint8
    assert mosaic["mask"].encoding["grid_mapping"] == "spatial_ref"
    assert list(mosaic["mask"].attrs["flag_values"]) == [0, 1, 255]
    assert {"x", "y", "spatial_ref"} <= set(mosaic.coords)


def test_geopandas_reads_what_a_box_touches(out: Path) -> None:
    everything = features_of(out)
    west, south, east, north = everything[everything["scene_id"] == "alpha"].total_bounds
    box = (west, south, (west + east) / 2, (south + north) / 2)
    found = gpd.read_parquet(out / "features", bbox=box)
    touched = everything[shapely.intersects(shapely.box(*everything.bounds.to_numpy().T), shapely.box(*box))]
    assert set(found["feature_id"]) == set(touched["feature_id"])
    assert 0 < len(found) < len(everything)
    assert found.crs == "OGC:CRS84"


def test_pyarrow_filters_by_partition_and_by_column(out: Path) -> None:
    everything = features_of(out)
    dataset = ds.dataset(out / "features", partitioning="hive")
    wanted = (pc.field("query_id") == "the-roads") & (pc.field("scene_id") == "beta")
    assert [str(f.path) for f in dataset.get_fragments(filter=wanted)] == [
        str(out / "features/query_id=the-roads/scene_id=beta/part-0.parquet")
    ]
    large = dataset.to_table(filter=wanted & (pc.field("area_m2") > 1000))
    mine = everything[(everything["query_id"] == "the-roads") & (everything["scene_id"] == "beta")]
    assert set(large["feature_id"].to_pylist()) == set(mine[mine["area_m2"] > 1000]["feature_id"])


def test_duckdb_reads_geometry_and_partitions(out: Path) -> None:
    spec = find_spec("duckdb_ext")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    connection = duckdb.connect(config={"autoinstall_known_extensions": "false"})
    connection.execute("SET extension_directory = ?", [str(Path(spec.submodule_search_locations[0], "extensions"))])
    connection.execute("LOAD spatial")
    rows = connection.execute(
        "SELECT scene_id, query_id, count(*), sum(ST_Area(geometry)), bool_and(ST_IsValid(geometry)), "
        "bool_and(ST_XMax(geometry) = bbox.xmax) FROM read_parquet(?, hive_partitioning = true) GROUP BY ALL",
        [f"{out}/features/*/*/*.parquet"],
    ).fetchall()
    everything = features_of(out)
    assert {(row[0], row[1]): row[2] for row in rows} == dict(everything.groupby(["scene_id", "query_id"]).size())
    for scene_id, query_id, _, area, valid, boxed in rows:
        mine = everything[(everything["scene_id"] == scene_id) & (everything["query_id"] == query_id)]
        assert area == pytest.approx(shapely.area(mine.geometry.to_numpy()).sum())
        assert valid
        assert boxed


@pytest.mark.parametrize("scene_id", ["alpha", "beta"])
def test_gdal_sees_the_same_mask_in_cog_zarr_and_features(out: Path, scene_id: str) -> None:
    with rasterio.open(out / cog_name(scene_id, "the-water", "mask")) as file:
        pixels, transform, crs = file.read(1), file.transform, file.crs
    np.testing.assert_array_equal(pixels, mask_of(out, scene_id, "the-water"))
    everything = features_of(out)
    mine = everything[(everything["scene_id"] == scene_id) & (everything["query_id"] == "the-water")].to_crs(crs)
    burnt = rasterio.features.rasterize(mine.geometry, out_shape=pixels.shape, transform=transform)
    np.testing.assert_array_equal(burnt == 1, pixels == 1)
