"""Broken rasters are problems or failed tiles, in one line each; never wrong pixels, a crash, or much memory."""

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from bad_tiffs import (
    TILE_OFFSETS,
    Broken,
    corpus,
    directory,
    other_layouts,
    pixels_by_hand,
    sound,
    with_value,
)
from look_at_rasters import MEMORY_BYTES, block_hashes, look
from regions import make_models, run, spec_of
from tiffs import draw_tiff, noise
from typer.testing import CliRunner

from flows.cli.app import app
from pipeline.headers import MAX_BLOCK_BYTES
from pipeline.manifest import RunStatus
from pipeline.scenes import resolve

MOST_BYTES = MAX_BLOCK_BYTES + 2**28
"""One block, GDAL's cache of blocks."""
SECONDS = 240


@dataclass(frozen=True)
class Looked:
    """The corpus, and what became of it."""

    folder: Path
    broken: list[Broken]
    found: dict[str, dict[str, Any]]
    sound_hashes: dict[str, list[str]]
    returncode: int
    stderr: str

    def breaking(self, *laws: str) -> list[tuple[Broken, dict[str, Any]]]:
        return [(b, self.found[b.name]) for b in self.broken if b.law in laws]


@pytest.fixture(scope="module")
def looked(tmp_path_factory: pytest.TempPathFactory) -> Looked:
    folder = tmp_path_factory.mktemp("corpus")
    broken = corpus(folder)
    sound_files = {"sound": sound(folder), **other_layouts(folder)}
    hashes = {}
    for name, data in sound_files.items():
        (folder / "whole.tif").write_bytes(data)
        hashes[name] = look(folder / "whole.tif")["blocks"]
    bad = folder / "bad"
    bad.mkdir()
    for one in broken:
        (bad / f"{one.name}.tif").write_bytes(one.data)
    names = "\n".join(str(bad / f"{one.name}.tif") for one in broken)
    script = Path(__file__).parents[1] / "look_at_rasters.py"
    child = subprocess.run(
        [sys.executable, str(script)], input=names, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    found = {line["name"]: line for line in map(json.loads, child.stdout.splitlines())}
    return Looked(bad, broken, found, hashes, child.returncode, child.stderr)


def came_to_pixels(found: Mapping[str, Any]) -> bool:
    return "problems" not in found and "failed" not in found


def test_the_process_survives_all_of_them_in_little_memory_and_time(looked: Looked) -> None:
    assert (looked.returncode, [b.name for b in looked.broken if b.name not in looked.found]) == (0, []), looked.stderr
    peaks = [found["peak_bytes"] for found in looked.found.values()]
    assert max(peaks) - peaks[0] < MOST_BYTES < MEMORY_BYTES
    assert len(looked.broken) > 400


def test_what_the_header_shows_is_a_problem(looked: Looked) -> None:
    assert [b.name for b, found in looked.breaking("problem") if "problems" not in found] == []


def test_what_only_pixels_show_fails(looked: Looked) -> None:
    assert [b.name for b, found in looked.breaking("failed") if came_to_pixels(found)] == []


def test_pixels_are_the_sound_files_or_none(looked: Looked) -> None:
    pixels = [(b, f["blocks"]) for b, f in looked.breaking("same", "confined") if came_to_pixels(f)]
    assert pixels
    wrong = [
        b.name
        for b, blocks in pixels
        if [i for i, (a, c) in enumerate(zip(blocks, looked.sound_hashes[b.of], strict=True)) if a != c and i != b.hit]
    ]
    assert wrong == []


def test_pixels_are_what_the_file_says(looked: Looked) -> None:
    agreed = 0
    for broken in looked.broken:
        by_hand, found = pixels_by_hand(broken.data), looked.found[broken.name]
        if by_hand is not None and "blocks" in found:
            assert found["blocks"] == block_hashes(by_hand), broken.name
            agreed += 1
    assert agreed > 50


def test_every_problem_and_reason_is_one_line(looked: Looked) -> None:
    lines = [line for f in looked.found.values() for line in [*f.get("problems", []), *f.get("failed", [])]]
    assert [line for line in lines if "\n" in line or not 10 < len(line) < 1000] == []


def test_plan_lists_them_all(looked: Looked, tmp_path: Path) -> None:
    bad = [str(looked.folder / f"{b.name}.tif") for b, _ in looked.breaking("problem")]
    result = CliRunner().invoke(app, ["plan", *bad, "-q", "a lake", "--json", "--out", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert {p["href"] for p in json.loads(result.stdout)["problems"]} == set(bad)


def test_a_run_names_the_tiles_that_it_could_not_see(tmp_path: Path) -> None:
    data = bytearray(sound(tmp_path))
    offsets = directory(bytes(data))[TILE_OFFSETS]
    data[offsets.values[5] : offsets.values[5] + 8] = bytes(8)
    (tmp_path / "holed.tif").write_bytes(data)
    outcome = run(spec_of(make_models(tmp_path), tmp_path / "holed.tif"), tmp_path / "out")
    assert outcome.status == RunStatus.PARTIAL
    failures = json.loads((tmp_path / "out" / "run.json").read_text())["failures"]
    assert failures
    assert all("pixels cannot be read" in f["reason"] and "\n" not in f["reason"] for f in failures)


def test_limits_of_blocks_and_sides_say_the_way_out(tmp_path: Path) -> None:
    data = sound(tmp_path)
    (tmp_path / "a.tif").write_bytes(with_value(with_value(data, 322, 16_384), 323, 16_384))
    (problem,) = resolve([str(tmp_path / "a.tif")]).problems
    assert problem.problem == (
        "blocks of 16384 x 16384 px take 768 MB, more than 256; rewrite it: `gdal_translate -co TILED=YES`."
    )
    vast = (
        '<VRTDataset rasterXSize="2000000" rasterYSize="1000000"><SRS>EPSG:4326</SRS><GeoTransform>0,1e-5,0,9,0,-1e-5'
    )
    (tmp_path / "b.vrt").write_text(f'{vast}</GeoTransform><VRTRasterBand dataType="Byte" band="1"/></VRTDataset>')
    (problem,) = resolve([str(tmp_path / "b.vrt")]).problems
    assert problem.problem == (
        "2000000 x 1000000 px are more than 1.1e+12; cut it into several scenes: `gdal_translate -srcwin`."
    )


def test_a_striped_file_of_usual_size_is_within_the_limits(tmp_path: Path) -> None:
    path = draw_tiff(tmp_path / "a.tif", noise(3, 40, 5_000), blockysize=40, compress="deflate")
    assert resolve([str(path)]).problems == []
