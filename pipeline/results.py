"""Tile results: what each (tile, query) came to, committed one Parquet object per batch.

`tiles/<scene_id>/<level>/<batch>.parquet`. The set of committed objects is the truth about progress.
"""

import hashlib
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import zstandard
from numpy.typing import NDArray

from pipeline.storage import Store
from pipeline.tiling import TileKey, Window
from t2s_core.errors import MachineFault
from t2s_core.masks import QuantisedLogits

SCHEMA_VERSION = "1"
_INDEX = ("key", "level", "row", "col", "query_id", "status", "reason", "valid")
_REPEATING = pa.dictionary(pa.int32(), pa.string())
_READERS, _TABLES_AT_ONCE = 16, 256
_UNREADABLE = (ValueError, OSError, pa.ArrowException)
"""What pyarrow raises for bytes that are no whole Parquet file, or one of other columns."""

_PROMPT = pa.struct(
    [("box_tile_px", pa.list_(pa.float32(), 4)), ("points_tile_px", pa.list_(pa.list_(pa.float32(), 2)))]
)
_MASK = pa.struct(
    [("codes", pa.binary()), ("row", pa.int32()), ("col", pa.int32()), ("height", pa.int32()), ("width", pa.int32()),
     ("low_res_height", pa.int32()), ("low_res_width", pa.int32()), ("predicted_iou", pa.float32())]
)  # fmt: skip
SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("level", pa.int32()),
        ("row", pa.int32()),
        ("col", pa.int32()),
        ("window_scene_px", pa.list_(pa.int64(), 4)),
        ("query_id", pa.string()),
        ("query", pa.string()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("reply", pa.string()),
        ("reasoning", pa.string()),
        ("n_tokens", pa.int32()),
        ("prompts", pa.list_(_PROMPT)),
        ("masks", pa.list_(_MASK)),
        ("valid", pa.binary()),
        ("prompter", pa.string()),
        ("segmenter", pa.string()),
        ("run_id", pa.string()),
    ],
    metadata={"t2s:schema_version": SCHEMA_VERSION},
)


class TileStatus(StrEnum):
    """What one (tile, query) came to."""

    OK = "ok"
    NO_TARGET = "no_target"
    UNPARSABLE = "unparsable"
    FAILED = "failed"
    SKIPPED_NODATA = "skipped_nodata"
    SKIPPED_IRRELEVANT = "skipped_irrelevant"

    @property
    def seen(self) -> bool:
        """True where a model gave a usable answer: its pixels are target or background, not "nobody looked"."""
        return self in {TileStatus.OK, TileStatus.NO_TARGET, TileStatus.SKIPPED_IRRELEVANT}


@dataclass(frozen=True, slots=True)
class PromptRecord:
    """An instance prompt as stored."""

    box_tile_px: tuple[float, float, float, float]
    points_tile_px: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class MaskRecord:
    """One instance's mask as stored: quantised low-resolution logits over the whole tile."""

    logits: QuantisedLogits
    predicted_iou: float


@dataclass(frozen=True, slots=True)
class TileResult:
    """One row: one query on one tile."""

    key: str
    """Hash of all that determines the result; equal keys need no second computation."""
    tile: TileKey
    window_scene_px: Window
    query_id: str
    query: str
    status: TileStatus
    reason: str
    """Why, for `unparsable` and `failed`; else empty."""
    reply: str
    reasoning: str
    n_tokens: int
    prompts: tuple[PromptRecord, ...]
    masks: tuple[MaskRecord, ...]
    valid: NDArray[np.bool_] | None
    """(height, width) of the window at native resolution, True is data; None means all of it is."""
    prompter: str
    segmenter: str
    run_id: str


def result_key(facts: str) -> str:
    """Hash of what determines a tile result, as JSON with sorted keys and no spaces."""
    return hashlib.sha256(facts.encode()).hexdigest()[:32]


def batch_name(tile: TileKey, keys: Iterable[str]) -> str:
    """Object name of the batch that holds `keys`: fixed by its contents, so a repeated commit replaces itself."""
    digest = hashlib.sha256("\n".join(keys).encode()).hexdigest()[:20]
    return f"tiles/{tile.scene_id}/{tile.level}/{digest}.parquet"


def write_batch(store: Store, name: str, results: Sequence[TileResult]) -> None:
    """Commit a batch atomically."""
    compress = zstandard.ZstdCompressor(level=3).compress
    packed: dict[int, bytes] = {}  # all queries on a tile share its array
    for result in results:
        if result.valid is not None and id(result.valid) not in packed:
            packed[id(result.valid)] = compress(np.packbits(result.valid).tobytes())
    table = pa.Table.from_pylist([_to_row(r, compress, packed.get(id(r.valid))) for r in results], schema=SCHEMA)
    sink = io.BytesIO()
    # a handful of rows: dictionaries and statistics would be larger than what they save, and starting zstd for each
    # column takes longer than all else, for masks are compressed already
    # checksums: bytes that change on a disk later must not become another mask
    pq.write_table(
        table, sink, compression="snappy", use_dictionary=False, write_statistics=False, write_page_checksum=True
    )
    store.write(name, sink.getvalue())


def batch_names(store: Store, scene_id: str) -> list[str]:
    """Names of all committed batches of a scene."""
    return store.names(f"tiles/{scene_id}", ".parquet")


def read_index(store: Store, names: Sequence[str]) -> tuple[pa.Table, frozenset[str]]:
    """Columns key, level, row, col, query_id, status, reason, all_valid of committed batches, plus `batch`, the object.

    `all_valid`: see `TileResult.valid`. And the names of those that are no whole tile results. Commits are atomic, so
    such an object was damaged from outside, and nothing is known of what it held. What repeats is dictionary-encoded: a
    region's index has millions of rows.
    """
    stored = pa.schema([SCHEMA.field(name) for name in _INDEX])
    plain = pa.schema([*(field for field in stored if field.name != "valid"), pa.field("all_valid", pa.bool_())])
    schema = pa.schema([*map(_indexed, plain), pa.field("batch", _REPEATING)])

    def read(name: str) -> pa.Table | None:
        data = store.read(name)  # what this raises is the storage's fault, not the object's
        try:
            table = _parse(data, stored)
        except _UNREADABLE:
            return None
        return table.drop_columns("valid").append_column("all_valid", table["valid"].is_null())

    parts, damaged = [schema.empty_table()], set()
    # Mostly waiting for a bucket: many at once, in the order of their names.
    with ThreadPoolExecutor(_READERS) as readers:
        # A table of a few rows takes ten times their room, so that not those of a whole region are kept.
        for start in range(0, len(names), _TABLES_AT_ONCE):
            some = names[start : start + _TABLES_AT_ONCE]
            found = dict(zip(some, readers.map(read, some), strict=True))
            damaged |= {name for name, table in found.items() if table is None}
            whole = {name: table for name, table in found.items() if table is not None}
            n_rows = [table.num_rows for table in whole.values()]
            of_rows = pa.array(np.repeat(np.arange(len(whole), dtype=np.int32), n_rows))
            batches = pa.DictionaryArray.from_arrays(of_rows, pa.array(list(whole), pa.string()))
            rows = pa.concat_tables([plain.empty_table(), *whole.values()]).combine_chunks()
            parts.append(rows.append_column("batch", batches).cast(schema))
    return pa.concat_tables(parts).unify_dictionaries().combine_chunks(), frozenset(damaged)


def _indexed(field: pa.Field) -> pa.Field:
    return field.with_type(_REPEATING) if field.type == pa.string() and field.name != "key" else field


def read_results(store: Store, name: str, *, keys: frozenset[str] | None = None, scene_id: str) -> Iterator[TileResult]:
    """Rows of one batch; only those named by `keys` where given. Raises `MachineFault` where it is damaged."""
    table = _whole_table(store, name)
    if keys is not None:
        table = table.filter(pc.is_in(table["key"], pa.array(sorted(keys), pa.string())))
    for row in table.to_pylist():
        yield _from_row(row, scene_id)


def read_rows(store: Store, name: str, columns: Sequence[str]) -> list[dict[str, Any]]:
    """Some columns of one batch, as they are stored. Raises `MachineFault` where it is damaged."""
    rows: list[dict[str, Any]] = _whole_table(store, name, columns).to_pylist()
    return rows


def _whole_table(store: Store, name: str, columns: Sequence[str] | None = None) -> pa.Table:
    data = store.read(name)
    schema = SCHEMA if columns is None else pa.schema([SCHEMA.field(column) for column in columns])
    try:
        return _parse(data, schema)
    except _UNREADABLE as error:
        raise MachineFault(
            f"{store.href(name)} is damaged ({error}); delete it and run the same command again"
        ) from error


def _parse(data: bytes, schema: pa.Schema) -> pa.Table:
    """The columns of `schema`. Raises one of `_UNREADABLE`."""
    # Not `read_table`, nor threads: to plan the reading of a handful of rows takes four times as long as to read them.
    file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
    table = file.read(schema.names, use_threads=False)
    if set(schema.names) <= set(table.schema.names):
        table = table.select(schema.names)
    if not table.schema.equals(schema):
        raise pa.ArrowInvalid(f"its columns are {', '.join(map(str, table.schema))}")
    return table


def _to_row(result: TileResult, compress: Callable[[bytes], bytes], valid: bytes | None) -> dict[str, Any]:
    return {
        "key": result.key, "level": result.tile.level, "row": result.tile.row, "col": result.tile.col,
        "window_scene_px": list(result.window_scene_px), "query_id": result.query_id, "query": result.query,
        "status": result.status.value, "reason": result.reason, "reply": result.reply, "reasoning": result.reasoning,
        "n_tokens": result.n_tokens,
        "prompts": [
            {"box_tile_px": list(p.box_tile_px), "points_tile_px": [list(q) for q in p.points_tile_px]}
            for p in result.prompts
        ],
        "masks": [
            {"codes": compress(m.logits.codes.tobytes()), "row": m.logits.offset[0], "col": m.logits.offset[1],
             "height": m.logits.codes.shape[0], "width": m.logits.codes.shape[1],
             "low_res_height": m.logits.shape[0], "low_res_width": m.logits.shape[1], "predicted_iou": m.predicted_iou}
            for m in result.masks
        ],
        "valid": valid,
        "prompter": result.prompter, "segmenter": result.segmenter, "run_id": result.run_id,
    }  # fmt: skip


def _from_row(row: dict[str, Any], scene_id: str) -> TileResult:
    decompress = zstandard.ZstdDecompressor().decompress
    window = Window(*row["window_scene_px"])
    valid = None
    if row["valid"] is not None:
        bits = np.unpackbits(np.frombuffer(decompress(row["valid"]), np.uint8), count=window.width * window.height)
        valid = bits.reshape(window.height, window.width).astype(np.bool_)
    return TileResult(
        key=row["key"],
        tile=TileKey(scene_id, row["level"], row["row"], row["col"]),
        window_scene_px=window,
        query_id=row["query_id"],
        query=row["query"],
        status=TileStatus(row["status"]),
        reason=row["reason"],
        reply=row["reply"],
        reasoning=row["reasoning"],
        n_tokens=row["n_tokens"],
        prompts=tuple(
            PromptRecord(tuple(p["box_tile_px"]), tuple((q[0], q[1]) for q in p["points_tile_px"]))
            for p in row["prompts"]
        ),
        masks=tuple(
            MaskRecord(
                QuantisedLogits(
                    codes=np.frombuffer(decompress(m["codes"]), np.uint8).reshape(m["height"], m["width"]),
                    offset=(m["row"], m["col"]),
                    shape=(m["low_res_height"], m["low_res_width"]),
                ),
                m["predicted_iou"],
            )
            for m in row["masks"]
        ),
        valid=valid,
        prompter=row["prompter"],
        segmenter=row["segmenter"],
        run_id=row["run_id"],
    )
