"""One stretch per scene."""

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from rasterio.enums import Resampling
from tiffs import draw_tiff, noise, scene_of

from pipeline import normalise
from pipeline.normalise import IDENTITY, Stretch, apply, scene_stretch


def test_eight_bits_stay_what_they_are(tmp_path: Path) -> None:
    scene = scene_of(draw_tiff(tmp_path / "a.tif", noise(3, 8, 8)))
    assert scene_stretch(scene) == IDENTITY
    assert (apply(IDENTITY, noise(3, 8, 8)) == np.moveaxis(noise(3, 8, 8), 0, -1)).all()


def test_percentiles_of_valid_pixels(tmp_path: Path) -> None:
    bands = noise(3, 50, 60, dtype="uint16", low=100, high=5000)
    bands[:, :10] = 0
    scene = scene_of(draw_tiff(tmp_path / "a.tif", bands, nodata=0))
    stretch = scene_stretch(scene)
    low, high = np.percentile(bands[:, 10:].reshape(3, -1), [2, 98], axis=1)
    assert np.allclose(stretch.low, low)
    assert np.allclose(stretch.high, high)
    assert Stretch.from_json(json.loads(json.dumps(stretch.to_json()))) == stretch


def test_nan_is_never_valid(tmp_path: Path) -> None:
    bands = noise(3, 20, 20, dtype="float32", low=100, high=200)
    bands[1, :5] = np.nan
    stretch = scene_stretch(scene_of(draw_tiff(tmp_path / "a.tif", bands)))
    assert np.isfinite([*stretch.low, *stretch.high]).all()
    assert (apply(stretch, bands)[:5, :, 1] == 0).all()


def test_a_scene_without_valid_pixels_has_the_identity(tmp_path: Path) -> None:
    scene = scene_of(draw_tiff(tmp_path / "a.tif", np.zeros((3, 9, 9), "uint16"), nodata=0))
    assert scene_stretch(scene) == IDENTITY


def test_a_constant_image_is_mid_grey(tmp_path: Path) -> None:
    bands = np.full((3, 9, 9), 1234, "uint16")
    stretch = scene_stretch(scene_of(draw_tiff(tmp_path / "a.tif", bands)))
    assert set(np.unique(apply(stretch, bands))) == {128}


def test_a_large_scene_is_judged_by_its_overview_or_else_by_spread_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ramp = np.broadcast_to(np.arange(1024, dtype="uint16"), (3, 1024, 1024))
    path = draw_tiff(tmp_path / "a.tif", ramp, tiled=True, blockxsize=64, blockysize=64)
    whole = scene_stretch(scene_of(path))
    monkeypatch.setattr(normalise, "_SAMPLE_PX", 300_000)
    spread = scene_stretch(scene_of(path))
    with rasterio.open(path, "r+") as file:
        file.build_overviews([2, 4], Resampling.average)
    overview = scene_stretch(scene_of(path))
    for stretch in (spread, overview):
        assert np.allclose(stretch.low, whole.low, atol=25)
        assert np.allclose(stretch.high, whole.high, atol=25)
    assert scene_stretch(scene_of(path)) == overview


def test_sparse_data_between_the_spread_blocks_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bands = np.zeros((3, 600, 600), "uint16")
    bands[:, 40:50, 40:50] = 777
    scene = scene_of(draw_tiff(tmp_path / "a.tif", bands, nodata=0, tiled=True, blockxsize=16, blockysize=16))
    monkeypatch.setattr(normalise, "_SAMPLE_PX", 100)
    monkeypatch.setattr(normalise, "_BLOCK_PX", 16)
    assert scene_stretch(scene).low == (777.0, 777.0, 777.0)


@given(
    bands=hnp.arrays(np.float64, (3, 2, 4), elements=st.floats(-1e6, 1e6)),
    low=st.floats(-1e5, 1e5),
    span=st.floats(0, 1e5),
)
def test_a_stretch_is_monotonous(bands: np.ndarray, low: float, span: float) -> None:
    stretch = Stretch("linear", (low,) * 3, (low + span,) * 3)
    ordered = np.sort(bands.reshape(3, -1), axis=1)[:, None, :]
    assert (np.diff(apply(stretch, ordered).astype(int), axis=1) >= 0).all()


def test_real_16_bit_scene_ignores_what_alpha_hides(shared_data: Path) -> None:
    stretch = scene_stretch(scene_of(shared_data / "rgba_uint16.tif"))
    assert stretch.kind == "linear"
    assert min(stretch.low) > 0
    assert scene_stretch(scene_of(shared_data / "all_nodata.tif")) == IDENTITY
