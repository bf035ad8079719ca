"""Headers become scenes; every problem is listed."""

import html
import json
import os
from pathlib import Path, PurePosixPath, PureWindowsPath
from urllib.parse import quote

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from tiffs import UTM, draw_tiff, noise, scene_of

from pipeline.pixels import UnreadablePixels, open_scene
from pipeline.scenes import NodataRule, Scene, geobox_of, resolve
from pipeline.slugs import is_folder, is_slug, slug

HOSTILE_NAMES = [
    "../../x", "..", ".", "/etc/passwd", "C:\\x", "a\\..\\b", "con", "NUL", "aux.tif", "com1", "a\0b", "%2e%2e%2f",
    "\u202egpj.exe", "\uff0e\uff0e\uff0fx", "\u2025\u2044x", "a\nb", "<b>", "'; DROP TABLE x; --", "$(id)", "`id`",
    "%s", "{0.__class__}", "-rf", "\ud800", "",
]  # fmt: skip
WINDOWS_DEVICES = {"CON", "PRN", "AUX", "NUL", *(f"{port}{i}" for port in ("COM", "LPT") for i in range(10))}
finite = st.floats(allow_nan=False, allow_infinity=False, width=64)


def problems_of(*inputs: Path | str, **options: object) -> list[str]:
    return [p.problem for p in resolve([str(i) for i in inputs], **options).problems]  # type: ignore[arg-type]


def test_a_scene_is_what_rasterio_says(tmp_path: Path) -> None:
    path = draw_tiff(tmp_path / "A scene.tif", noise(3, 20, 30), tags={"TIFFTAG_DATETIME": "2022:01:17 10:43:43"})
    scene = scene_of(path)
    with rasterio.open(path) as oracle:
        assert scene.shape == oracle.shape
        assert scene.geobox.affine == oracle.transform
        assert scene.geobox.crs.to_epsg() == oracle.crs.to_epsg()
    assert (scene.scene_id, scene.href, scene.bands, scene.dtype) == ("a-scene", str(path), (1, 2, 3), "uint8")
    assert scene.nodata == NodataRule("none")
    assert scene.datetime == "2022-01-17T10:43:43Z"
    assert not scene.warped


@given(
    transform=st.tuples(finite, finite, finite, finite, finite, finite),
    shape=st.tuples(st.integers(1, 10**6), st.integers(1, 10**6)),
    crs=st.sampled_from(["EPSG:32633", "IAU_2015:30100", CRS.from_proj4("+proj=laea +lat_0=12.3 +lon_0=4").to_wkt()]),
    nodata=st.one_of(st.just(NodataRule("alpha")), st.builds(NodataRule, st.just("value"), finite)),
)
def test_json_loses_nothing(transform: tuple[float, ...], shape: tuple[int, int], crs: str, nodata: NodataRule) -> None:
    geobox = geobox_of(shape, Affine(*transform), crs)
    scene = Scene("s", "/s.tif", "e", geobox, (3, 2, 1), "float32", nodata, None, warped=False)
    again = Scene.from_json(json.loads(json.dumps(scene.to_json())))
    assert again == scene
    assert again.geobox.affine[:6] == transform


def test_bands_follow_the_colour_interpretation(tmp_path: Path) -> None:
    bgra = [ColorInterp.blue, ColorInterp.green, ColorInterp.red, ColorInterp.alpha]
    scene = scene_of(draw_tiff(tmp_path / "bgra.tif", noise(4, 8, 8), colorinterp=bgra))
    assert scene.bands == (3, 2, 1)
    assert scene.nodata == NodataRule("alpha")
    gray_alpha = [ColorInterp.gray, ColorInterp.alpha]
    assert scene_of(draw_tiff(tmp_path / "ga.tif", noise(2, 8, 8), colorinterp=gray_alpha)).bands == (1, 1, 1)
    undefined = [ColorInterp.gray] + [ColorInterp.undefined] * 4
    assert scene_of(draw_tiff(tmp_path / "five.tif", noise(5, 8, 8), colorinterp=undefined)).bands == (1, 2, 3)
    assert scene_of(draw_tiff(tmp_path / "one.tif", noise(1, 8, 8))).bands == (1, 1, 1)
    assert scene_of(draw_tiff(tmp_path / "two.tif", noise(2, 8, 8))).bands == (1, 1, 1)


def test_the_user_chooses_bands(tmp_path: Path) -> None:
    path = draw_tiff(tmp_path / "a.tif", noise(4, 8, 8))
    assert scene_of(path, bands=(4, 1, 2)).bands == (4, 1, 2)
    assert scene_of(path, bands=(2,)).bands == (2, 2, 2)
    assert problems_of(path, bands=(5, 1, 2)) == ["band 5 of 4; choose from 1 to 4 with --bands."]
    assert "1,2 is not one or three" in problems_of(path, bands=(1, 2))[0]


def test_nodata_precedence(tmp_path: Path) -> None:
    mask = np.zeros((8, 8), dtype=bool)
    tagged = draw_tiff(tmp_path / "tag.tif", noise(3, 8, 8), nodata=9, mask=mask)
    masked = draw_tiff(tmp_path / "mask.tif", noise(3, 8, 8), mask=mask)
    not_a_number = draw_tiff(tmp_path / "nan.tif", noise(3, 8, 8, dtype="float32"), nodata=float("nan"))
    assert scene_of(tagged, nodata=0.0).nodata == NodataRule("value", 0.0)
    assert scene_of(tagged).nodata == NodataRule("value", 9.0)
    assert scene_of(masked).nodata == NodataRule("mask")
    assert scene_of(not_a_number).nodata == NodataRule("none"), "NaN is never data: a rule would add nothing"
    assert "--nodata -1 is no uint8" in problems_of(tagged, nodata=-1.0)[0]


def test_all_problems_of_all_inputs_are_listed(tmp_path: Path) -> None:
    good = draw_tiff(tmp_path / "good.tif", noise(3, 8, 8))
    draw_tiff(tmp_path / "nocrs.tif", noise(3, 8, 8), crs=None)
    draw_tiff(tmp_path / "nogrid.tif", noise(3, 8, 8, dtype="complex64"), crs=None, transform=Affine.identity())
    (tmp_path / "text.tif").write_text("no raster")
    (tmp_path / "empty").mkdir()
    resolved = resolve([str(tmp_path), str(tmp_path / "gone.tif"), str(tmp_path / "empty"), str(tmp_path / "x*.tif")])
    assert [s.href for s in resolved.scenes] == [str(good)]
    found = sorted((Path(p.href).name, p.problem.split()[0]) for p in resolved.problems)
    assert found == [
        ("empty", "holds"), ("gone.tif", "no"), ("nocrs.tif", "no"), ("nogrid.tif", "dtype"), ("nogrid.tif", "neither"),
        ("nogrid.tif", "no"), ("text.tif", "cannot"), ("x*.tif", "matches"),
    ]  # fmt: skip
    assert all("\n" not in p.problem and p.problem.endswith(".") for p in resolved.problems)


def test_a_vrt_whose_source_is_gone_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "m.vrt").write_text(
        '<VRTDataset rasterXSize="8" rasterYSize="8"><SRS>EPSG:32633</SRS><GeoTransform>0,1,0,9,0,-1</GeoTransform>'
        '<VRTRasterBand dataType="Byte" band="1"><SimpleSource><SourceFilename relativeToVRT="1">gone.tif'
        "</SourceFilename><SourceBand>1</SourceBand></SimpleSource></VRTRasterBand></VRTDataset>"
    )
    assert "gone.tif, which is not there" in problems_of(tmp_path / "m.vrt")[0]


def test_a_file_given_twice_is_one_scene_and_equal_stems_are_told_apart(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        draw_tiff(tmp_path / folder / "x.tif", noise(3, 8, 8))
    inputs = [str(tmp_path / "a"), str(tmp_path / "a" / ".." / "a" / "x.tif"), str(tmp_path / "**" / "*.tif")]
    ids = [s.scene_id for s in resolve(inputs).scenes]
    assert len(set(ids)) == len(ids) == 2
    assert set(ids) == {s.scene_id for s in resolve(inputs[::-1]).scenes}, "the order of inputs decides nothing"


def test_a_scene_with_ground_control_points_is_warped(tmp_path: Path) -> None:
    corners = [(0, 0), (0, 40), (30, 0), (30, 40)]
    points = [GroundControlPoint(row, col, 5e5 + 2 * col + row, 4e6 - 2 * row + col) for row, col in corners]
    path = draw_tiff(tmp_path / "gcp.tif", noise(3, 30, 40), gcps=(points, CRS.from_epsg(32633)))
    scene = scene_of(path)
    assert scene.warped
    assert str(scene.geobox.crs) == "EPSG:32633"
    with open_scene(scene) as dataset:
        assert dataset.shape == scene.shape
        assert dataset.transform == scene.geobox.affine


def test_the_etag_changes_with_the_file_and_with_it_only(tmp_path: Path) -> None:
    path = draw_tiff(tmp_path / "a.tif", noise(3, 8, 8))
    before = scene_of(path)
    (tmp_path / "a.tif.aux.xml").write_text("<PAMDataset/>")
    assert scene_of(path).etag == before.etag, "a viewer's statistics are no new version"
    os.utime(path, ns=(1, 1))
    assert scene_of(path).etag != before.etag
    with pytest.raises(UnreadablePixels, match="changed since"), open_scene(before):
        pass


def test_scenes_come_from_any_fsspec_url(tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/scenes/a.tif", draw_tiff(tmp_path / "a.tif", noise(3, 8, 8)).read_bytes())
    for given_ in ("memory://scenes/a.tif", "memory://scenes", "memory://scenes/*.tif"):
        (scene,) = resolve([given_]).scenes
        with open_scene(scene) as dataset:
            assert (dataset.read() == noise(3, 8, 8)).all()
    assert problems_of("memory://scenes/b.tif") == ["no such object; check the address."]
    assert "nonsense:// is not opened" in problems_of("nonsense://a.tif")[0]


@pytest.mark.parametrize(
    ("name", "bands", "dtype", "nodata"),
    [
        ("all_nodata", (3, 2, 1), "uint16", NodataRule("value", 0.0)),
        ("colorado_mask", (1, 2, 3), "uint8", NodataRule("mask")),
        ("landsat_rgb_utm18", (1, 2, 3), "uint8", NodataRule("value", 0.0)),
        ("manila_bridge_10cm", (1, 2, 3), "uint8", NodataRule("none")),
        ("osbs_029", (1, 2, 3), "uint8", NodataRule("value", 255.0)),
        ("rgba_uint16", (3, 2, 1), "uint16", NodataRule("alpha")),
    ],
)
def test_real_scenes(shared_data: Path, name: str, bands: tuple[int, ...], dtype: str, nodata: NodataRule) -> None:
    scene = scene_of(shared_data / f"{name}.tif")
    assert (scene.scene_id, scene.bands, scene.dtype, scene.nodata) == (name, bands, dtype, nodata)


@given(st.text())
def test_slugs_of_any_text_are_slugs_and_stay_what_they_are(text: str) -> None:
    made = slug(text, prefix="q")
    assert is_slug(made)
    assert slug(made, prefix="q") == made


@given(st.text() | st.sampled_from(HOSTILE_NAMES), st.sampled_from(["s", "q"]))
def test_a_slug_is_one_folder_below_its_own_on_any_system(text: str, prefix: str) -> None:
    made = slug(text, prefix=prefix)
    assert is_folder(made)
    assert PurePosixPath("out", made).parts == ("out", made)
    assert PureWindowsPath("out", made).parts == ("out", made)
    assert made.split(".")[0].upper() not in WINDOWS_DEVICES
    assert made == html.escape(made) == quote(made, safe="")


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_ids_of_stac_items_are_slugs_of_what_they_say(tmp_path: Path, name: str) -> None:
    draw_tiff(tmp_path / "a.tif", noise(3, 8, 8))
    entry = {"type": "Feature", "stac_version": "1.0.0", "id": name, "assets": {"a": {"href": "a.tif"}}}
    (tmp_path / "item.json").write_text(json.dumps(entry))
    (scene,) = resolve([str(tmp_path / "item.json")]).scenes
    assert is_folder(scene.scene_id)


def test_slugs_stay_readable_and_apart() -> None:
    assert slug("Where could a seaplane land?", prefix="q") == "where-could-a-seaplane-land"
    assert slug("Café roofs", prefix="q") == "cafe-roofs"
    assert slug("3 boats", prefix="q") == "q-3-boats"
    assert slug("水", prefix="q") != slug("火", prefix="q")
    assert slug("a" * 60 + "b", prefix="q") != slug("a" * 60 + "c", prefix="q")


def test_a_rotated_grid_is_kept(tmp_path: Path) -> None:
    rotated = UTM * Affine.rotation(30)
    assert scene_of(draw_tiff(tmp_path / "r.tif", noise(3, 8, 8), transform=rotated)).geobox.affine == rotated
