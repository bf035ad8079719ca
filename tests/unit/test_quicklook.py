"""A small picture of a scene."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiffs import draw_tiff, noise, scene_of

from pipeline import quicklook
from pipeline.normalise import IDENTITY
from pipeline.tiling import Window


@pytest.mark.parametrize(("height", "width"), [(240, 400), (400, 240), (400, 4), (60, 90)])
def test_a_picture_read_in_parts_is_the_mean_of_the_pixels_under_each_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, height: int, width: int
) -> None:
    pixels = noise(3, height, width)
    scene = scene_of(draw_tiff(tmp_path / "a.tif", pixels))
    seen: list[Window] = []
    read = quicklook.read_bands

    def watched(dataset: Any, of: Any, window: Window, *rest: Any) -> Any:
        seen.append(window)
        return read(dataset, of, window, *rest)

    monkeypatch.setattr(quicklook, "read_bands", watched)
    monkeypatch.setattr(quicklook, "_PART_PX", 64)
    picture = quicklook.quicklook(scene, IDENTITY, longest_px=100)
    factor = max(1, max(height, width) // 100)
    assert picture.shape == (height // factor, width // factor, 4)
    means = pixels.reshape(3, height // factor, factor, width // factor, factor).mean(axis=(2, 4))
    assert np.abs(picture[..., :3] - np.moveaxis(means, 0, -1)).max() <= 1
    assert (picture[..., 3] == 255).all()
    assert sum(window.width * window.height for window in seen) == height * width
    assert max(max(window.width, window.height) for window in seen) <= 64


def test_a_part_of_a_scene_is_its_pixels(tmp_path: Path) -> None:
    pixels = noise(3, 90, 120)
    scene = scene_of(draw_tiff(tmp_path / "a.tif", pixels))
    picture = quicklook.quicklook(scene, IDENTITY, window_scene_px=Window(10, 20, 70, 50))
    assert np.array_equal(picture[..., :3], np.moveaxis(pixels[:, 20:50, 10:70], 0, -1))
