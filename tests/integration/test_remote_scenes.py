"""A Cloud Optimized GeoTIFF on a web server costs few requests and little more than the bytes of its blocks."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from range_server import Server, serving
from rasterio.env import get_gdal_config
from rasterio.shutil import copy
from tiffs import draw_tiff, noise, scene_of

from pipeline.normalise import IDENTITY
from pipeline.plan import Batch, PlannedTile
from pipeline.rasters import open_raster
from pipeline.read import TilePixels, UnreadablePixels, open_scene, read_window
from pipeline.reading import read_batches
from pipeline.tiling import TileKey, Window


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path) as made:
        yield made


@pytest.fixture
def cog(tmp_path: Path) -> Path:
    path = draw_tiff(tmp_path / "raw.tif", noise(3, 1024, 1024, dtype="uint16", high=9000))
    copy(str(path), str(tmp_path / "cog.tif"), driver="COG", compress="deflate", blocksize=256)
    return tmp_path / "cog.tif"


def read(scene: Any, windows: list[Window]) -> list[TilePixels]:
    tiles = tuple(PlannedTile(TileKey("a", 1, 0, i), window, None) for i, window in enumerate(windows))
    (batch,) = read_batches(scene, [Batch("b", tiles, ((),) * len(tiles))], windows[0].width, IDENTITY)
    assert all(isinstance(pixels, TilePixels) for pixels in batch.pixels), batch.pixels
    return list(batch.pixels)  # type: ignore[arg-type]


def test_a_row_of_tiles_costs_the_header_and_one_request_for_each_row_of_blocks(server: Server, cog: Path) -> None:
    scene = scene_of(f"{server.url}/cog.tif")  # type: ignore[arg-type]
    assert len(server.asked) <= 6
    assert {path for _, path in server.asked} == {"/cog.tif"}, "no file beside it is looked for"
    server.forget()
    windows = [Window(x, 300, x + 200, 500) for x in (300, 450, 560)]
    found = read(scene, windows)
    assert all((a.image == b.image).all() for a, b in zip(found, read(scene_of(cog), windows), strict=True))
    with rasterio.open(cog) as dataset:
        sizes = [int(dataset.get_tag_item(f"BLOCK_SIZE_{col}_1", "TIFF", bidx=1)) for col in (1, 2)]
    assert len(server.asked) <= 5
    assert sum(sizes) <= server.n_bytes <= sum(sizes) + 2 * 256 * 1024, "the blocks, the header and what lies around it"


def test_a_file_that_goes_away_while_it_is_read_fails_the_tile(server: Server, cog: Path) -> None:
    scene = scene_of(f"{server.url}/cog.tif")  # type: ignore[arg-type]
    with open_scene(scene) as dataset:
        cog.unlink()
        with pytest.raises(UnreadablePixels, match=r"\(700, 700, 900, 900\)"):
            read_window(dataset, scene, Window(700, 700, 900, 900), 200, IDENTITY)


def test_files_beside_a_local_file_are_read(tmp_path: Path) -> None:
    path = draw_tiff(tmp_path / "a.tif", noise(3, 64, 64))
    mask = np.ones((64, 64), np.bool_)
    mask[:, :20] = False
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(path, "r+") as dataset:
        dataset.write_mask(mask)
    (pixels,) = read(scene_of(path), [Window(0, 0, 64, 64)])
    assert (pixels.valid == mask).all()


def test_settings_hold_while_a_file_is_open_and_give_way_to_the_users(
    server: Server, cog: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    option = "GDAL_DISABLE_READDIR_ON_OPEN"
    before = get_gdal_config(option)
    with open_raster(f"{server.url}/{cog.name}"):
        assert get_gdal_config(option) == "EMPTY_DIR"
    assert get_gdal_config(option) == before
    with open_raster(str(cog)):
        assert get_gdal_config(option) == before
    monkeypatch.setenv(option, "NO")
    with open_raster(f"{server.url}/{cog.name}"):
        assert get_gdal_config(option) != "EMPTY_DIR"
