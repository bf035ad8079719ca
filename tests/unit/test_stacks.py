"""Red, green and blue in files of their own are one scene, which reads as one file of three bands does."""

import os
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio.enums import Resampling
from stac_items import COLOURS, band_asset, draw_bands, sentinel, write_item
from tiffs import UTM, draw_tiff, noise, scene_of

from pipeline.normalise import IDENTITY, scene_stretch
from pipeline.pixels import UnreadablePixels, open_scene, read_bands, valid_pixels
from pipeline.quicklook import quicklook
from pipeline.read import read_window, read_windows, together
from pipeline.scenes import Scene, resolve
from pipeline.tiling import Window

NAMES = tuple(COLOURS.values())


def pair(folder: Path, *shape: int, **profile: Any) -> tuple[Scene, Scene]:
    """The scene of three files, and that of one file with the same pixels."""
    draw_bands(folder, *shape, **profile)
    stacked = scene_of(sentinel(folder), bands=NAMES)
    assert len(stacked.parts) == 3
    return stacked, scene_of(folder / "all.tif")


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Scene, Scene]:
    profile = {"tiled": True, "blockxsize": 16, "blockysize": 16, "nodata": 0, "dtype": "uint16"}
    return pair(tmp_path_factory.mktemp("s"), 70, 90, **profile)


def test_three_assets_are_one_scene(tmp_path: Path) -> None:
    stacked, whole = pair(tmp_path, 8, 8, dtype="uint16")
    assert [(Path(part.href).name, part.band) for part in stacked.parts] == [
        ("B04.tif", 1), ("B03.tif", 1), ("B02.tif", 1),
    ]  # fmt: skip
    assert (stacked.scene_id, stacked.href, stacked.bands) == ("item", str(tmp_path / "B04.tif"), (1, 2, 3))
    assert (stacked.geobox, stacked.dtype, stacked.nodata) == (whole.geobox, whole.dtype, whole.nodata)
    assert Scene.from_json(stacked.to_json()) == stacked
    assert "parts" not in whole.to_json()


def test_signatures_travel_to_workers_and_into_no_text(tmp_path: Path) -> None:
    stacked, _ = pair(tmp_path, 8, 8)
    signed = replace(stacked, signed=tuple(f"https://host/{key}.tif?sig=secret" for key in COLOURS))
    assert pickle.loads(pickle.dumps(signed)).addresses == signed.signed  # noqa: S301 -- our own
    assert "secret" not in f"{signed!r} {signed.to_json()}"
    assert stacked.addresses == tuple(part.href for part in stacked.parts)


@given(
    x0=st.integers(0, 89), y0=st.integers(0, 69), width=st.integers(1, 90), height=st.integers(1, 70),
    out=st.none() | st.tuples(st.integers(1, 40), st.integers(1, 40)),
    resampling=st.sampled_from([Resampling.nearest, Resampling.average, Resampling.bilinear]),
)  # fmt: skip
@settings(max_examples=40)
def test_every_window_reads_as_that_of_one_file(
    two: tuple[Scene, Scene], x0: int, y0: int, width: int, height: int, out: Any, resampling: Resampling
) -> None:
    window = Window(x0, y0, min(90, x0 + width), min(70, y0 + height))
    found = [read(scene, window, out, resampling) for scene in two]
    np.testing.assert_array_equal(found[0][0], found[1][0])
    np.testing.assert_array_equal(found[0][1], found[1][1])


def read(
    scene: Scene, window: Window, out: Any, resampling: Resampling = Resampling.nearest
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    with open_scene(scene) as dataset:
        bands = read_bands(dataset, scene, window, out, resampling)
        return bands, valid_pixels(dataset, scene, window, bands)


def test_statistics_pictures_and_tiles_are_those_of_one_file(two: tuple[Scene, Scene]) -> None:
    assert scene_stretch(two[0]) == scene_stretch(two[1])
    stretch = scene_stretch(two[0])
    np.testing.assert_array_equal(quicklook(two[0], stretch, 30), quicklook(two[1], stretch, 30))
    windows = [Window(0, 0, 32, 32), Window(24, 0, 56, 32), Window(48, 48, 80, 80)]
    tiles = []
    for scene in two:
        with open_scene(scene) as dataset:
            assert together(dataset, windows, 32)[0] == windows[:2], "neighbours are read with one call"
            tiles.append([read_window(dataset, scene, w, 32, stretch) for w in windows])
            for group in together(dataset, windows, 32):
                for window, tile in zip(group, read_windows(dataset, scene, group, 32, stretch), strict=True):
                    np.testing.assert_array_equal(tile.image, tiles[-1][windows.index(window)].image)
    for one, other in zip(*tiles, strict=True):
        np.testing.assert_array_equal(one.image, other.image)
        np.testing.assert_array_equal(one.valid, other.valid)


def test_two_bands_may_lie_in_one_of_the_files(tmp_path: Path) -> None:
    pixels = draw_bands(tmp_path, 20, 30)
    draw_tiff(tmp_path / "gr.tif", pixels[[1, 0]])
    assets = {"gr": band_asset("gr.tif", "green", "red"), "B02": band_asset("B02.tif", "blue")}
    scene = scene_of(write_item(tmp_path / "two.json", assets), bands=NAMES)
    assert [(Path(part.href).name, part.band) for part in scene.parts] == [
        ("gr.tif", 2), ("gr.tif", 1), ("B02.tif", 1),
    ]  # fmt: skip
    bands, _ = read(scene, Window(3, 4, 20, 18), None)
    np.testing.assert_array_equal(bands, pixels[:, 4:18, 3:20])


def test_a_manifest_s_scene_is_made_of_one_file_or_three(tmp_path: Path) -> None:
    stacked, _ = pair(tmp_path, 8, 8)
    entry = stacked.to_json()
    for parts in (entry["parts"][:2], [{"href": "/a.tif", "band": "first"}] * 3):
        with pytest.raises(ValueError, match=r"files, not of one or three|invalid literal"):
            Scene.from_json(entry | {"parts": parts})


def test_a_hole_in_the_mask_of_any_file_is_a_hole(tmp_path: Path) -> None:
    draw_bands(tmp_path, 8, 8)
    hole = np.full((8, 8), 255, np.uint8)
    hole[2, 3] = 0
    draw_tiff(tmp_path / "B02.tif", noise(1, 8, 8), mask=hole)
    scene = scene_of(sentinel(tmp_path), bands=NAMES)
    assert scene.nodata.kind == "mask"
    _, valid = read(scene, Window(0, 0, 8, 8), None)
    np.testing.assert_array_equal(valid, hole == 255)


@pytest.mark.parametrize("key", list(COLOURS))
def test_the_version_changes_with_every_file(tmp_path: Path, key: str) -> None:
    draw_bands(tmp_path, 8, 8)
    item = sentinel(tmp_path)
    before = scene_of(item, bands=NAMES)
    assert scene_of(item, bands=NAMES) == before
    os.utime(tmp_path / f"{key}.tif", ns=(1, 1))
    after = scene_of(item, bands=NAMES)
    assert (after.scene_id, after.href) == (before.scene_id, before.href)
    assert after.etag != before.etag
    with pytest.raises(UnreadablePixels, match="has changed since the run began"), open_scene(before):
        pass


def test_the_version_changes_with_the_bands(tmp_path: Path) -> None:
    for key in COLOURS:
        draw_tiff(tmp_path / f"{key}.tif", noise(2, 8, 8))
    assets = {key: band_asset(f"{key}.tif", common, "nir") for key, common in COLOURS.items()}
    item = write_item(tmp_path / "item.json", assets)
    one, other = (scene_of(item, asset="B04,B03,B02", bands=bands) for bands in ((1, 1, 1), (2, 1, 1)))
    assert [part.band for part in other.parts] == [2, 1, 1]
    assert one.etag != other.etag
    (problem,) = resolve([str(item)], asset="B04,B03,B02").problems[:1]
    assert problem.problem == "has 2 bands, and is to be one; say which of each asset with --bands, e.g. 1,1,1."
    assert [p.band for p in scene_of(item, asset="B04,B03,B02", bands=("nir", "green", "nir")).parts] == [2, 1, 2]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"crs": "EPSG:32634"}, "has another grid than {red}: CRS EPSG:32634, not EPSG:32633; name assets of one grid"),
        ({"transform": UTM @ Affine.translation(1, 0)}, "another grid than {red}: transform (2.0, 0.0, 500002.0,"),
        (
            {"shape": (4, 4)},
            "another grid than {red}: shape 4 x 4 px, not 8 x 8; name assets of one grid with --asset.",
        ),
    ],
    ids=["crs", "transform", "shape"],
)
def test_another_grid_is_refused_in_a_line_that_says_what_differs(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    draw_bands(tmp_path, 8, 8)
    draw_tiff(tmp_path / "B03.tif", noise(1, *change.pop("shape", (8, 8))), **change)
    found = resolve([str(sentinel(tmp_path))], bands=NAMES)
    (problem,) = found.problems
    assert (found.scenes, problem.href) == ([], str(tmp_path / "B03.tif"))
    assert said.format(red=tmp_path / "B04.tif") in problem.problem
    assert "\n" not in str(problem)


def test_what_is_wrong_with_one_file_is_said_of_it(tmp_path: Path) -> None:
    draw_bands(tmp_path, 8, 8)
    (tmp_path / "B02.tif").write_text("no raster")
    (problem,) = resolve([str(sentinel(tmp_path))], bands=NAMES).problems
    assert "cannot be opened as a raster" in problem.problem
    draw_tiff(tmp_path / "B02.tif", noise(1, 8, 8), nodata=7)
    (problem,) = resolve([str(sentinel(tmp_path))], bands=NAMES).problems
    assert "its bands have different nodata values (7.0, None)" in problem.problem
    assert resolve([str(sentinel(tmp_path))], bands=NAMES, nodata=0).problems == []


def test_files_of_other_types_are_read_as_the_widest(tmp_path: Path) -> None:
    draw_bands(tmp_path, 8, 8)
    wide = noise(1, 8, 8, dtype="uint16", high=60_000)
    draw_tiff(tmp_path / "B02.tif", wide)
    scene = scene_of(sentinel(tmp_path), bands=NAMES)
    bands, _ = read(scene, Window(0, 0, 8, 8), None)
    assert (scene.dtype, bands.dtype) == ("uint16", np.uint16)
    np.testing.assert_array_equal(bands[2], wide[0])


def test_damage_in_one_file_is_never_half_a_tile(tmp_path: Path) -> None:
    draw_bands(tmp_path, 64, 64, tiled=True, blockxsize=16, blockysize=16, compress="deflate")
    scene = scene_of(sentinel(tmp_path), bands=NAMES)
    path = tmp_path / "B03.tif"
    stat, data = path.stat(), bytearray(path.read_bytes())
    data[1000:1400] = b"\0" * 400
    path.write_bytes(data)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with open_scene(scene) as dataset, pytest.raises(UnreadablePixels, match="pixels cannot be read"):
        read_window(dataset, scene, Window(0, 0, 64, 64), 64, IDENTITY)
