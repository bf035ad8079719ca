"""Mosaics in shards: fewer objects, the same pixels, whoever reads them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorstore
import xarray as xr
import zarr
from numpy.typing import NDArray
from pydantic import ValidationError
from regions import NOTHING, WATER, draw_scene, make_models, mask_of, run, spec_of

from pipeline.mosaics import Layout
from pipeline.progress import Silent
from pipeline.restitch import Changes, restitch
from pipeline.spec import RunSpec
from pipeline.validate import validate_run
from pipeline.work import InProcess

RASTERS = [f"{level}{name}" for level in ("", "2/", "4/") for name in ("probability", "mask")]


def sharded_spec(folder: Path, shard_px: int | None) -> RunSpec:
    scene = folder / "alpha.tif"
    if not scene.exists():  # drawn anew it would be another version
        draw_scene(scene, 560, 1100)
    return spec_of(make_models(folder), scene, queries=[WATER, NOTHING], tile_px=256, shard_px=shard_px)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    run(sharded_spec(folder, 1024), folder / "out")
    return folder


def group_of(folder: Path, query_id: str = "the-water") -> Path:
    return folder / "out/masks.zarr/alpha" / query_id


def by_zarr(folder: Path) -> dict[str, NDArray[Any]]:
    group = zarr.open_group(group_of(folder), mode="r")
    return {name: np.asarray(group[name][:]) for name in RASTERS}


def shards_of(folder: Path) -> list[tuple[int, ...] | None]:
    group = zarr.open_group(group_of(folder), mode="r")
    return [group[name].shards for name in RASTERS]


def test_independent_readers_agree_about_shards(folder: Path) -> None:
    assert shards_of(folder) == [(1024, 1024)] * len(RASTERS)
    for name, values in by_zarr(folder).items():
        spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{group_of(folder) / name}/"}}
        array = tensorstore.open(spec, open=True, read=True).result()
        assert array.chunk_layout.read_chunk.shape == (512, 512)
        assert array.chunk_layout.write_chunk.shape == (1024, 1024)
        np.testing.assert_array_equal(array.read().result(), values)
    mosaic = xr.open_zarr(group_of(folder), decode_coords="all")
    np.testing.assert_array_equal(mosaic["mask"], mask_of(folder / "out", "alpha", "the-water"))
    assert (mosaic["mask"] == 1).any()


def test_a_shard_is_one_object(folder: Path) -> None:
    objects = sorted(p.relative_to(group_of(folder)) for p in (group_of(folder) / "mask/c").rglob("*") if p.is_file())
    assert objects == [Path("mask/c/0/0"), Path("mask/c/0/1")]


def test_a_sharded_run_is_valid_and_stays_sharded_when_it_is_stitched_again(folder: Path) -> None:
    assert validate_run(str(folder / "out"))["ok"]
    restitch(str(folder / "out"), Changes(threshold=0.4), InProcess(), Silent())
    assert shards_of(folder) == [(1024, 1024)] * len(RASTERS)
    document = validate_run(str(folder / "out"))
    assert document["ok"], [check for check in document["checks"] if not check["ok"]]
    restitch(str(folder / "out"), Changes(threshold=0.5), InProcess(), Silent())


def test_without_shards_the_same_run_has_the_same_pixels(folder: Path) -> None:
    sharded = by_zarr(folder)
    outcome = run(sharded_spec(folder, None), folder / "out")
    assert outcome.computed == 0  # no model was asked
    assert shards_of(folder) == [None] * len(RASTERS)
    for name, values in by_zarr(folder).items():
        np.testing.assert_array_equal(values, sharded[name])


@pytest.mark.parametrize("shard_px", [0, -512, 100, 700, 8192])
def test_sides_that_cut_chunks_or_fill_memory_are_refused(shard_px: int) -> None:
    with pytest.raises(ValidationError, match="shard_px"):
        RunSpec(scenes=("a.tif",), queries=(), shard_px=shard_px)


@pytest.mark.parametrize("shard_px", [None, *range(512, 4097, 512)])
def test_a_block_holds_whole_shards(shard_px: int | None) -> None:
    layout = Layout.sharded(shard_px)
    assert layout.block_px % layout.writer_px == 0
    assert layout.writer_px % layout.chunk_px == 0
    assert 0 < layout.block_px <= 4096
