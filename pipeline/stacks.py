"""Bands that lie in files of their own, read as one dataset: Sentinel-2's red, green and blue, say.

Each file is opened as any other is (see `rasters`), with the same refusals; there is no file, and no VRT, that names
them. They lie on one grid: nothing is resampled here.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import Interleaving, MaskFlags

from pipeline.rasters import CACHE_BYTES, open_raster, version_of


@contextmanager
def open_files(hrefs: Sequence[str], *, at_once: bool = False, cache_bytes: int = CACHE_BYTES) -> Iterator[list[Any]]:
    """A dataset for each address, each file opened once. Options and errors are those of `open_raster`."""
    with ExitStack() as stack:
        opened: dict[str, Any] = {}
        for href in hrefs:
            if href not in opened:
                opened[href] = stack.enter_context(open_raster(href, at_once=at_once, cache_bytes=cache_bytes))
        yield [opened[href] for href in hrefs]


def grid_difference(first: Any, other: Any) -> str | None:  # noqa: ANN401 -- rasterio ships no types
    """What keeps two datasets from lying on one grid; None where nothing does."""
    if first.crs != other.crs:
        return f"CRS {_short(other.crs)}, not {_short(first.crs)}"
    if first.shape != other.shape:
        return f"shape {other.width} x {other.height} px, not {first.width} x {first.height}"
    if first.transform != other.transform:
        return f"transform {tuple(other.transform[:6])}, not {tuple(first.transform[:6])}"
    return None


class Stack:
    """Bands of open datasets on one grid, with what of a `rasterio` dataset our readers use. For one thread."""

    def __init__(self, files: Sequence[tuple[Any, int]]) -> None:
        """Args: `files`: (dataset, 1-based band) for each band of the stack."""
        self._files = list(files)
        first = self._files[0][0]
        self.crs, self.transform, self.shape = first.crs, first.transform, first.shape
        self.height, self.width = first.shape
        self.gcps, self.rpcs = first.gcps, first.rpcs
        self.count = len(self._files)
        self.dtypes = tuple(dataset.dtypes[band - 1] for dataset, band in self._files)
        self.nodatavals = tuple(dataset.nodatavals[band - 1] for dataset, band in self._files)
        self.block_shapes = [dataset.block_shapes[band - 1] for dataset, band in self._files]
        self.colorinterp = tuple(dataset.colorinterp[band - 1] for dataset, band in self._files)
        self.interleaving = Interleaving.band
        drivers = {dataset.driver for dataset, _ in self._files}
        self.driver = drivers.pop() if len(drivers) == 1 else ""
        """That of all files; empty where they differ."""

    @property
    def files(self) -> list[str]:
        """Of all datasets."""
        return [name for dataset, _ in self._files for name in dataset.files]

    @property
    def mask_flag_enums(self) -> list[list[MaskFlags]]:
        """One rule for all bands: a mask or an alpha band of any file masks the stack, see `read_masks`."""
        flags = [dataset.mask_flag_enums[band - 1] for dataset, band in self._files]
        masked = [MaskFlags.per_dataset] if any(MaskFlags.per_dataset in found for found in flags) else flags[0]
        return [masked] * self.count

    def overviews(self, band: int) -> list[int]:
        """Factors of a band's."""
        dataset, number = self._files[band - 1]
        return list(dataset.overviews(number))

    def tags(self, bidx: int = 0, ns: str | None = None) -> dict[str, str]:
        """Of a band, or with 0 of the first file."""
        dataset, number = self._files[max(bidx, 1) - 1]
        return dict(dataset.tags(number if bidx else 0, ns=ns))

    def read(self, indexes: Sequence[int], *, out_shape: tuple[int, ...], **options: Any) -> NDArray[Any]:  # noqa: ANN401
        """(bands, height, width), as a dataset's own `read`: one call for each file."""
        wanted = [self._files[index - 1] for index in indexes]
        pixels = np.empty((len(wanted), *out_shape[1:]), np.result_type(*(self.dtypes[i - 1] for i in indexes)))
        for dataset in dict.fromkeys(dataset for dataset, _ in wanted):
            places = [i for i, (of, _) in enumerate(wanted) if of is dataset]
            numbers = [wanted[i][1] for i in places]
            pixels[places] = dataset.read(numbers, out_shape=(len(numbers), *out_shape[1:]), **options)
        return pixels

    def read_masks(self, _: int, **options: Any) -> NDArray[np.uint8]:  # noqa: ANN401
        """(height, width): 0 where any of the bands is masked."""
        masks = [dataset.read_masks(band, **options) for dataset, band in self._files]
        mask: NDArray[np.uint8] = np.minimum.reduce(masks)
        return mask

    def version(self, hrefs: Sequence[str]) -> str:
        """32 hex digits that change whenever any of the files does, or the bands. `hrefs`: of the files, in order."""
        facts = [[version_of(href, dataset), band] for href, (dataset, band) in zip(hrefs, self._files, strict=True)]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]


def _short(crs: Any) -> str:  # noqa: ANN401
    return str(crs)[:40]
