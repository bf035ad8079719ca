"""Tile results: what is written is what is read, and keys and names follow from contents alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipeline.results import (
    MaskRecord,
    PromptRecord,
    TileResult,
    TileStatus,
    batch_name,
    batch_names,
    read_index,
    read_results,
    write_batch,
)
from pipeline.storage import Store
from pipeline.tiling import TileKey, Window
from t2s_core.masks import quantise

F32 = st.floats(-100, 100, width=32)


def same(a: TileResult, b: TileResult) -> bool:
    """Equality that looks into arrays."""

    def plain(result: TileResult) -> tuple[object, ...]:
        fields = {name: getattr(result, name) for name in TileResult.__slots__}
        valid, masks = fields.pop("valid"), fields.pop("masks")
        codes = [(m.logits.codes.shape, m.logits.codes.tobytes(), m.logits.offset, m.logits.shape) for m in masks]
        return fields, codes, None if valid is None else (valid.shape, valid.dtype, valid.tobytes())

    return plain(a) == plain(b)


@st.composite
def tile_results(draw: st.DrawFn) -> TileResult:
    side = draw(st.integers(1, 40))
    x0, y0 = draw(st.integers(0, 10**6)), draw(st.integers(0, 10**6))
    logits = draw(st.lists(hnp.arrays(np.float32, (12, 12), elements=F32), max_size=3))
    return TileResult(
        key=draw(st.text("0123456789abcdef", min_size=32, max_size=32)),
        tile=TileKey("alpha", draw(st.sampled_from([1, 4])), draw(st.integers(0, 99)), draw(st.integers(0, 99))),
        window_scene_px=Window(x0, y0, x0 + side, y0 + side),
        query_id="water",
        query=draw(st.text(max_size=20)),
        status=draw(st.sampled_from(TileStatus)),
        reason=draw(st.text(max_size=20)),
        reply=draw(st.text(max_size=50)),
        reasoning=draw(st.text(max_size=50)),
        n_tokens=draw(st.integers(0, 2000)),
        prompts=tuple(
            PromptRecord(draw(st.tuples(F32, F32, F32, F32)), tuple(draw(st.lists(st.tuples(F32, F32), max_size=3))))
            for _ in logits
        ),
        masks=tuple(MaskRecord(quantise(array), draw(st.floats(0, 1, width=32))) for array in logits),
        valid=draw(st.none() | hnp.arrays(np.bool_, (side, side))),
        prompter="p@1",
        segmenter="s@1",
        run_id="r1",
    )


def result(key: str = "k", **changes: object) -> TileResult:
    fields: dict[str, object] = {
        "key": key, "tile": TileKey("alpha", 1, 2, 3), "window_scene_px": Window(0, 0, 5, 5), "query_id": "water",
        "query": "water?", "status": TileStatus.OK, "reason": "", "reply": "", "reasoning": "", "n_tokens": 0,
        "prompts": (), "masks": (), "valid": None, "prompter": "p@1", "segmenter": "s@1", "run_id": "r1",
    }  # fmt: skip
    return TileResult(**{**fields, **changes})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store.at(str(tmp_path_factory.mktemp("out")))


@settings(deadline=None, max_examples=40)
@given(written=st.lists(tile_results(), min_size=1, max_size=4))
def test_what_is_written_is_read(store: Store, written: list[TileResult]) -> None:
    write_batch(store, "tiles/alpha/1/a.parquet", written)
    read = list(read_results(store, "tiles/alpha/1/a.parquet", scene_id="alpha"))
    assert len(read) == len(written)
    assert all(same(a, b) for a, b in zip(read, written, strict=True))


def test_a_mask_of_nothing_and_a_mask_of_a_part_come_back(store: Store) -> None:
    empty = np.full((16, 16), -30, np.float32)
    part = empty.copy()
    part[3:5, 7:12] = 2.0
    masks = tuple(MaskRecord(quantise(logits), 0.5) for logits in (empty, part))
    write_batch(store, "tiles/alpha/1/m.parquet", [result(masks=masks)])
    (read,) = read_results(store, "tiles/alpha/1/m.parquet", scene_id="alpha")
    assert [m.logits.codes.shape for m in read.masks] == [(0, 0), (2, 5)]
    assert read.masks[0].logits.full_codes().shape == (16, 16)
    assert not read.masks[0].logits.full_codes().any()
    assert (read.masks[1].logits.full_codes() == masks[1].logits.full_codes()).all()


def test_valid_pixels_of_a_side_that_is_no_multiple_of_8(store: Store) -> None:
    valid = np.random.default_rng(1).random((13, 13)) > 0.5
    write_batch(store, "tiles/alpha/1/v.parquet", [result(window_scene_px=Window(0, 0, 13, 13), valid=valid)])
    (read,) = read_results(store, "tiles/alpha/1/v.parquet", scene_id="alpha")
    assert read.valid is not None
    assert (read.valid == valid).all()


def test_only_wanted_keys_are_read(store: Store) -> None:
    write_batch(store, "tiles/alpha/1/k.parquet", [result("a"), result("b"), result("c")])
    read = read_results(store, "tiles/alpha/1/k.parquet", keys=frozenset("ca"), scene_id="alpha")
    assert [r.key for r in read] == ["a", "c"]


def test_the_index_names_each_row_and_its_batch(tmp_path: object) -> None:
    store = Store.at(str(tmp_path))
    assert read_index(store, batch_names(store, "alpha"))[0].num_rows == 0
    write_batch(
        store, "tiles/alpha/1/a.parquet", [result("a"), result("b", status=TileStatus.FAILED, reason="no disk")]
    )
    write_batch(store, "tiles/alpha/4/c.parquet", [result("c", tile=TileKey("alpha", 4, 0, 1))])
    write_batch(store, "tiles/alphabet/1/d.parquet", [result("d")])
    names = batch_names(store, "alpha")
    assert names == ["tiles/alpha/1/a.parquet", "tiles/alpha/4/c.parquet"]
    rows = read_index(store, names)[0].to_pylist()
    assert [(r["key"], r["level"], r["row"], r["col"], r["status"], r["reason"]) for r in rows] == [
        ("a", 1, 2, 3, "ok", ""),
        ("b", 1, 2, 3, "failed", "no disk"),
        ("c", 4, 0, 1, "ok", ""),
    ]
    assert [r["batch"] for r in rows] == [names[0], names[0], names[1]]


def test_a_batch_without_rows_is_still_a_batch(store: Store) -> None:
    write_batch(store, "tiles/none/1/a.parquet", [])
    assert list(read_results(store, "tiles/none/1/a.parquet", scene_id="none")) == []


def test_equal_results_are_equal_bytes(tmp_path: object) -> None:
    store = Store.at(str(tmp_path))
    for name in ("a", "b"):
        write_batch(store, name, [result("k", masks=(MaskRecord(quantise(np.ones((4, 4), np.float32)), 0.25),))])
    assert store.read("a") == store.read("b")


def test_a_batch_name_follows_from_scene_level_and_keys() -> None:
    name = batch_name(TileKey("alpha", 4, 0, 0), ["a", "b"])
    assert name.startswith("tiles/alpha/4/")
    assert name == batch_name(TileKey("alpha", 4, 7, 7), iter(["a", "b"]))
    others = [batch_name(TileKey("alpha", 4, 0, 0), keys) for keys in (["a"], ["b", "a"], ["ab"], [])]
    assert len({name, *others}) == 5


@pytest.mark.parametrize("status", TileStatus)
def test_seen_means_that_a_model_gave_a_usable_answer(status: TileStatus) -> None:
    assert status.seen is (status.value in {"ok", "no_target", "skipped_irrelevant"})
