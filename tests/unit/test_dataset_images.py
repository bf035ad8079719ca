"""Image files of every kind, and files that are none."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from t2s_core.training.datasets.images import read_plane, read_rgb
from t2s_core.training.examples import BadExample

GREY = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5


def write_png_16_bit_rgb(path: Path) -> None:
    """Pillow writes none: made by hand, from the format's description."""
    import struct
    import zlib

    rows = b"".join(b"\0" + np.full((8, 3), 1, ">u2").tobytes() for _ in range(6))
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 8, 6, 16, 2, 0, 0, 0)), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    body = b"".join(
        struct.pack(">I", len(raw)) + kind + raw + struct.pack(">I", zlib.crc32(kind + raw)) for kind, raw in chunks
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


def test_grey_is_repeated_and_alpha_dropped(tmp_path: Path) -> None:
    rgb = np.dstack([GREY, GREY[::-1], GREY[:, ::-1]])
    PillowImage.fromarray(GREY).save(tmp_path / "grey.png")
    PillowImage.fromarray(np.dstack([rgb, GREY])).save(tmp_path / "alpha.png")
    PillowImage.fromarray(np.dstack([GREY, GREY])).save(tmp_path / "grey_alpha.png")
    PillowImage.fromarray(GREY > 100).save(tmp_path / "bits.png")
    np.testing.assert_array_equal(read_rgb(tmp_path / "grey.png"), np.dstack([GREY] * 3))
    np.testing.assert_array_equal(read_rgb(tmp_path / "alpha.png"), rgb)
    np.testing.assert_array_equal(read_rgb(tmp_path / "grey_alpha.png"), np.dstack([GREY] * 3))
    np.testing.assert_array_equal(read_rgb(tmp_path / "bits.png"), np.dstack([(GREY > 100) * np.uint8(255)] * 3))


def test_palettes_are_colours_of_images_and_numbers_of_masks(tmp_path: Path) -> None:
    indexed = PillowImage.fromarray((GREY > 100).astype(np.uint8), "L").convert("P")
    indexed.putpalette([255, 255, 255, 10, 20, 30])
    indexed.save(tmp_path / "palette.png")
    wanted = np.where((GREY > 100)[..., None], np.array([10, 20, 30]), 255)
    np.testing.assert_array_equal(read_rgb(tmp_path / "palette.png"), wanted)
    np.testing.assert_array_equal(read_plane(tmp_path / "palette.png") > 0, GREY > 100)


def test_what_is_read_can_be_written_to(tmp_path: Path) -> None:
    PillowImage.fromarray(np.dstack([GREY] * 3)).save(tmp_path / "a.png")
    read_rgb(tmp_path / "a.png")[:] = 0
    read_plane(tmp_path / "a.png")[:] = 0


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_are_refused_of_images_but_not_of_masks(tmp_path: Path, suffix: str) -> None:
    deep = GREY.astype(np.uint16) // 100  # all of it below 256: the upper bytes alone are empty
    PillowImage.fromarray(deep).save(tmp_path / f"deep.{suffix}")
    with pytest.raises(BadExample, match="more than 8 bits"):
        read_rgb(tmp_path / f"deep.{suffix}")
    np.testing.assert_array_equal(read_plane(tmp_path / f"deep.{suffix}") > 0, deep > 0)


def test_sixteen_bits_in_colour_are_refused_though_pillow_would_drop_half(tmp_path: Path) -> None:
    import rasterio

    transform = rasterio.Affine(0.5, 0, 300_000, 0, -0.5, 5_000_000)
    shape = {"count": 3, "height": 6, "width": 8, "dtype": "uint16", "photometric": "RGB", "transform": transform}
    for name, options in (("plain", {}), ("packed", {"compress": "deflate"})):
        with rasterio.open(tmp_path / f"{name}.tif", "w", driver="GTiff", **shape, **options) as out:
            out.write(np.ones((3, 6, 8), np.uint16))
    write_png_16_bit_rgb(tmp_path / "deep.png")
    for path in ("plain.tif", "packed.tif", "deep.png"):
        with pytest.raises(BadExample, match="8 bits"):
            read_rgb(tmp_path / path)
        with pytest.raises(BadExample, match="8 bits"):
            read_plane(tmp_path / path)


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
@pytest.mark.parametrize("raw", [b"", b"not an image", b"\x89PNG\r\n\x1a\n", b"II*\0\xff\xff\xff\xff", b"GIF89a"])
def test_what_is_no_image_is_a_bad_example(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(raw)
    for read in (read_rgb, read_plane):
        with pytest.raises(BadExample, match=r"x\.png cannot be read"):
            read(path)


@pytest.mark.filterwarnings("ignore:.*:UserWarning", "ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp", "gif", "bmp"])
def test_damaged_files_are_bad_examples_or_images(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x.{suffix}"
    PillowImage.fromarray(np.dstack([GREY] * 3)).save(path)
    whole = path.read_bytes()
    rng = np.random.default_rng(5)
    bad = 0
    for _ in range(150):
        raw = bytearray(whole)
        for at in rng.integers(0, len(raw), 4):
            raw[at] = int(rng.integers(256))
        path.write_bytes(raw[: int(rng.integers(1, len(raw) + 1))])
        for read in (read_rgb, read_plane):
            try:
                assert read(path).ndim in {2, 3}
            except BadExample:
                bad += 1
    assert bad


def test_a_decompression_bomb_is_a_bad_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    PillowImage.fromarray(GREY).save(tmp_path / "bomb.png")
    monkeypatch.setattr(PillowImage, "MAX_IMAGE_PIXELS", 20)
    with pytest.raises(BadExample, match="decompression bomb"):
        read_rgb(tmp_path / "bomb.png")


def test_formats_that_start_programs_are_not_read(tmp_path: Path) -> None:
    PillowImage.fromarray(np.dstack([GREY] * 3)).save(tmp_path / "x.eps")
    with pytest.raises(BadExample, match="cannot identify"):
        read_rgb(tmp_path / "x.eps")
