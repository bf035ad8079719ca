"""Mosaics in Zarr v3: `masks.zarr/<scene_id>/<query_id>/`, on the scene's own grid.

A group holds `probability`, `mask`, one `coverage_l<factor>` per level of tiles, coordinates, and its overviews as
child groups `2`, `4`, ... . Every chunk (every shard, where sharded) has exactly one writer, which is proved before
the first write.
"""

import json
import threading
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Self

import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from zarr.abc.buffer import Buffer
from zarr.codecs import BloscCodec
from zarr.errors import ZarrUserWarning
from zarr.storage import FsspecStore, LocalStore, MemoryStore

from pipeline.blocks import BLOCK_PX, CHUNK_PX, blocks, check_single_writer
from pipeline.georef import YX, add_coordinates, georeference, overview_dims, overview_geobox, pyramid, shape_yx
from pipeline.overviews import halve_by_maximum, halve_by_mean
from pipeline.results import TileStatus
from pipeline.scenes import Scene
from pipeline.stitch import CERTAIN, NOBODY_LOOKED
from pipeline.storage import Store, storage_options
from pipeline.tiling import Window
from pipeline.work import Workers
from t2s_core.errors import BadInput, ContractError

# Other implementations may ignore consolidated metadata, which costs those only time. For the whole process: scenes run
# in threads, and what one of them filters, another one brings back.
warnings.filterwarnings("ignore", "Consolidated metadata is currently not part", ZarrUserWarning)

FOLDER = "masks.zarr"
COVERAGE = ("not_planned", *(status.value for status in TileStatus), "pending")
"""What became of a tile; the code in `coverage_l<factor>` is the place in this list."""

_METADATA = "zarr.json"
_STATE = "t2s:state"
FINGERPRINT = "t2s:fingerprint"
"""Attribute of a group: the hash of all that determines it."""
_RASTERS = ("probability", "mask")
_PARENTS = threading.Lock()
"""Groups that scenes share are made by one thread at a time: of two that find none, one would fail."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How the rasters are cut."""

    chunk_px: int = CHUNK_PX
    """Side of a chunk."""
    shard_px: int | None = None
    """Side of a shard, a multiple of `chunk_px`; None leaves the rasters unsharded, which more readers can read."""
    block_px: int = BLOCK_PX
    """Side of what one worker stitches and writes at a time, a multiple of what must have a single writer."""

    @classmethod
    def sharded(cls, shard_px: int | None) -> Self:
        """The usual layout but for its shards, of which a block holds as many as fit, at least one."""
        writer_px = CHUNK_PX if shard_px is None else shard_px
        return cls(shard_px=shard_px, block_px=writer_px * max(1, BLOCK_PX // writer_px))

    @property
    def writer_px(self) -> int:
        """Side of the smallest square that only one writer may touch."""
        return self.chunk_px if self.shard_px is None else self.shard_px


def group_path(scene_id: str, query_id: str) -> str:
    """The group's path below `masks.zarr`."""
    return f"{scene_id}/{query_id}"


def create(
    store: Store,
    scene: Scene,
    query_id: str,
    *,
    attributes: Mapping[str, Any],
    layout: Layout,
) -> None:
    """Make the group anew, in state "writing", with its rasters and overviews; what was there is gone.

    `attributes`: JSON, kept on the group.
    """
    target = _zarr_store(store)
    with _PARENTS:
        zarr.open_group(target, mode="a", zarr_format=3)
        zarr.open_group(target, path=scene.scene_id, mode="a", zarr_format=3)
    path = f"{FOLDER}/{group_path(scene.scene_id, query_id)}"
    # Removed first and written last: a crash in between leaves no group, rather than one that seems whole.
    store.remove(f"{path}/{_METADATA}")
    store.remove(path)
    objects = dict(_skeleton(scene.geobox, layout))
    group = json.loads(objects.pop(_METADATA))
    group["attributes"] = {_STATE: "writing", **attributes, **group["attributes"]}
    store.write_all({f"{path}/{name}": data for name, data in objects.items()})
    store.write(f"{path}/{_METADATA}", json.dumps(group).encode())


@lru_cache(maxsize=8)
def _skeleton(geobox: GeoBox, layout: Layout) -> Mapping[str, bytes]:
    """The objects of a mosaic without a block, by name below its group: those of all queries of a scene are the same.

    Made in memory and put into a store in one go: Zarr would make array after array, with several requests for each.
    """
    made: dict[str, Buffer] = {}
    memory = MemoryStore(made)
    factors = overview_factors(shape_yx(geobox), layout.chunk_px)
    group = zarr.create_group(memory, attributes=pyramid(geobox, factors))
    _add_rasters(group, geobox, YX, layout)
    for factor in factors:
        of_overview = overview_geobox(geobox, factor)
        dims = overview_dims(factor)
        overview = group.create_group(str(factor), attributes=georeference(of_overview, dims))
        _add_rasters(overview, of_overview, dims, layout)
        zarr.consolidate_metadata(memory, path=str(factor))
    return {name: data.to_bytes() for name, data in made.items()}


def write_block(
    store: Store, path: str, window: Window, probability: NDArray[np.uint8], mask: NDArray[np.uint8]
) -> None:
    """Write both rasters of the group at `path` (below `masks.zarr`) over `window`, the only writer of its chunks."""
    group = zarr.open_group(_zarr_store(store), path=path, mode="r+", use_consolidated=False)
    region = window.slices_in(Window(0, 0, window.x1, window.y1))
    # Zarr leaves chunks out that hold the fill value alone, which both rasters have at the same pixels, and takes as
    # long to compare all of them as to compress them.
    some_unseen = bool(probability.max(initial=0) == NOBODY_LOOKED)
    for name, values in zip(_RASTERS, (probability, mask), strict=True):
        _array(group, name).with_config({"write_empty_chunks": not some_unseen})[region] = values


def read_window(store: Store, path: str, window: Window) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """(probability, mask), each (height, width), of the group at `path` over `window`; complete or not."""
    group = open_group(store, path)
    region = window.slices_in(Window(0, 0, window.x1, window.y1))
    probability, mask = (np.asarray(_array(group, name)[region], np.uint8) for name in _RASTERS)
    return probability, mask


def finish(
    store: Store,
    scene: Scene,
    query_id: str,
    coverage: Mapping[int, NDArray[np.uint8]],
    workers: Workers,
    *,
    attributes: Mapping[str, Any],
    layout: Layout,
) -> None:
    """Add what is known at the end, build the overviews, and declare the group complete.

    `coverage`: by level, (tile rows, tile columns) of codes into `COVERAGE`. `attributes`: JSON, added to the group's;
    its `FINGERPRINT` among them.
    """
    path = group_path(scene.scene_id, query_id)
    group = zarr.open_group(_zarr_store(store), path=path, mode="r+", use_consolidated=False)
    for level, codes in sorted(coverage.items()):
        _add_coverage(group, level, codes)
    source = path
    for factor in overview_factors(scene.shape, layout.chunk_px):
        target = f"{path}/{factor}"
        shape = shape_yx(overview_geobox(scene.geobox, factor))
        windows = list(blocks(shape, layout.writer_px, layout.block_px))
        check_single_writer(windows, layout.writer_px)
        for _ in workers.map(_write_overview, (_Overview(store, source, target, window) for window in windows)):
            pass  # the next overview is made from this one, so all of it must be there
        source = target
    group.update_attributes({**attributes})  # `attrs.update` would write the object for each of them
    zarr.consolidate_metadata(_zarr_store(store, path))
    # Last, in one write of one object: readers see "writing" or a mosaic that lacks nothing.
    zarr.open_group(_zarr_store(store, path), mode="r+").update_attributes({_STATE: "complete"})


def finished(store: Store, scene_id: str, query_id: str) -> dict[str, Any] | None:
    """The attributes of the group if it is there and complete, else None."""
    try:
        group = open_group(store, group_path(scene_id, query_id))
    except FileNotFoundError:
        return None
    attributes = dict(group.attrs)
    return attributes if attributes.get(_STATE) == "complete" else None


def open_group(store: Store, path: str) -> zarr.Group:
    """The group at `path` below `masks.zarr`, to read, as it is itself: consolidated metadata are not looked at."""
    # The version is said: else each of the files that Zarr v2 had is asked for, at a round trip each.
    return zarr.open_group(_zarr_store(store), path=path, mode="r", zarr_format=3, use_consolidated=False)


def open_mosaic(store: Store, scene_id: str, query_id: str) -> xr.Dataset:
    """The mosaic as a dask-backed dataset: probability, mask (y, x) and coverage, with coordinates and CRS.

    Raises `BadInput` where there is none or where it is not finished.
    """
    path = group_path(scene_id, query_id)
    try:
        # The store is rooted at the group: from further up, xarray asks for consolidated metadata of everything.
        dataset: xr.Dataset = xr.open_zarr(_zarr_store(store, path), decode_coords="all", consolidated=True, chunks={})
    except (FileNotFoundError, ValueError) as error:
        raise BadInput(
            f"{store.href(FOLDER)}/{path}: no finished mosaic is here ({error}); run `t2s restitch`."
        ) from error
    if dataset.attrs[_STATE] != "complete":
        raise BadInput(f"{store.href(FOLDER)}/{path}: half-written; resume the run, or run `t2s restitch`.")
    return dataset


def overview_factors(shape: tuple[int, int], chunk_px: int) -> tuple[int, ...]:
    """2, 4, ... until an overview fits in one chunk; none where the raster itself does."""
    factors: list[int] = []
    while max(shape) > chunk_px * 2 ** len(factors):
        factors.append(2 ** (len(factors) + 1))
    return tuple(factors)


@dataclass(frozen=True, slots=True)
class _Overview:
    store: Store
    source: str
    """Group path of the rasters twice as fine."""
    target: str
    window: Window
    """In pixels of the target."""


def _write_overview(task: _Overview) -> None:
    height, width = _array(open_group(task.store, task.source), "mask").shape
    x0, y0, x1, y1 = task.window
    source_window = Window(2 * x0, 2 * y0, min(2 * x1, width), min(2 * y1, height))
    probability, mask = read_window(task.store, task.source, source_window)
    write_block(task.store, task.target, task.window, halve_by_mean(probability), halve_by_maximum(mask))


def _zarr_store(store: Store, path: str = "") -> LocalStore | FsspecStore:
    name = f"{FOLDER}/{path}".rstrip("/")
    return (
        LocalStore(store.path(name))
        if store.is_local
        else FsspecStore.from_url(store.href(name), storage_options=storage_options(store.url))
    )


def _array(group: zarr.Group, name: str) -> zarr.Array[Any]:
    array = group[name]
    if not isinstance(array, zarr.Array):
        raise ContractError(f"{group.path}/{name} is a group; a mosaic has an array there.")
    return array


def _add_rasters(group: zarr.Group, geobox: GeoBox, dims: tuple[str, str], layout: Layout) -> None:
    texts: dict[str, dict[str, Any]] = {
        "probability": {
            "long_name": "probability of the target, in 1/254",
            "valid_range": [0, CERTAIN],
            "t2s:overview": "mean of what was looked at",
        },
        "mask": {
            "long_name": "target or not",
            "flag_values": [0, 1, NOBODY_LOOKED],
            "flag_meanings": "background target nobody_looked",
            "t2s:overview": "maximum of what was looked at",
        },
    }
    for name, attributes in texts.items():
        group.create_array(
            name,
            shape=shape_yx(geobox),
            chunks=(layout.chunk_px, layout.chunk_px),
            shards=None if layout.shard_px is None else (layout.shard_px, layout.shard_px),
            dtype="uint8",
            compressors=BloscCodec(cname="zstd", clevel=5, shuffle="bitshuffle", typesize=1),
            fill_value=NOBODY_LOOKED,
            dimension_names=dims,
            attributes={**attributes, "grid_mapping": "spatial_ref"},
        )
    add_coordinates(group, geobox, dims)


def _add_coverage(group: zarr.Group, level: int, codes: NDArray[np.uint8]) -> None:
    group.create_array(
        f"coverage_l{level}",
        data=codes,
        overwrite=True,  # of an attempt to finish that failed
        # The grids of two levels differ in size, and a dimension has one size in a dataset: so each has its own name.
        dimension_names=(f"tile_row_l{level}", f"tile_col_l{level}"),
        attributes={
            "long_name": f"what became of each tile of level {level}",
            "flag_values": list(range(len(COVERAGE))),
            "flag_meanings": " ".join(COVERAGE),
        },
    )
