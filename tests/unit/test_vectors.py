"""Vector files lead nowhere else."""

import socket
import zipfile
from collections.abc import Iterator
from pathlib import Path

import geopandas as gpd
import pytest
from shapely.geometry import box

from pipeline.aoi import read_aoi
from pipeline.curate_labels import read_outlines
from t2s_core.errors import BadInput


@pytest.fixture
def listening() -> Iterator[int]:
    """A port where nobody may call."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        server.settimeout(0)
        yield int(server.getsockname()[1])
        with pytest.raises(BlockingIOError):
            server.accept()


def service(port: int) -> str:
    url = f"/vsicurl/http://127.0.0.1:{port}/a.geojson"
    return (
        f'<OGRVRTDataSource><OGRVRTLayer name="a"><SrcDataSource>{url}</SrcDataSource></OGRVRTLayer></OGRVRTDataSource>'
    )


@pytest.mark.parametrize("name", ["a.vrt", "a.geojson", "a.gpkg", "a.kml"])
def test_files_that_name_services_are_refused_whatever_they_are_called(
    tmp_path: Path, listening: int, name: str
) -> None:
    (tmp_path / name).write_text(service(listening))
    for read in (read_aoi, read_outlines):
        with pytest.raises(BadInput, match="refers to other files or services"):
            read(str(tmp_path / name))


def test_so_are_archives_of_them(tmp_path: Path, listening: int) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.geojson", service(listening))
    with pytest.raises(BadInput, match="refers to other files or services"):
        read_aoi(str(tmp_path / "a.zip"))


@pytest.mark.parametrize("name", ["PG:host=127.0.0.1", "WFS:x", "/vsicurl/http://127.0.0.1:9/a.geojson", "gone.gpkg"])
def test_names_of_services_are_no_files(name: str) -> None:
    with pytest.raises(BadInput, match=r"no such file|Protocol not known"):
        read_aoi(name)


@pytest.mark.parametrize("name", ["a.geojson", "a.gpkg", "a.fgb", "a.shp", "a.parquet", "a.zip"])
def test_usual_files_are_read(tmp_path: Path, name: str) -> None:
    table = gpd.GeoDataFrame({"a": [1]}, geometry=[box(1, 2, 3, 4)], crs="EPSG:4326")
    if name == "a.zip":
        table.to_file(tmp_path / "b.shp")
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            for path in tmp_path.glob("b.*"):
                archive.write(path, path.name)
    elif name == "a.parquet":
        table.to_parquet(tmp_path / name)
    else:
        table.to_file(tmp_path / name)
    assert read_aoi(str(tmp_path / name)).geometry.equals(box(1, 2, 3, 4))
