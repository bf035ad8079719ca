"""Windows become images and masks; nothing unreadable passes for pixels."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, Resampling
from tiffs import draw_tiff, noise, scene_of

from pipeline.normalise import IDENTITY, scene_stretch
from pipeline.read import TilePixels, UnreadablePixels, open_scene, read_window
from pipeline.scenes import Scene
from pipeline.tiling import Window
from t2s_core.errors import ContractError


def read(scene: Scene, window: Window, out_px: int) -> TilePixels:
    with open_scene(scene) as dataset:
        return read_window(dataset, scene, window, out_px, scene_stretch(scene))


def with_hole(bands: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """The upper left 4 x 4 pixels are 0 in all bands; a dark pixel is 0 in one."""
    bands = bands.copy()
    bands[:, :4, :4] = 0
    bands[0, 10, 10] = 0
    valid = np.ones(bands.shape[1:], dtype=np.bool_)
    valid[:4, :4] = False
    return bands, valid


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return scene_of(draw_tiff(tmp_path_factory.mktemp("plain") / "a.tif", noise(3, 40, 50)))


@given(x0=st.integers(0, 40), y0=st.integers(0, 30), side=st.integers(1, 60))
@settings(max_examples=40, deadline=None)
def test_a_window_is_that_part_of_the_file(plain: Scene, x0: int, y0: int, side: int) -> None:
    pixels = read(plain, Window(x0, y0, x0 + side, y0 + side), side)
    expected = np.zeros((side, side, 3), np.uint8)
    part = np.moveaxis(noise(3, 40, 50), 0, -1)[y0 : y0 + side, x0 : x0 + side]
    expected[: part.shape[0], : part.shape[1]] = part
    assert (pixels.image == expected).all()
    assert pixels.valid.sum() == part.shape[0] * part.shape[1]
    assert pixels.valid[: part.shape[0], : part.shape[1]].all()


def test_nodata_by_value_means_all_bands(tmp_path: Path) -> None:
    bands, valid = with_hole(noise(3, 16, 16))
    scene = scene_of(draw_tiff(tmp_path / "a.tif", bands, nodata=0))
    pixels = read(scene, Window(0, 0, 16, 16), 16)
    assert (pixels.valid == valid).all()
    assert (pixels.image == np.moveaxis(bands, 0, -1)).all()


def test_masked_pixels_are_no_data_and_black(tmp_path: Path) -> None:
    _, valid = with_hole(noise(3, 16, 16))
    scene = scene_of(draw_tiff(tmp_path / "a.tif", noise(3, 16, 16), mask=valid))
    pixels = read(scene, Window(0, 0, 16, 16), 16)
    assert (pixels.valid == valid).all()
    assert (pixels.image[~valid] == 0).all()
    assert (pixels.image[valid] == np.moveaxis(noise(3, 16, 16), 0, -1)[valid]).all()


def test_transparent_pixels_are_no_data(tmp_path: Path) -> None:
    _, valid = with_hole(noise(3, 16, 16))
    bands = np.concatenate([noise(3, 16, 16), valid[None] * np.uint8(255)])
    colours = [ColorInterp.blue, ColorInterp.green, ColorInterp.red, ColorInterp.alpha]
    scene = scene_of(draw_tiff(tmp_path / "a.tif", bands, colorinterp=colours))
    pixels = read(scene, Window(0, 0, 16, 16), 16)
    assert (pixels.valid == valid).all()
    assert (pixels.image[valid] == np.moveaxis(bands[[2, 1, 0]], 0, -1)[valid]).all()


def test_nan_in_any_band_is_no_data(tmp_path: Path) -> None:
    bands = noise(3, 16, 16, dtype="float32")
    bands[2, 3, 5] = np.nan
    pixels = read(scene_of(draw_tiff(tmp_path / "a.tif", bands)), Window(0, 0, 16, 16), 8)
    assert np.argwhere(~pixels.valid).tolist() == [[3, 5]]


def test_a_palette_becomes_colours(tmp_path: Path) -> None:
    indices = np.array([[[0, 1], [2, 1]]], np.uint8)
    table = {0: (10, 20, 30, 255), 1: (200, 100, 0, 255), 2: (1, 2, 3, 255)}
    scene = scene_of(draw_tiff(tmp_path / "a.tif", indices, colormap=table, nodata=2))
    pixels = read(scene, Window(0, 0, 2, 2), 2)
    assert pixels.image.tolist() == [[[10, 20, 30], [200, 100, 0]], [[0, 0, 0], [200, 100, 0]]]
    assert pixels.valid.tolist() == [[True, True], [False, True]]


def test_a_gray_scene_is_shown_gray(tmp_path: Path) -> None:
    pixels = read(scene_of(draw_tiff(tmp_path / "a.tif", noise(1, 8, 8))), Window(0, 0, 8, 8), 8)
    assert (pixels.image == noise(1, 8, 8)[0][..., None]).all()


def test_a_coarser_level_averages_and_keeps_native_validity(tmp_path: Path) -> None:
    bands, valid = with_hole(noise(3, 16, 16))
    pixels = read(scene_of(draw_tiff(tmp_path / "a.tif", bands, nodata=0)), Window(0, 0, 16, 16), 8)
    assert pixels.image.shape == (8, 8, 3)
    assert (pixels.valid == valid).all()
    means = bands.reshape(3, 8, 2, 8, 2).mean(axis=(2, 4)).transpose(1, 2, 0)
    assert np.abs(pixels.image[:5] - means[:5]).max() <= 1
    assert (pixels.image[:2, :2] == 0).all()


def test_a_scene_smaller_than_its_tile_is_padded_with_no_data(plain: Scene) -> None:
    pixels = read(plain, Window(0, 0, 100, 100), 50)
    assert pixels.valid[:40, :50].all()
    assert pixels.valid.sum() == 40 * 50
    assert (pixels.image[20:] == 0).all()
    assert (pixels.image[:20, :25] > 0).any(axis=-1).all()


def test_enlarging_keeps_validity_native(plain: Scene) -> None:
    pixels = read(plain, Window(0, 0, 10, 10), 40)
    assert pixels.image.shape == (40, 40, 3)
    assert pixels.valid.shape == (10, 10)


def test_a_window_beside_the_scene_is_all_no_data(plain: Scene) -> None:
    pixels = read(plain, Window(500, 500, 510, 510), 10)
    assert not pixels.valid.any()
    assert not pixels.image.any()


def test_only_square_windows_are_tiles(plain: Scene) -> None:
    with pytest.raises(ContractError, match="not square"):
        read(plain, Window(0, 0, 10, 11), 10)


def test_a_warped_scene_is_no_data_outside_of_its_footprint(tmp_path: Path) -> None:
    corners = [(0, 0), (0, 40), (30, 0), (30, 40)]
    points = [GroundControlPoint(row, col, 5e5 + 2 * col + row, 4e6 - 2 * row + col) for row, col in corners]
    crs = CRS.from_epsg(32633)
    scene = scene_of(draw_tiff(tmp_path / "gcp.tif", noise(3, 30, 40), gcps=(points, crs)))
    side = max(scene.shape)
    pixels = read(scene, Window(0, 0, side, side), side)
    assert not pixels.valid[0, 0]
    assert (pixels.image[pixels.valid] > 0).all(), "drawn pixels are 1 or more"
    assert (pixels.image[~pixels.valid] == 0).all()
    middle = scene.geobox.affine * (scene.shape[1] / 2, scene.shape[0] / 2)
    assert pixels.valid[scene.shape[0] // 2, scene.shape[1] // 2], middle


def test_a_coarser_level_reads_overviews_and_nothing_else(tmp_path: Path) -> None:
    """Shown by a file whose own pixels can no longer be decoded."""
    blocks = {"tiled": True, "blockxsize": 128, "blockysize": 128, "compress": "deflate"}
    path = draw_tiff(tmp_path / "a.tif", np.kron(noise(3, 128, 128), np.ones((1, 4, 4), np.uint8)), **blocks)
    with rasterio.open(path, "r+") as dataset:
        dataset.build_overviews([2, 4], Resampling.average)
    content = bytearray(path.read_bytes())
    with rasterio.open(path) as dataset:
        for row, col in np.ndindex(4, 4):
            start = int(dataset.get_tag_item(f"BLOCK_OFFSET_{col}_{row}", "TIFF", bidx=1))
            content[start : start + 60] = bytes(60)
    path.write_bytes(content)
    scene = scene_of(path)
    with open_scene(scene) as dataset:
        with pytest.raises(UnreadablePixels):
            read_window(dataset, scene, Window(0, 0, 512, 512), 512, IDENTITY)
        pixels = read_window(dataset, scene, Window(0, 0, 512, 512), 128, IDENTITY)
    assert (pixels.image == np.moveaxis(noise(3, 128, 128), 0, -1)).all()
    assert pixels.valid.all()


def test_damaged_deflate_data_raise(tmp_path: Path) -> None:
    path = draw_tiff(tmp_path / "a.tif", noise(3, 64, 64), compress="deflate")
    scene = scene_of(path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 200] = bytes(200)
    path.write_bytes(content)
    scene = scene_of(path)
    with open_scene(scene) as dataset, pytest.raises(UnreadablePixels) as caught:
        read_window(dataset, scene, Window(0, 0, 64, 64), 64, IDENTITY)
    assert "(0, 0, 64, 64)" in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_damaged_jpeg_data_raise_although_gdal_only_warns(tmp_path: Path) -> None:
    smooth = np.broadcast_to(np.arange(256, dtype=np.uint8), (3, 256, 256))
    path = draw_tiff(tmp_path / "a.tif", smooth, compress="jpeg", photometric="ycbcr")
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 40] = bytes(40)
    path.write_bytes(content)
    scene = scene_of(path)
    with open_scene(scene) as dataset, pytest.raises(UnreadablePixels):
        read_window(dataset, scene, Window(0, 0, 256, 256), 256, IDENTITY)


def test_a_file_that_is_gone_raises(tmp_path: Path) -> None:
    path = draw_tiff(tmp_path / "a.tif", noise(3, 8, 8))
    scene = scene_of(path)
    path.unlink()
    with pytest.raises(UnreadablePixels, match="cannot be opened"), open_scene(scene):
        pass


def test_real_corrupt_scene_fails_where_it_is_corrupt_and_nowhere_else(shared_data: Path) -> None:
    scene = scene_of(shared_data / "corrupt.tif")
    with open_scene(scene) as dataset:
        with pytest.raises(UnreadablePixels, match=r"\(512, 512, 1024, 1024\)"):
            read_window(dataset, scene, Window(512, 512, 1024, 1024), 512, IDENTITY)
        assert read_window(dataset, scene, Window(0, 0, 512, 512), 512, IDENTITY).valid.all()


def test_real_black_wedge_needs_the_users_word(shared_data: Path) -> None:
    path = shared_data / "manila_bridge_10cm.tif"
    window = Window(0, 0, 1024, 1024)
    assert read(scene_of(path), window, 512).valid.all()
    with_wedge = read(scene_of(path, nodata=0.0), window, 512)
    with rasterio.open(path) as oracle:
        black = (oracle.read(window=((0, 1024), (0, 1024))) == 0).all(axis=0)
    assert (with_wedge.valid == ~black).all()
    assert 0.1 < with_wedge.valid.mean() < 0.9


@pytest.mark.parametrize("name", ["colorado_mask", "landsat_rgb_utm18", "osbs_029", "rgba_uint16"])
def test_real_validity_is_what_gdal_says(shared_data: Path, name: str) -> None:
    path = shared_data / f"{name}.tif"
    pixels = read(scene_of(path), Window(0, 0, 200, 200), 200)
    with rasterio.open(path) as oracle:
        expected = oracle.dataset_mask(window=((0, 200), (0, 200))) > 0
    assert (pixels.valid == expected).all()
