"""How a raster is cut into what one worker does at a time, and the proof that no two of them write into one chunk."""

from collections.abc import Iterable, Iterator

from pipeline.tiling import Window
from t2s_core.errors import ContractError

CHUNK_PX = 512
BLOCK_PX = 2048
MAX_SHARD_PX = 4096
"""A shard has one writer, which holds all of it in memory: about 300 MB at this side."""


def blocks(shape: tuple[int, int], chunk_px: int = CHUNK_PX, block_px: int = BLOCK_PX) -> Iterator[Window]:
    """Cut a raster of `shape` (height, width) into blocks of whole chunks, in row-major order.

    Raises `ContractError` where a block would cut a chunk.
    """
    if block_px % chunk_px:
        raise ContractError(f"block_px={block_px} is no multiple of {chunk_px}: two writers would share a chunk.")
    height, width = shape
    for y0 in range(0, height, block_px):
        for x0 in range(0, width, block_px):
            yield Window(x0, y0, min(x0 + block_px, width), min(y0 + block_px, height))


def check_single_writer(writers: Iterable[Window], chunk_px: int) -> None:
    """Prove that no chunk of side `chunk_px` is touched by two of `writers` (windows that are written independently).

    Two writers in one chunk silently lose pixels. Raises `ContractError` with the chunk and both windows.
    """
    owners: dict[tuple[int, int], Window] = {}
    for window in writers:
        for row in range(window.y0 // chunk_px, -(-window.y1 // chunk_px)):
            for col in range(window.x0 // chunk_px, -(-window.x1 // chunk_px)):
                other = owners.setdefault((row, col), window)
                if other is not window:
                    raise ContractError(f"chunk ({row}, {col}) of {chunk_px} px has two writers: {other} and {window}.")
