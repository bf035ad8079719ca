"""A VRT opens local rasters and nothing else, and no raster makes GDAL fetch or run anything."""

import socket
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest
import rasterio
from bad_tiffs import vrt
from hypothesis import given
from hypothesis import strategies as st
from rasterio.env import get_gdal_config
from rasterio.shutil import copy
from rasterio.vrt import WarpedVRT
from tiffs import draw_tiff, noise

from pipeline.rasters import open_raster
from pipeline.scenes import resolve
from pipeline.vrts import MAX_DEPTH, vrt_problem


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    draw_tiff(tmp_path / "a.tif", noise(1, 8, 8))
    return tmp_path


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    """Nobody may call here."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        server.settimeout(0)
        yield server
        with pytest.raises(BlockingIOError):
            server.accept()


def problem_of(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    (problem,) = resolve([str(path)]).problems
    return problem.problem


def opens(path: Path, data: bytes) -> bool:
    path.write_bytes(data)
    return not resolve([str(path)]).problems


def test_usual_vrts_open(folder: Path) -> None:
    copy(str(folder / "a.tif"), str(folder / "copied.vrt"), driver="VRT")
    with rasterio.open(folder / "a.tif") as dataset, WarpedVRT(dataset, crs="EPSG:4326") as warped:
        copy(warped, str(folder / "warped.vrt"), driver="VRT")
    for name in ("copied", "warped"):
        assert resolve([str(folder / f"{name}.vrt")]).problems == []
    assert opens(folder / "absolute.vrt", vrt(str(folder / "a.tif")))
    assert opens(folder / "nested.vrt", vrt("copied.vrt"))
    (folder / "below").mkdir()
    assert opens(folder / "below" / "up.vrt", vrt("../a.tif"))
    assert opens(folder / "comment.vrt", b"<!-- a mosaic -->" + vrt("a.tif"))
    summed = "<PixelFunctionType>sum</PixelFunctionType>"
    assert opens(folder / "sum.vrt", vrt("a.tif", band='subClass="VRTDerivedRasterBand"', inside=summed))


@pytest.mark.parametrize(
    "source",
    [
        "/vsicurl/http://127.0.0.1:{port}/a.tif",
        "/vsis3/bucket/a.tif",
        "/vsizip//vsicurl/http://127.0.0.1:{port}/a.zip/a.tif",
        "/vsistdin/",
        "http://127.0.0.1:{port}/a.tif",
        "HTTP://127.0.0.1:{port}/a.tif",
        "WMS:http://127.0.0.1:{port}/?SERVICE=WMS",
        "WCS:x",
        "vrt://a.tif",
        "GTIFF_RAW:a.tif",
        "NETCDF:a.nc:v",
        "  /vsicurl/http://127.0.0.1:{port}/a.tif",
        "&lt;GDAL_WMS&gt;&lt;/GDAL_WMS&gt;",
        "\\\\server\\share\\a.tif",
        "",
    ],
)
@pytest.mark.parametrize("name", ["m.vrt", "m.tif"])
def test_sources_that_are_no_local_files_are_refused(
    folder: Path, listening: socket.socket, source: str, name: str
) -> None:
    given_source = source.format(port=listening.getsockname()[1])
    assert "which is no local file" in problem_of(folder / name, vrt(given_source))


@pytest.mark.parametrize(
    ("band", "inside", "why"),
    [
        ('subClass="VRTRawRasterBand"', "<ImageOffset>0</ImageOffset>", "VRTRawRasterBand"),
        (
            'subClass="VRTDerivedRasterBand"',
            "<PixelFunctionLanguage>Python</PixelFunctionLanguage><PixelFunctionCode>1</PixelFunctionCode>",
            "<PixelFunctionLanguage>",
        ),
        ("", "<ArraySource/>", "<ArraySource>"),
        ("", '<Metadata domain="GEOLOCATION"><MDI key="X_DATASET">/vsicurl/x</MDI></Metadata>', "GEOLOCATION"),
        ("", '<Metadata domain="OVERVIEWS"><MDI key="OVERVIEW_FILE">/vsicurl/x</MDI></Metadata>', "OVERVIEWS"),
        ("", "<sourcefilename>/vsicurl/x</sourcefilename>", "<sourcefilename>"),
        ("", "<![CDATA[<a>]]>", "CDATA"),
        ("", "<!-- --x <SimpleSource> -->", "markup in a comment"),
        ("", "<", "no XML"),
        ("", "<Metadata>" * 50_000 + "<x/>" + "</Metadata>" * 50_000, "<x>"),
    ],
)
def test_what_else_could_read_or_run_is_refused(folder: Path, band: str, inside: str, why: str) -> None:
    problem = problem_of(folder / "m.vrt", vrt("a.tif", band=band, inside=inside))
    assert why in problem
    assert "\n" not in problem


def test_entities_are_refused_before_they_expand(folder: Path) -> None:
    bomb = b'<!DOCTYPE a [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]>'
    assert "!DOCTYPE" in problem_of(folder / "m.vrt", bomb + vrt("&b;"))


def test_local_sources_must_be_rasters_and_end_somewhere(folder: Path) -> None:
    (folder / "secret.txt").write_text("password")
    assert "no TIFF" in problem_of(folder / "m.vrt", vrt("secret.txt"))
    assert "no file" in problem_of(folder / "m.vrt", vrt("."))
    assert f"more than {MAX_DEPTH} deep" in problem_of(folder / "m.vrt", vrt("m.vrt"))
    hidden = vrt("/vsicurl/http://127.0.0.1:9/a.tif")
    (folder / "inner.tif").write_bytes(hidden)
    assert "which is no local file" in problem_of(folder / "m.vrt", vrt("inner.tif"))


def test_what_lies_beside_a_raster_must_be_one(folder: Path, listening: socket.socket) -> None:
    service = f"<GDAL_WMS><Service><ServerUrl>http://127.0.0.1:{listening.getsockname()[1]}/</ServerUrl></Service>"
    (folder / "a.tif.msk").write_text(service)
    assert "a.tif.msk beside it is no TIFF" in resolve([str(folder / "a.tif")]).problems[0].problem
    assert "a.tif.msk beside it is no TIFF" in problem_of(folder / "m.vrt", vrt("a.tif"))


@pytest.mark.parametrize("where", ["/vsicurl/http://127.0.0.1:{port}/a.tif", "http://127.0.0.1:{port}/a.tif"])
def test_overviews_elsewhere_are_not_fetched(folder: Path, listening: socket.socket, where: str) -> None:
    url = where.format(port=listening.getsockname()[1])
    with rasterio.open(folder / "a.tif", "r+") as dataset:
        dataset.update_tags(ns="OVERVIEWS", OVERVIEW_FILE=url)
    assert "overviews elsewhere" in resolve([str(folder / "a.tif")]).problems[0].problem


def test_a_vrt_behind_a_url_is_refused(folder: Path) -> None:
    fsspec.filesystem("memory").pipe_file("/vrts/a.vrt", vrt("a.tif"))
    assert "not recognized" in resolve(["memory://vrts/a.vrt"]).problems[0].problem


def test_no_environment_lets_gdal_run_code_or_fetch(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GDAL_VRT_ENABLE_PYTHON", "YES")
    monkeypatch.setenv("GDAL_NUM_THREADS", "ALL_CPUS")
    with open_raster(str(folder / "a.tif")):
        assert get_gdal_config("GDAL_VRT_ENABLE_PYTHON") in {False, "NO"}
        assert get_gdal_config("GDAL_NUM_THREADS") in {1, "1"}
        with rasterio.open(folder / "a.tif") as dataset:
            assert np.array_equal(dataset.read(), noise(1, 8, 8))


@given(junk=st.binary(max_size=60), at=st.integers(0, 300))
def test_any_bytes_are_a_vrt_or_a_reason(tmp_path_factory: pytest.TempPathFactory, junk: bytes, at: int) -> None:
    path = tmp_path_factory.getbasetemp() / "junk.vrt"
    whole = vrt("a.tif")
    path.write_bytes(whole[:at] + junk + whole[at:])
    problem = vrt_problem(path)
    assert problem is None or (problem and "\n" not in problem)
