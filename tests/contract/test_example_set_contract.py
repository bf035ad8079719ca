"""What `examples.ExampleSet` promises, of every dataset."""

import os
import pickle
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from dataset_folders import LAYOUTS
from PIL import Image as PillowImage

from t2s_core.errors import BadInput
from t2s_core.training.datasets.opening import DATASETS, SPLITS, open_examples
from t2s_core.training.examples import BadExample, Example, ExampleSet, usable

WORLD_N = 9


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: make(tmp_path_factory.mktemp(name)) for name, make in LAYOUTS.items()}


def opened(dataset: str, root: Path | None, split: str = "test", limit: int | None = None) -> ExampleSet:
    return open_examples(dataset, root=root, split=split, limit=WORLD_N if dataset.startswith("world") else limit)


@pytest.fixture(params=DATASETS)
def examples(request: pytest.FixtureRequest, roots: dict[str, Path]) -> ExampleSet:
    return opened(request.param, roots.get(request.param))


def each(examples: ExampleSet) -> Iterator[Example]:
    return (examples[index] for index in range(len(examples)))


def same(a: Example, b: Example) -> bool:
    fields = [(one.example_id, one.image_id, one.query, one.category) for one in (a, b)]
    arrays = [(a.image, b.image), (a.mask, b.mask)]
    assert (a.valid is None) == (b.valid is None)
    if a.valid is not None:
        arrays.append((a.valid, b.valid))
    return fields[0] == fields[1] and all(np.array_equal(x, y) for x, y in arrays)


def test_there_is_a_layout_for_every_dataset_that_is_read() -> None:
    assert {"world", "world-haze", *LAYOUTS} == set(DATASETS)


def test_arrays_have_their_types_and_the_shape_of_the_image(examples: ExampleSet) -> None:
    for one in each(examples):
        assert one.image.dtype == np.uint8
        assert one.image.ndim == 3
        assert one.image.shape[2] == 3
        assert one.mask.dtype == np.bool_
        assert one.mask.shape == one.image.shape[:2]
        assert one.valid is None or (one.valid.dtype == np.bool_ and one.valid.shape == one.mask.shape)


def test_a_question_is_one_line_of_text(examples: ExampleSet) -> None:
    assert all(one.query and one.query == " ".join(one.query.split()) for one in each(examples))


def test_some_targets_are_there(examples: ExampleSet) -> None:
    assert any(one.has_target for one in each(examples))


def test_ids_are_unique_and_of_equal_image_ids_the_images_are_equal(examples: ExampleSet) -> None:
    found = list(each(examples))
    assert len({one.example_id for one in found}) == len(examples) > 1
    by_image: dict[str, np.ndarray] = {}
    for one in found:
        np.testing.assert_array_equal(by_image.setdefault(one.image_id, one.image), one.image)


def test_an_example_is_the_same_whenever_and_in_whatever_order_it_is_read(
    examples: ExampleSet, roots: dict[str, Path]
) -> None:
    dataset, _, split = examples.name.partition("/")
    again = opened(dataset, roots.get(dataset), split)
    assert (again.name, again.fingerprint, len(again)) == (examples.name, examples.fingerprint, len(examples))
    first = list(each(examples))
    for index in reversed(range(len(examples))):
        assert same(first[index], examples[index])
        assert same(first[index], again[index])


def test_nobody_can_spoil_an_example_for_the_next_reader(examples: ExampleSet) -> None:
    for index in range(len(examples)):
        one = examples[index]
        image, mask = one.image.copy(), one.mask.copy()
        one.image[:] = 0
        one.mask[:] = ~one.mask
        np.testing.assert_array_equal(examples[index].image, image)
        np.testing.assert_array_equal(examples[index].mask, mask)


def test_threads_and_copies_in_other_processes_read_the_same(examples: ExampleSet) -> None:
    copy = pickle.loads(pickle.dumps(examples))  # noqa: S301 -- written a moment ago
    with ThreadPoolExecutor(2) as pool:
        threaded = list(pool.map(lambda index: examples[index], range(len(examples))))
    for index, one in enumerate(each(copy)):
        assert same(one, threaded[index])
    assert copy.fingerprint == examples.fingerprint


def test_numbers_beyond_the_last_and_below_the_first_are_index_errors(examples: ExampleSet) -> None:
    for index in (len(examples), len(examples) + 5, -1):
        with pytest.raises(IndexError, match=str(index)):
            examples[index]


def test_numpy_numbers_are_numbers(examples: ExampleSet) -> None:
    assert same(examples[np.int64(1)], examples[1])  # type: ignore[index]


def test_the_name_is_dataset_and_split_and_splits_differ(roots: dict[str, Path]) -> None:
    for dataset in DATASETS:
        sets = [opened(dataset, roots.get(dataset), split) for split in SPLITS]
        assert [one.name for one in sets] == [f"{dataset}/{split}" for split in SPLITS]
        assert len({one.fingerprint for one in sets}) == len(SPLITS)
        assert all(len(one.fingerprint) == 16 and int(one.fingerprint, 16) >= 0 for one in sets)


def test_fingerprints_of_datasets_differ(roots: dict[str, Path]) -> None:
    assert len({opened(name, roots.get(name)).fingerprint for name in DATASETS}) == len(DATASETS)


def test_opening_reads_no_pixels(roots: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object, **_kwargs: object) -> None:
        pytest.fail("a file of pixels was opened")

    monkeypatch.setattr(PillowImage, "open", refuse)
    for dataset in DATASETS:
        assert len(opened(dataset, roots.get(dataset))) > 1


@pytest.mark.parametrize("dataset", LAYOUTS)
def test_the_fingerprint_changes_with_any_file_of_an_example(dataset: str, tmp_path: Path) -> None:
    root = LAYOUTS[dataset](tmp_path)
    before = opened(dataset, root).fingerprint
    for path in sorted(path for path in root.rglob("*") if path.suffix in {".png", ".tif"}):
        if "train" in path.parts or "val" in path.parts:
            continue
        raw, state = path.read_bytes(), path.stat()
        path.write_bytes(raw + b"\0")
        longer = opened(dataset, root).fingerprint
        path.write_bytes(raw)
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns + 1_000))
        newer = opened(dataset, root).fingerprint
        assert len({before, longer, newer}) == 3, path
        before = newer


@pytest.mark.parametrize("dataset", LAYOUTS)
def test_a_missing_file_spoils_its_examples_alone_and_moves_no_other(dataset: str, tmp_path: Path) -> None:
    root = LAYOUTS[dataset](tmp_path)
    whole = opened(dataset, root)
    expected = list(each(whole))
    last = expected[-1].image_id.removesuffix(".png").removesuffix(".tif")
    gone = next(
        path for path in sorted(root.rglob(f"{last}.*")) if "train" not in path.parts and "val" not in path.parts
    )
    gone.unlink()
    broken = opened(dataset, root)
    assert broken.fingerprint != whole.fingerprint
    problems: list[str] = []
    read = list(usable(broken, problems.append))
    kept = [one for one in expected if one.image_id != expected[-1].image_id]
    assert [one.query for one in read] == [one.query for one in kept]
    assert problems
    assert all(broken.name in line and "\n" not in line for line in problems)
    with pytest.raises(BadExample):
        broken[len(broken) - 1]
    assert same(broken[0], expected[0])


@pytest.mark.parametrize("dataset", LAYOUTS)
def test_a_limit_keeps_so_many_and_each_is_one_of_the_whole(dataset: str, roots: dict[str, Path]) -> None:
    whole = opened(dataset, roots[dataset])
    for limit in (1, len(whole) - 1, len(whole), len(whole) + 7):
        some = opened(dataset, roots[dataset], limit=limit)
        assert len(some) == min(limit, len(whole))
        assert {one.example_id for one in each(some)} <= {one.example_id for one in each(whole)}


@pytest.mark.parametrize("dataset", LAYOUTS)
def test_an_empty_directory_lacks_all_that_the_layout_has(dataset: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=str(tmp_path)) as raised:
        opened(dataset, tmp_path)
    assert len(raised.value.problems) >= 2
    with pytest.raises(BadInput, match="no directory"):
        opened(dataset, tmp_path / "nowhere")
