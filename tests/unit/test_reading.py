"""Batches are read at once where that gives what reading tile by tile gives; what is damaged fails, nothing else."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, Resampling
from tiffs import draw_tiff, noise, scene_of

from pipeline import reading
from pipeline.normalise import IDENTITY, scene_stretch
from pipeline.plan import Batch, PlannedTile
from pipeline.read import TilePixels, UnreadablePixels, open_scene, read_window, read_windows, together
from pipeline.reading import read_batches
from pipeline.scenes import Scene
from pipeline.tiling import TileGrid, TileKey, Window

HEIGHT, WIDTH = 150, 210
BLOCKS = {"tiled": True, "blockxsize": 32, "blockysize": 32}


def holed(pixels: NDArray[Any], hole: float) -> NDArray[Any]:
    pixels = pixels.copy()
    pixels[:, 20:90, 30:120] = hole
    pixels[0, 100:110, 100:110] = hole  # a dark pixel, unless all bands are
    return pixels


def footprint() -> NDArray[np.bool_]:
    mask = np.ones((HEIGHT, WIDTH), np.bool_)
    mask[20:90, 30:120] = False
    return mask


def drawn(n: int, dtype: str = "uint8", **options: int) -> NDArray[Any]:
    return noise(n, HEIGHT, WIDTH, dtype=dtype, **options)


KINDS: dict[str, Any] = {
    "8 bits, striped": lambda p: draw_tiff(p, drawn(3)),
    "8 bits, tiled, nodata": lambda p: draw_tiff(p, holed(drawn(3), 0), nodata=0, compress="deflate", **BLOCKS),
    "jpeg": lambda p: draw_tiff(p, drawn(3), compress="jpeg", photometric="ycbcr", **BLOCKS),
    "16 bits, by band": lambda p: draw_tiff(
        p, holed(drawn(4, "uint16", high=9000), 0), nodata=0, interleave="band", compress="lzw", **BLOCKS
    ),
    "16 bits with sign": lambda p: draw_tiff(p, holed(drawn(3, "int16", low=-900, high=900), -7), nodata=-7),
    "floats with NaN": lambda p: draw_tiff(p, holed(drawn(3, "float32", high=900), np.nan), **BLOCKS),
    "float64 with nodata": lambda p: draw_tiff(p, holed(drawn(1, "float64", high=900), -1), nodata=-1, **BLOCKS),
    "32 bits": lambda p: draw_tiff(p, drawn(3, "uint32", high=9000), interleave="pixel"),
    "mask": lambda p: draw_tiff(p, drawn(3), mask=footprint(), compress="deflate", **BLOCKS),
    "alpha": lambda p: draw_tiff(
        p,
        np.concatenate([drawn(3, "uint16", high=9000), footprint()[None] * np.uint16(65535)]),
        colorinterp=[ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha],
        **BLOCKS,
    ),
    "palette": lambda p: draw_tiff(
        p, drawn(1, high=5), colormap={i: (i, 9 * i, 200 - i, 255) for i in range(5)}, nodata=2, **BLOCKS
    ),
}


@pytest.fixture(scope="module", params=list(KINDS))
def scene(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return scene_of(KINDS[request.param](tmp_path_factory.mktemp("kinds") / "a.tif"))


def tiles_of(windows: Sequence[Window]) -> tuple[PlannedTile, ...]:
    return tuple(PlannedTile(TileKey("a", 1, 0, i), window, None) for i, window in enumerate(windows))


def read_all(scene: Scene, windows: Sequence[Window], tile_px: int, **options: Any) -> list[TilePixels | str]:
    tiles = tiles_of(windows)
    batch = Batch("tiles/a/1/b.parquet", tiles, ((),) * len(tiles))
    (read,) = read_batches(scene, [batch], tile_px, scene_stretch(scene), **options)
    return list(read.pixels)


def same(a: TilePixels | str, b: TilePixels | str) -> bool:
    assert isinstance(a, TilePixels)
    assert isinstance(b, TilePixels)
    return bool((a.image == b.image).all() and (a.valid == b.valid).all() and a.image.shape == b.image.shape)


@given(data=st.data())
@settings(max_examples=30)
def test_windows_read_together_are_the_windows_read_one_by_one(scene: Scene, data: st.DataObject) -> None:
    side = data.draw(st.integers(1, 170), "side")
    x0s, y0s = st.integers(0, WIDTH - 1), st.integers(0, HEIGHT - 1)
    corners = data.draw(st.lists(st.tuples(x0s, y0s), min_size=2, max_size=6), "corners")
    windows = [Window(x0, y0, x0 + side, y0 + side) for x0, y0 in corners]
    stretch = scene_stretch(scene)
    with open_scene(scene) as dataset:
        one_by_one = [read_window(dataset, scene, window, side, stretch) for window in windows]
        at_once = read_windows(dataset, scene, windows, side, stretch)
    assert all(map(same, at_once, one_by_one))


@given(data=st.data())
@settings(max_examples=20)
def test_batches_of_a_grid_are_its_windows_whatever_the_level(scene: Scene, data: st.DataObject) -> None:
    tile_px, level = data.draw(st.sampled_from([24, 64])), data.draw(st.sampled_from([1, 2]))
    grid = TileGrid(WIDTH, HEIGHT, tile_px, tile_px // 4, level)
    windows = [grid.window(row, col) for row in range(grid.rows) for col in range(grid.cols)]
    start = data.draw(st.integers(0, len(windows) - 1))
    windows = windows[start : start + 8]
    with open_scene(scene) as dataset:
        one_by_one = [read_window(dataset, scene, window, tile_px, scene_stretch(scene)) for window in windows]
    assert all(map(same, read_all(scene, windows, tile_px), one_by_one))


@given(
    corners=st.lists(st.tuples(st.integers(0, 300), st.integers(0, 300)), min_size=1, max_size=9),
    side=st.integers(1, 90),
)
def test_groups_are_the_windows_in_order_and_cost_no_more_than_they(
    tmp_path_factory: pytest.TempPathFactory, corners: list[tuple[int, int]], side: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "groups.tif"
    scene = scene_of(path if path.exists() else draw_tiff(path, noise(1, 400, 400)))
    windows = [Window(x, y, x + side, y + side) for x, y in corners]
    with open_scene(scene) as dataset:
        groups = together(dataset, windows, side)
        assert together(dataset, windows, side + 1) == [[window] for window in windows], "resampled: each alone"
    assert [window for group in groups for window in group] == windows
    for group in groups:
        box = shapely.box(*shapely.union_all([shapely.box(*window) for window in group]).bounds)
        assert box.area <= side * side * len(group)


def test_neighbours_are_one_group_and_what_lies_far_off_is_another(tmp_path: Path) -> None:
    grid = TileGrid(WIDTH, HEIGHT, 64, 16)
    rows = [[grid.window(row, col) for col in range(grid.cols)] for row in range(grid.rows)]
    with open_scene(scene_of(draw_tiff(tmp_path / "a.tif", drawn(1)))) as dataset:
        assert together(dataset, rows[0], 64) == [rows[0]]
        assert together(dataset, [*rows[0], *rows[1]], 64) == [[*rows[0], *rows[1]]]
        # a batch that ends one row of tiles and begins the next
        assert together(dataset, [*rows[0][-2:], *rows[1][:2]], 64) == [rows[0][-2:], rows[1][:2]]


def test_a_scene_is_opened_once_for_all_batches_and_read_once_for_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = scene_of(draw_tiff(tmp_path / "a.tif", drawn(3), **BLOCKS))
    opened, n_windows = [], []

    def counted(dataset: Any, scene: Any, windows: Sequence[Window], *rest: Any) -> Any:
        n_windows.append(len(windows))
        return read_windows(dataset, scene, windows, *rest)

    monkeypatch.setattr(reading, "open_scene", lambda scene: opened.append(1) or open_scene(scene))
    monkeypatch.setattr(reading, "read_windows", counted)
    batches = [
        Batch(f"{y0}", tiles_of([Window(x, y0, x + 64, y0 + 64) for x in (0, 48, 96)]), ((),) * 3) for y0 in (0, 48)
    ]
    assert [len(read.pixels) for read in read_batches(scene, batches, 64, IDENTITY)] == [3, 3]
    assert (opened, n_windows) == ([1], [3, 3])


def damage(path: Path, row: int, col: int, n_bytes: int = 60) -> Path:
    """Spoil one block in the middle of its data."""
    with rasterio.open(path) as dataset:
        start, size = (int(dataset.get_tag_item(f"BLOCK_{k}_{col}_{row}", "TIFF", bidx=1)) for k in ("OFFSET", "SIZE"))
    content = bytearray(path.read_bytes())
    content[start + size // 2 : start + size // 2 + n_bytes] = bytes(n_bytes)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("compress", ["deflate", "jpeg"])
def test_every_tile_on_a_damaged_block_fails_and_no_other(tmp_path: Path, compress: str) -> None:
    """GDAL warns once of damage that libjpeg fills up with grey: four tiles touch this block, in two batches."""
    blocks = {"tiled": True, "blockxsize": 64, "blockysize": 64}
    smooth = np.broadcast_to(np.arange(256, dtype=np.uint8), (3, 256, 256))
    pixels, options = {
        "jpeg": (smooth, {"photometric": "ycbcr"}),
        "deflate": (noise(3, 256, 256), {"interleave": "pixel"}),
    }[compress]
    scene = scene_of(damage(draw_tiff(tmp_path / "a.tif", pixels, compress=compress, **options, **blocks), 1, 1))
    grid = TileGrid(256, 256, 64, 16)
    rows = [[grid.window(row, col) for col in range(grid.cols)] for row in range(grid.rows)]
    batches = [Batch(str(i), tiles_of(row), ((),) * len(row)) for i, row in enumerate(rows)]
    read = [found for batch in read_batches(scene, batches, 64, IDENTITY) for found in batch.pixels]
    windows = [window for row in rows for window in row]
    for window, found in zip(windows, read, strict=True):
        touches = window.intersection(Window(64, 64, 128, 128)) is not None
        assert isinstance(found, str) is touches, window
    assert sum(isinstance(found, str) for found in read) == 4
    assert all(str(tuple(w)) in f for w, f in zip(windows, read, strict=True) if isinstance(f, str))


def test_a_scene_that_is_gone_fails_every_tile_of_every_batch(tmp_path: Path) -> None:
    path = draw_tiff(tmp_path / "a.tif", drawn(3))
    scene = scene_of(path)
    path.unlink()
    batches = [Batch(name, tiles_of([Window(0, 0, 64, 64)] * 2), ((), ())) for name in "ab"]
    for read in read_batches(scene, batches, 64, IDENTITY):
        assert all(isinstance(p, str) and "cannot be opened" in p for p in read.pixels)
        assert len(read.pixels) == 2


def test_a_scene_with_a_fault_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = scene_of(draw_tiff(tmp_path / "a.tif", drawn(3)))
    monkeypatch.setattr(reading, "open_scene", partial(pytest.fail, "opened"))
    (read,) = read_batches(scene, [Batch("b", tiles_of([Window(0, 0, 64, 64)]), ((),))], 64, IDENTITY, fault="gone")
    assert read.pixels == ("gone",)


@pytest.mark.parametrize("kind", ["mask", "alpha"])
def test_bands_are_not_read_where_masks_say_that_there_is_nothing(tmp_path: Path, kind: str) -> None:
    """Shown by a hole whose pixels can no longer be decoded."""
    hole = np.ones((128, 128), np.bool_)
    hole[:64, :64] = False
    bands = noise(3, 128, 128)
    alpha = {"colorinterp": [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha]}
    layers = {"mask": (bands, {"mask": hole}), "alpha": (np.concatenate([bands, hole[None] * np.uint8(255)]), alpha)}
    pixels, options = layers[kind]
    blocks = {"tiled": True, "blockxsize": 64, "blockysize": 64, "compress": "deflate", "interleave": "band"}
    scene = scene_of(damage(draw_tiff(tmp_path / "a.tif", pixels, **options, **blocks), 0, 0))
    empty, other = read_all(scene, [Window(0, 0, 64, 64), Window(64, 0, 128, 64)], 64)
    assert isinstance(empty, TilePixels)
    assert isinstance(other, TilePixels)
    assert (empty.valid.any(), empty.image.any()) == (False, False)
    assert other.valid.all()
    (coarse,) = read_all(scene, [Window(0, 0, 64, 64)], 32)
    assert isinstance(coarse, TilePixels)
    assert not coarse.valid.any()


def test_only_pixels_in_the_area_of_interest_are_data(tmp_path: Path) -> None:
    scene = scene_of(draw_tiff(tmp_path / "a.tif", drawn(3)))
    area = shapely.box(0, 0, 20.4, 10.6)
    tile = PlannedTile(TileKey("a", 1, 0, 0), Window(0, 0, 64, 64), shapely.to_wkb(area))
    (read,) = read_batches(scene, [Batch("b", (tile,), ((),))], 64, IDENTITY)
    (pixels,) = read.pixels
    assert isinstance(pixels, TilePixels)
    expected = np.zeros((64, 64), np.bool_)
    expected[:11, :20] = True
    assert (pixels.valid == expected).all()
    assert pixels.image[20:].any(), "the models may see what lies around"


def test_a_virtual_raster_is_read_tile_by_tile(tmp_path: Path) -> None:
    path = draw_tiff(tmp_path / "a.tif", drawn(3))
    from rasterio.shutil import copy

    copy(str(path), str(tmp_path / "a.vrt"), driver="VRT")
    windows = [Window(0, 0, 64, 64), Window(48, 0, 112, 64)]
    with open_scene(scene_of(tmp_path / "a.vrt")) as dataset:
        assert together(dataset, windows, 64) == [[window] for window in windows]


def test_a_coarser_level_reads_its_overviews(tmp_path: Path) -> None:
    path = draw_tiff(tmp_path / "a.tif", drawn(3), **BLOCKS)
    with rasterio.open(path, "r+") as dataset:
        dataset.build_overviews([2], Resampling.average)
    (pixels,) = read_all(scene_of(path), [Window(0, 0, 128, 128)], 64)
    with rasterio.open(path, OVERVIEW_LEVEL=0) as oracle:
        expected = np.moveaxis(oracle.read(window=((0, 64), (0, 64))), 0, -1)
    assert isinstance(pixels, TilePixels)
    assert (pixels.image == expected).all()


def test_unreadable_pixels_are_an_error_of_their_own(tmp_path: Path) -> None:
    path = draw_tiff(tmp_path / "a.tif", drawn(3), compress="deflate", interleave="pixel", **BLOCKS)
    scene = scene_of(damage(path, 0, 0))
    with open_scene(scene) as dataset, pytest.raises(UnreadablePixels, match=r"\(0, 0, 112, 64\)"):
        read_windows(dataset, scene, [Window(0, 0, 64, 64), Window(48, 0, 112, 64)], 64, IDENTITY)
