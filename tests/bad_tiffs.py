"""Broken GeoTIFFs: a small sound one, and what becomes of it when bytes are cut off, flipped or made to lie."""

import io
import random
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from tiffs import draw_tiff, noise

HEIGHT, WIDTH, BLOCK_PX = 150, 200, 64
ENTRY_BYTES = 12
IMAGE_WIDTH, IMAGE_LENGTH, BITS_PER_SAMPLE, COMPRESSION, PHOTOMETRIC = 256, 257, 258, 259, 262
SAMPLES_PER_PIXEL, ROWS_PER_STRIP, PLANAR_CONFIGURATION, PREDICTOR = 277, 278, 284, 317
TILE_WIDTH, TILE_LENGTH, TILE_OFFSETS, TILE_BYTE_COUNTS, SAMPLE_FORMAT = 322, 323, 324, 325, 339
DEFLATE = 8
LONG = 4
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 12: 8}
_CODES = {3: "H", 4: "I"}


class Broken(NamedTuple):
    """One file of the corpus."""

    name: str
    data: bytes
    law: str
    """`problem`: the header shows it. `failed`: some tile cannot be read, or the header shows it. `same`: as `failed`,
    or every pixel is that of the sound file. `confined`: as `same`, but for the block `hit`, for GDAL verifies no
    checksum of deflate. `any`: as `failed`, or the pixels are what the file says."""
    hit: int | None = None
    of: str = "sound"
    """The sound file that it was."""


class Entry(NamedTuple):
    """One tag of an image file directory."""

    at: int
    """Offset of its 12 bytes."""
    type: int
    count: int
    values: tuple[int, ...]
    values_at: int


def sound(folder: Path, **profile: Any) -> bytes:
    """A tiled, deflated GeoTIFF of three 8-bit bands, pixels of a block together, without predictor."""
    tiles = {"tiled": True, "blockxsize": BLOCK_PX, "blockysize": BLOCK_PX, "interleave": "pixel"}
    smooth = np.kron(noise(3, 10, 13), np.ones((1, 16, 16), np.uint8))[:, :HEIGHT, :WIDTH]
    return draw_tiff(folder / "sound.tif", smooth, compress="deflate", **tiles, **profile).read_bytes()


def directory(data: bytes) -> dict[int, Entry]:
    """The first directory of a little-endian classic TIFF. Raises where it is cut or not one."""
    if data[:4] != b"II*\0":
        raise ValueError("no little-endian classic TIFF")
    (start,) = struct.unpack_from("<I", data, 4)
    (n,) = struct.unpack_from("<H", data, start)
    entries = {}
    for i in range(n):
        at = start + 2 + i * ENTRY_BYTES
        tag, kind, count, value = struct.unpack_from("<HHII", data, at)
        values_at = at + 8 if _SIZES.get(kind, 1) * count <= 4 else value
        values = struct.unpack_from(f"<{count}{_CODES[kind]}", data, values_at) if kind in _CODES else ()
        entries[tag] = Entry(at, kind, count, values, values_at)
    return entries


def pixels_by_hand(data: bytes) -> NDArray[np.uint8] | None:
    """(3, height, width), decoded by none of the libraries under test; None where the header asks for another layout.

    What GDAL makes of a file has to agree with this, or it has to refuse it.
    """
    try:
        tags = {tag: entry.values for tag, entry in directory(data).items()}
        width, height = tags[IMAGE_WIDTH][0], tags[IMAGE_LENGTH][0]
        block_w, block_h = tags[TILE_WIDTH][0], tags[TILE_LENGTH][0]
        usual = (
            tags[BITS_PER_SAMPLE] == (8, 8, 8)
            and tags[COMPRESSION] == (DEFLATE,)
            and tags[SAMPLES_PER_PIXEL] == (3,)
            and tags.get(PLANAR_CONFIGURATION, (1,)) == (1,)
            and tags.get(PREDICTOR, (1,)) == (1,)
            and tags.get(SAMPLE_FORMAT, (1,))[0] == 1
            and 0 < width * height < 2**24
            and block_w * block_h > 0
        )
        if not usual:
            return None
        across, down = -(-width // block_w), -(-height // block_h)
        canvas = np.zeros((down * block_h, across * block_w, 3), np.uint8)
        for i, (offset, count) in enumerate(zip(tags[TILE_OFFSETS], tags[TILE_BYTE_COUNTS], strict=True)):
            if i >= across * down:
                break
            raw = zlib.decompress(data[offset : offset + count])
            y, x = i // across * block_h, i % across * block_w
            canvas[y : y + block_h, x : x + block_w] = np.frombuffer(raw, np.uint8).reshape(block_h, block_w, 3)
    except (ValueError, KeyError, IndexError, struct.error, zlib.error, MemoryError):
        return None
    return np.moveaxis(canvas[:height, :width], 2, 0)


def with_value(data: bytes, tag: int, value: int) -> bytes:
    """One value of a tag replaced, its type widened to 32 bits."""
    out = bytearray(data)
    struct.pack_into("<HHII", out, directory(data)[tag].at, tag, LONG, 1, value)
    return bytes(out)


def with_values(data: bytes, tag: int, value: int) -> bytes:
    """Every value of a tag replaced, its type kept."""
    out, entry = bytearray(data), directory(data)[tag]
    struct.pack_into(f"<{entry.count}{_CODES[entry.type]}", out, entry.values_at, *[value] * entry.count)
    return bytes(out)


def truncated(data: bytes) -> Iterator[Broken]:
    """Cut in the signature, in every entry of the directory, in the arrays of offsets and in each block."""
    entries = directory(data)
    first = min(entry.at for entry in entries.values())
    cuts = {*range(9), first - 1, *(e.at + 5 for e in entries.values())}
    cuts |= {e.values_at + 3 for e in entries.values()}
    blocks = list(zip(entries[TILE_OFFSETS].values, entries[TILE_BYTE_COUNTS].values, strict=True))
    cuts |= {offset + part for offset, count in blocks for part in (1, count // 2, count - 1)}
    for cut in sorted(c for c in cuts if c < len(data)):
        yield Broken(f"cut-at-{cut}", data[:cut], "same" if cut > first else "problem")


def flipped(data: bytes, n_header: int, n_blocks: int, seed: int = 0) -> Iterator[Broken]:
    """One bit of the header, or one to three of the blocks, each time."""
    draw = random.Random(seed)
    entries = directory(data)
    blocks = list(zip(entries[TILE_OFFSETS].values, entries[TILE_BYTE_COUNTS].values, strict=True))
    header = min(offset for offset, _ in blocks)
    for i in range(n_header):
        yield Broken(f"header-bit-{i}", _with_bits_flipped(data, [draw.randrange(header * 8)]), "any")
    for i in range(n_blocks):
        hit = draw.randrange(len(blocks))
        offset, count = blocks[hit]
        bits = [draw.randrange(offset * 8, (offset + count) * 8) for _ in range(draw.randint(1, 3))]
        yield Broken(f"block-bits-{i}", _with_bits_flipped(data, bits), "confined", hit)


def lying(data: bytes) -> Iterator[Broken]:
    """Sizes that cannot be true."""
    for side in (2**31 - 1, 2**32 - 1):
        huge = with_value(with_value(data, IMAGE_WIDTH, side), IMAGE_LENGTH, side)
        yield Broken(f"side-{side}", huge, "problem")
        yield Broken(f"width-{side}", with_value(data, IMAGE_WIDTH, side), "failed")
    yield Broken("side-0", with_value(data, IMAGE_WIDTH, 0), "problem")
    for side in (0, 1, 17, 2**31, 2**32 - 16):
        yield Broken(f"tile-{side}", with_value(data, TILE_WIDTH, side), "failed")
    for side in (16_384, 65_520):  # a block of 0.8 or 13 GB
        bomb = with_value(with_value(data, TILE_WIDTH, side), TILE_LENGTH, side)
        yield Broken(f"block-{side}", bomb, "problem")


def lying_of_values(data: bytes) -> Iterator[Broken]:
    """Tags of values, codecs and places that cannot be true, or say something else than was written."""
    for bits in (0, 33, 255, 65_535):
        yield Broken(f"bits-{bits}", with_values(data, BITS_PER_SAMPLE, bits), "problem")
    for bits in (3, 7):  # rare, but GDAL reads them
        yield Broken(f"bits-{bits}", with_values(data, BITS_PER_SAMPLE, bits), "any")
    for value in (0, 2, 7, 99, 32_773, 50_000, 65_535):
        yield Broken(f"compression-{value}", with_value(data, COMPRESSION, value), "failed")
    for value in (2, 3, 5, 6, 4_711):
        yield Broken(f"format-{value}", with_values(data, SAMPLE_FORMAT, value), "any")
    for value in (0, 2, 65_535):
        yield Broken(f"samples-{value}", with_value(data, SAMPLES_PER_PIXEL, value), "any")
    for value in (2, 3, 9):
        yield Broken(f"predictor-{value}", _with_predictor(data, value), "any")
    for offset in (1, len(data) - 1, len(data), 2**31, 2**32 - 1):
        yield Broken(f"offset-{offset}", with_values(data, TILE_OFFSETS, offset), "failed")
    for count in (1, 2**31, 2**32 - 1):
        yield Broken(f"count-{count}", with_values(data, TILE_BYTE_COUNTS, count), "failed")
    yield Broken("cyclic", _with_next_directory(data, struct.unpack_from("<I", data, 4)[0]), "any")
    yield Broken("next-beyond", _with_next_directory(data, len(data) + 99), "any")


def bombs(data: bytes) -> Iterator[Broken]:
    """A block that unpacks to 200 MB where the header has room for 12 kB."""
    packed = zlib.compress(bytes(200_000_000), 1)
    out, entries = bytearray(data + packed), directory(data)
    struct.pack_into("<I", out, entries[TILE_OFFSETS].values_at, len(data))
    struct.pack_into("<I", out, entries[TILE_BYTE_COUNTS].values_at, len(packed))
    yield Broken("bomb", bytes(out), "any")
    for side in (20_000, 300_000):
        empty = with_values(with_values(data, TILE_OFFSETS, 0), TILE_BYTE_COUNTS, 0)
        yield Broken(f"sparse-{side}", with_value(with_value(empty, IMAGE_WIDTH, side), IMAGE_LENGTH, side), "failed")


def other_things() -> Iterator[Broken]:
    """Files that only their names call rasters."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("scene.tif", b"II*\0")
    inline = "&lt;GDAL_WMS&gt;&lt;Service name=&quot;TMS&quot;&gt;&lt;/GDAL_WMS&gt;"
    other = {
        "empty": b"",
        "zip": archive.getvalue(),
        "text": b"This is no raster.\n" * 40,
        "html": b"<!doctype html><html><body>404</body></html>",
        "wms": b'<GDAL_WMS><Service name="TMS"><ServerUrl>http://127.0.0.1:9/x</ServerUrl></Service></GDAL_WMS>',
        "vrt-of-a-url": vrt("/vsicurl/http://127.0.0.1:9/a.tif"),
        "vrt-of-a-service": vrt(inline),
        "signature": b"II*\0",
        "big": b"II+\0\x08\0\0\0" + struct.pack("<Q", 2**63),
        "png": b"\x89PNG\r\n\x1a\n" + bytes(64),
        "jp2": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(64),
    }
    for name, data in other.items():
        yield Broken(f"no-tiff-{name}", data, "problem")


def vrt(source: str, *, band: str = "", inside: str = "", side: int = 8) -> bytes:
    """A VRT of one source; `band`: attributes of the band; `inside`: what else is in it."""
    return (
        f'<VRTDataset rasterXSize="{side}" rasterYSize="{side}"><SRS>EPSG:32633</SRS>'
        f"<GeoTransform>500000,2,0,4000000,0,-2</GeoTransform>"
        f'<VRTRasterBand dataType="Byte" band="1" {band}>{inside}<SimpleSource>'
        f'<SourceFilename relativeToVRT="1">{source}</SourceFilename><SourceBand>1</SourceBand>'
        f"</SimpleSource></VRTRasterBand></VRTDataset>"
    ).encode()


def other_layouts(folder: Path) -> dict[str, bytes]:
    """Sound files of other codecs, types and georeferences."""
    pixels = noise(3, HEIGHT, WIDTH)
    corners = [(row, col) for row in (0, HEIGHT) for col in (0, WIDTH)]
    points = [GroundControlPoint(row, col, 5e5 + 2 * col + row, 4e6 - 2 * row + col) for row, col in corners]
    tags = {"TIFFTAG_DATETIME": "2022:01:17 10:43:43", "TIFFTAG_IMAGEDESCRIPTION": "h\u00e9"}
    made = {
        "lzw": (pixels, {"compress": "lzw", "predictor": 2}),
        "zstd": (pixels, {"compress": "zstd", "interleave": "band"}),
        "jpeg": (pixels, {"compress": "jpeg", "photometric": "ycbcr"}),
        "big": (pixels, {"bigtiff": "yes", "compress": "lzma"}),
        "fax": (pixels[:1] > 99, {"compress": "ccittfax4", "nbits": 1, "dtype": "uint8"}),
        "float": (pixels.astype(np.float32), {"nodata": float("nan"), "tags": tags}),
        "points": (pixels, {"gcps": (points, CRS.from_epsg(32633)), "compress": "deflate"}),
        "mask": (pixels, {"mask": np.ones((HEIGHT, WIDTH), np.bool_)}),
    }
    files = {name: draw_tiff(folder / "sound.tif", p, **profile).read_bytes() for name, (p, profile) in made.items()}
    # many blocks: GDAL would decode them in threads of its own
    jp2 = {"driver": "JP2OpenJPEG", "blockxsize": 128, "blockysize": 128, "quality": 100, "reversible": "yes"}
    draw_tiff(folder / "sound.jp2", noise(1, 400, 400), **jp2)
    return {**files, "jp2": (folder / "sound.jp2").read_bytes()}


def of_other_layouts(sound_files: dict[str, bytes], n_flips: int) -> Iterator[Broken]:
    """Cut at three places, and with flipped bits, most of them in the header."""
    draw = random.Random(1)
    for name, data in sound_files.items():
        for part in (0.3, 0.6, 0.9):
            yield Broken(f"{name}-cut-{part}", data[: int(len(data) * part)], "same", of=name)
        for i in range(n_flips):
            end = len(data) if draw.random() < 0.3 else min(len(data), 1_200)
            bits = [draw.randrange(end * 8) for _ in range(draw.choice([1, 1, 2, 5]))]
            yield Broken(f"{name}-bits-{i}", _with_bits_flipped(data, bits), "any", of=name)


def corpus(folder: Path) -> list[Broken]:
    """All of them, the same every time."""
    data = sound(folder)
    made = [truncated(data), flipped(data, 120, 120), lying(data), lying_of_values(data), bombs(data), other_things()]
    made.append(of_other_layouts(other_layouts(folder), 12))
    return [broken for some in made for broken in some]


def _with_bits_flipped(data: bytes, bits: list[int]) -> bytes:
    out = bytearray(data)
    for bit in bits:
        out[bit // 8] ^= 1 << bit % 8
    return bytes(out)


def _with_next_directory(data: bytes, offset: int) -> bytes:
    out = bytearray(data)
    struct.pack_into("<I", out, max(e.at for e in directory(data).values()) + ENTRY_BYTES, offset)
    return bytes(out)


def _with_predictor(data: bytes, value: int) -> bytes:
    # takes the place of the photometric interpretation, whose order after it is still right
    out = bytearray(data)
    entries = directory(data)
    at = entries[PREDICTOR].at if PREDICTOR in entries else entries[PLANAR_CONFIGURATION].at
    struct.pack_into("<HHII", out, at, PREDICTOR, 3, 1, value)
    return bytes(out)
