"""Datasets on disk: what each layout means, and what is wrong with what."""

import json
import pickle
from pathlib import Path
from typing import Any

import dataset_folders as folders
import numpy as np
import pytest
from dataset_folders import image, mask

from t2s_core.errors import BadInput, MachineFault
from t2s_core.training.datasets.file_examples import Fault, FileExamples
from t2s_core.training.datasets.opening import open_examples
from t2s_core.training.examples import BadExample, ExampleSet


def opened(dataset: str, root: Path, split: str = "train", limit: int | None = None) -> ExampleSet:
    return open_examples(dataset, root=root, split=split, limit=limit)


def problem(examples: ExampleSet, index: int) -> str:
    with pytest.raises(BadExample) as raised:
        examples[index]
    return str(raised.value)


def problems_of(dataset: str, **other: Any) -> list[str]:
    with pytest.raises(BadInput) as raised:
        open_examples(dataset, **({"root": None, "split": "test"} | other))
    return list(raised.value.problems)


def test_all_wrong_arguments_are_told_at_once() -> None:
    told = problems_of("earthraeson", split="dev", limit=0)
    assert len(told) == 3
    assert "'earthraeson'" in told[0]
    assert "world, world-haze, earthreason, rrsisd, refsegrs, risbench, curated" in told[0]
    assert "'dev'" in told[1]
    assert "train, val, test" in told[1]
    assert "limit 0" in told[2]


def test_a_dataset_that_is_read_needs_a_root_and_one_that_is_drawn_has_none(tmp_path: Path) -> None:
    assert "--root" in problems_of("rrsisd")[0]
    assert "leave out --root" in problems_of("world", root=tmp_path)[0]


def test_an_empty_split_is_bad_input(tmp_path: Path) -> None:
    root = folders.risbench(tmp_path)
    (root / "output_phrase_val.txt").write_text("\n \n")
    with pytest.raises(BadInput, match="risbench/val: has no examples"):
        opened("risbench", root, "val")


def test_a_limit_is_spread_over_the_whole() -> None:
    faults = [Fault(str(number), "x") for number in range(10)]
    some = FileExamples("risbench", "val", faults, limit=3)
    assert [problem(some, at).split("(")[1][0] for at in range(3)] == ["0", "3", "6"]


def test_an_id_that_comes_twice_is_a_fault_of_the_second(tmp_path: Path) -> None:
    root = folders.write_curated(tmp_path, [folders.curated_row(), folders.curated_row(query="again")])
    examples = opened("curated", root)
    assert examples[0].query == "where is a lake?"
    assert "same id" in problem(examples, 1)


def test_a_broken_disk_is_not_a_bad_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    examples = opened("risbench", folders.risbench(tmp_path))

    def fail(*_args: object, **_kwargs: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("t2s_core.training.datasets.images.PillowImage.open", fail)
    with pytest.raises(MachineFault, match="Input/output error"):
        examples[0]


# EarthReason


def test_earthreason_has_an_example_for_each_question(tmp_path: Path) -> None:
    examples = opened("earthreason", folders.earthreason(tmp_path))
    assert [one.query for one in examples] == ["Where is it?", "And golf_course_3?", "Where is it?", "And lake_12?"]
    assert [one.example_id for one in examples][:2] == ["golf_course_3/0", "golf_course_3/1"]
    assert [one.image_id for one in examples] == ["golf_course_3"] * 2 + ["lake_12"] * 2
    assert [one.category for one in examples] == ["golf_course"] * 2 + ["lake"] * 2
    np.testing.assert_array_equal(examples[2].image, image(1))
    np.testing.assert_array_equal(examples[2].mask, mask(1))


def test_earthreason_ids_that_tell_nothing_apart_are_no_categories(tmp_path: Path) -> None:
    for number in range(3):
        folders.save(tmp_path / f"val/images/train_{number}.jpg", image(number))
        folders.save_mask(tmp_path / f"val/labels/train_{number}.png", mask(number), target=1)
        folders.questions(tmp_path, "val", f"train_{number}", ["?"], ["there"])
    assert {one.category for one in opened("earthreason", tmp_path, "val")} == {""}


@pytest.mark.parametrize("answer", [[], [""], ["  ", "\n"], ""])
def test_earthreason_without_an_answer_has_no_target(tmp_path: Path, answer: Any) -> None:
    root = folders.earthreason(tmp_path)
    folders.save_mask(root / "train/labels/lake_12.png", np.zeros_like(mask(0)))
    folders.questions(root, "train", "lake_12", ["Where is a lake?"], answer)
    assert not opened("earthreason", root)[2].has_target
    folders.save_mask(root / "train/labels/lake_12.png", mask(0))
    assert f"{int(mask(0).sum())} px" in problem(opened("earthreason", root), 2)


def test_earthreason_with_an_answer_in_words_and_an_empty_mask_has_no_target(tmp_path: Path) -> None:
    root = folders.earthreason(tmp_path)
    folders.save_mask(root / "train/labels/lake_12.png", np.zeros_like(mask(0)))
    assert not opened("earthreason", root)[2].has_target


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "cannot be read"),
        ("[]", "no object"),
        ('{"answer": ["x"]}', "questions is no list of texts"),
        ('{"questions": [1], "answer": ["x"]}', "questions is no list of texts"),
        ('{"questions": ["a"]}', "answer is no list of texts"),
        ('{"questions": [], "answer": ["x"]}', "has no questions"),
        ('{"questions": [" "], "answer": ["x"]}', "the question is empty"),
        ("[" * 100_000, "cannot be read"),
    ],
)
def test_earthreason_malformed_questions_are_one_bad_example(tmp_path: Path, text: str, told: str) -> None:
    root = folders.earthreason(tmp_path)
    (root / "train/QAs/golf_course_3.json").write_text(text)
    examples = opened("earthreason", root)
    assert len(examples) == 3
    assert told in problem(examples, 0)
    assert "earthreason/train 0 (golf_course_3" in problem(examples, 0)
    assert examples[1].image_id == "lake_12"


def test_earthreason_nothing_that_has_no_counterpart_vanishes(tmp_path: Path) -> None:
    root = folders.earthreason(tmp_path)
    folders.save(root / "train/images/a.png", image(0))
    folders.save(root / "train/labels/b.png", image(0))
    folders.questions(root, "train", "c", ["?"], ["x"])
    folders.save(root / "train/images/lake_12.jpg", image(0))
    (root / "train/images/._lake_12.png").write_bytes(b"left by another system")
    examples = opened("earthreason", root)
    assert len(examples) == 6
    told = [problem(examples, at) for at in (0, 1, 2, 5)]
    for part, line in zip(("labels/a", "images/b", "images/c"), told, strict=False):
        assert f"{part} is missing" in line
    assert "lake_12.jpg, lake_12.png; keep one" in told[3]


# RefSegRS and RISBench


def test_refsegrs_masks_are_the_first_channel(tmp_path: Path) -> None:
    examples = opened("refsegrs", folders.refsegrs(tmp_path))
    assert [one.query for one in examples] == ["a road", "a long road", "the van"]
    assert [one.image_id for one in examples] == ["area_0.tif", "area_1.tif", "area_1.tif"]
    np.testing.assert_array_equal(examples[1].mask, mask(1))


def test_risbench_masks_may_have_another_suffix_than_images(tmp_path: Path) -> None:
    root = folders.risbench(tmp_path)
    (root / "mask/00001.png").rename(root / "mask/00001.bmp")
    np.testing.assert_array_equal(opened("risbench", root)[1].mask, mask(1))


def test_malformed_lines_of_a_phrase_file_keep_their_numbers(tmp_path: Path) -> None:
    root = folders.risbench(tmp_path)
    lines = [
        b"\xef\xbb\xbf00000.png a  dam ",
        b"00001.png",
        b"",
        b"00001.png caf\xe9",
        b"../../secret.png a dam",
        b"/etc/passwd a dam",
        b"00009.png a dam",
        b"\xc2\xa0",
        b"00001 the ship\r",
    ]
    (root / "output_phrase_train.txt").write_bytes(b"\n".join(lines))
    examples = opened("risbench", root)
    assert len(examples) == 8
    assert examples[0].query == "a dam"
    assert examples[7].query == "the ship"
    told = [problem(examples, at) for at in range(1, 7)]
    assert "(line 2): the line is '00001.png' alone" in told[0]
    assert "(line 4): the line is not UTF-8" in told[1]
    assert all("is missing" in line for line in told[2:5])
    assert "neither" in told[5]


def test_a_mask_of_another_size_is_a_bad_example(tmp_path: Path) -> None:
    root = folders.risbench(tmp_path)
    folders.save_mask(root / "mask/00000.png", mask(0)[:-1])
    assert "the mask is 32 x 23 px, the image 32 x 24 px" in problem(opened("risbench", root), 0)


def test_a_file_that_went_away_or_broke_after_opening_is_a_bad_example(tmp_path: Path) -> None:
    root = folders.risbench(tmp_path)
    examples = opened("risbench", root)
    (root / "img_rgb/00000.png").unlink()
    whole = (root / "mask/00001.png").read_bytes()
    (root / "mask/00001.png").write_bytes(whole[: len(whole) // 2])
    assert "00000.png cannot be read" in problem(examples, 0)
    assert "00001.png cannot be read" in problem(examples, 1)


# Curated tiles


def test_curated_masks_have_a_third_value(tmp_path: Path) -> None:
    present, absent = opened("curated", folders.curated(tmp_path))
    np.testing.assert_array_equal(present.image, image(0))
    np.testing.assert_array_equal(present.mask, folders.curated_mask() == 1)
    assert present.valid is not None
    np.testing.assert_array_equal(present.valid, folders.curated_mask() != 255)
    assert (present.example_id, present.image_id, present.category) == ("train-0", "c0", "water")
    assert (absent.has_target, absent.valid, absent.image_id) == (False, None, "c1")


@pytest.mark.parametrize(
    "options",
    [
        {"compress": "zstd", "tiled": True, "blockxsize": 16, "blockysize": 16},
        {"compress": "lzw", "interleave": "band"},
        {"compress": "deflate", "predictor": 2, "interleave": "pixel"},
        {},
    ],
)
def test_curated_chips_may_be_stored_in_any_common_way(tmp_path: Path, options: dict[str, Any]) -> None:
    root = folders.curated(tmp_path)
    folders.save_geotiff(root / "chips/c0.tif", np.moveaxis(image(5), 2, 0), **options)
    tiling = {key: value for key, value in options.items() if key != "interleave"}
    folders.save_geotiff(root / "masks/s0.tif", folders.curated_mask()[None], **tiling)
    one = opened("curated", root)[0]
    np.testing.assert_array_equal(one.image, image(5))
    np.testing.assert_array_equal(one.mask, folders.curated_mask() == 1)


def test_curated_faults_are_of_their_rows(tmp_path: Path) -> None:
    rows = [
        folders.curated_row(sample_id="up", image="../outside.tif"),
        folders.curated_row(sample_id="root", mask="/etc/passwd"),
        folders.curated_row(sample_id="folder", image="chips"),
        folders.curated_row(sample_id="gone", mask="masks/none.tif"),
        folders.curated_row(sample_id="unmasked", mask=None),
        folders.curated_row(sample_id="says absent", absent=True),
        folders.curated_row(sample_id="empty", query=" "),
        folders.curated_row(sample_id="null", query=None),
        folders.curated_row(sample_id="no split", split=None),
        folders.curated_row(sample_id="other", split="val"),
        folders.curated_row(sample_id="fine", category=None),
    ]
    examples = opened("curated", folders.write_curated(tmp_path / "set", rows))
    (tmp_path / "outside.tif").write_bytes(b"")
    assert len(examples) == 10
    told = [
        "not one below",
        "not one below",
        "is no file",
        "none.tif",
        "has no mask",
        "said to be absent",
        "the question is empty",
        "no usable query",
        "no usable split",
    ]
    for at, part in enumerate(told):
        assert part in problem(examples, at)
    assert examples[9].category == ""


def test_curated_masks_of_other_values_or_without_the_target_are_bad(tmp_path: Path) -> None:
    root = folders.curated(tmp_path)
    strange = folders.curated_mask()
    strange[0, 0] = 7
    folders.save_geotiff(root / "masks/s0.tif", strange[None])
    assert "the value 7" in problem(opened("curated", root), 0)
    folders.save_geotiff(root / "masks/s0.tif", np.where(strange == 255, strange, 0)[None])
    assert "said to be present" in problem(opened("curated", root), 0)


@pytest.mark.parametrize(
    ("name", "raw", "told"),
    [
        ("dataset.json", b"{", "no JSON"),
        ("dataset.json", b"[]", "format None"),
        ("dataset.json", b'{"format": "t2s-curated/2", "fingerprint": "0123456789abcdef"}', "t2s-curated/2"),
        ("dataset.json", b'{"format": "t2s-curated/1", "fingerprint": "xyz"}', "16 hex"),
        ("samples.parquet", b"PAR1, or rather not", "as Parquet"),
    ],
)
def test_a_curated_dataset_that_is_none_is_bad_input(tmp_path: Path, name: str, raw: bytes, told: str) -> None:
    root = folders.curated(tmp_path)
    (root / name).write_bytes(raw)
    with pytest.raises(BadInput, match=told) as raised:
        opened("curated", root)
    assert len(raised.value.problems) == 1
    assert "\n" not in raised.value.problems[0]


def test_curated_samples_without_their_columns_are_bad_input(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    root = folders.curated(tmp_path)
    pq.write_table(pa.table({"sample_id": ["a"], "split": ["train"]}), root / "samples.parquet")
    with pytest.raises(BadInput, match="lacks the columns absent, category, chip_id, image, mask, query"):
        opened("curated", root)


def test_the_declared_fingerprint_is_part_of_the_fingerprint(tmp_path: Path) -> None:
    root = folders.curated(tmp_path)
    before = opened("curated", root).fingerprint
    (root / "dataset.json").write_text(json.dumps({"format": "t2s-curated/1", "fingerprint": "f" * 16}))
    assert opened("curated", root).fingerprint != before


# RRSIS-D


def test_rrsisd_reads_run_lengths_and_polygons(tmp_path: Path) -> None:
    dam, ship = opened("rrsisd", folders.rrsisd(tmp_path), "val")
    assert [one.query for one in (dam, ship)] == ["The dam on the top", "The ship on the top"]
    assert [one.category for one in (dam, ship)] == ["dam", "ship"]
    assert [one.example_id for one in (dam, ship)] == ["10/0", "11/0"]
    np.testing.assert_array_equal(dam.mask, mask(0))
    np.testing.assert_array_equal(ship.mask, mask(1))
    np.testing.assert_array_equal(ship.image, image(1))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"ref": {"split": None}}, "no dict with a split"),
        ({"ref": {"image_id": [0]}}, "image_id [0] is not in instances.json"),
        ({"ref": {"ann_id": 99}}, "ann_id 99 is not in instances.json"),
        ({"ref": {"sentences": []}}, "has no sentences"),
        ({"ref": {"sentences": [{"tokens": []}]}}, "has no text"),
        ({"images": {"file_name": "../00000.png"}}, "JPEGImages/../00000.png is missing"),
        ({"images": {"file_name": None}}, "has no file_name"),
        ({"images": {"height": 25}}, "the index says 32 x 25 px"),
        ({"annotations": {"segmentation": [{"size": [24, 32], "counts": [700]}]}}, "700 px, the image 768"),
        ({"annotations": {"segmentation": []}}, "the segmentation is empty"),
        ({"annotations": {"segmentation": None}}, "neither a run-length object nor"),
    ],
)
def test_rrsisd_faults_are_of_their_refs(tmp_path: Path, change: dict[str, dict[str, Any]], told: str) -> None:
    refs, instances = folders.rrsisd_parts()
    for where, other in change.items():
        (refs if where == "ref" else instances[where])[0] |= other
    examples = opened("rrsisd", folders.write_rrsisd(tmp_path, refs, instances))
    assert len(examples) == 2
    assert told in problem(examples, 0)
    assert examples[1].category == "ship"


def test_a_ref_that_is_none_is_a_fault_of_every_split(tmp_path: Path) -> None:
    refs, instances = folders.rrsisd_parts()
    root = folders.write_rrsisd(tmp_path, ["not a dict", *refs], instances)
    for split in ("train", "val", "test"):
        examples = opened("rrsisd", root, split)
        assert len(examples) == 3
        assert "(ref 0): is no dict with a split" in problem(examples, 0)


@pytest.mark.parametrize("raw", [b"{", b"[]", b'{"images": []}', b"\xff"])
def test_rrsisd_instances_that_are_none_are_bad_input(tmp_path: Path, raw: bytes) -> None:
    root = folders.rrsisd(tmp_path)
    (root / "rrsisd/instances.json").write_bytes(raw)
    with pytest.raises(BadInput, match=r"instances\.json is no"):
        opened("rrsisd", root)


def test_rrsisd_refs_must_be_a_list(tmp_path: Path) -> None:
    root = folders.rrsisd(tmp_path)
    (root / "rrsisd/refs(unc).p").write_bytes(pickle.dumps({}))
    with pytest.raises(BadInput, match="holds a dict, not a list"):
        opened("rrsisd", root)
