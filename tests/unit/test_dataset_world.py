"""The drawn world as an example set."""

from typing import Any

import numpy as np
import pytest

from t2s_core.errors import BadInput
from t2s_core.training.datasets import world
from t2s_core.training.datasets.opening import open_examples
from t2s_core.training.datasets.world import WorldExamples
from t2s_core.world.queries import FIRST_SEED, all_queries


def test_a_set_is_as_long_as_asked_or_as_its_split() -> None:
    assert len(WorldExamples("train")) == 1_000_000
    assert len(WorldExamples("test")) == len(WorldExamples("val")) == 2_000
    assert len(open_examples("world", root=None, split="test", limit=5_000)) == 5_000


def test_an_example_does_not_depend_on_how_many_there_are_or_were_read_before() -> None:
    short, long = WorldExamples("val", 8), WorldExamples("val", 800)
    a, b = short[6], long[6]
    long[700]
    assert a.query == b.query == long[6].query
    np.testing.assert_array_equal(a.image, long[6].image)
    np.testing.assert_array_equal(a.mask, long[6].mask)


def test_four_examples_share_a_region_and_splits_share_none() -> None:
    found = [one.image_id.partition("/")[0] for one in WorldExamples("test", 9)]
    first = FIRST_SEED["test"]
    assert found == [str(first + i // 4) for i in range(9)]


def test_an_offset_shifts_regions() -> None:
    np.testing.assert_array_equal(WorldExamples("test", 9)[5].image, WorldExamples("test", 9, offset=1)[1].image)


def test_images_of_a_region_are_tiles_of_their_own() -> None:
    found = list(WorldExamples("val", 8))
    assert len({one.image_id for one in found}) == len({one.image.tobytes() for one in found}) == 8
    assert all(one.image.shape == (256, 256, 3) for one in found)


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_targets_are_absent_as_often_as_asked(rate: float) -> None:
    assert {one.has_target for one in WorldExamples("val", 12, rate)} == {rate == 0.0}


def test_half_of_the_targets_are_absent_by_default() -> None:
    absent = sum(not one.has_target for one in WorldExamples("test", 60))
    assert 15 <= absent <= 45


def test_wordings_are_those_of_the_split() -> None:
    for split in FIRST_SEED:
        known = {(query.text, query.category) for query in all_queries(split)}
        assert {(one.query, one.category) for one in WorldExamples(split, 6)} <= known


def test_the_fingerprint_is_of_the_arguments_and_of_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    variants: list[dict[str, Any]] = [{}, {"n": 9}, {"absent_rate": 0.25}, {"offset": 3}, {"side_px": 128}]
    found = {WorldExamples("val", **({"n": 8} | one)).fingerprint for one in variants}
    assert len(found) == len(variants)
    monkeypatch.setattr(world, "_code_digest", lambda: "another")
    assert WorldExamples("val", 8).fingerprint not in found


def test_numbers_out_of_range_are_told_at_once() -> None:
    with pytest.raises(BadInput) as raised:
        WorldExamples("val", 0, 1.5, offset=-1, side_px=1000)
    assert len(raised.value.problems) == 4
    with pytest.raises(BadInput, match="'dev'"):
        WorldExamples("dev")  # type: ignore[arg-type]


def test_the_last_region_of_a_split_is_not_the_first_of_the_next() -> None:
    with pytest.raises(BadInput, match="the split has 1 to 4"):
        WorldExamples("train", 5, offset=world.MAX_REGIONS - 1)
    assert WorldExamples("train", 4, offset=world.MAX_REGIONS - 1)[3].image_id.startswith("399999999/")


def test_a_hazy_day_changes_pixels_and_nothing_else() -> None:
    clear, hazy = WorldExamples("val", 6), WorldExamples("val", 6, look="haze")
    assert clear.fingerprint != hazy.fingerprint
    for i in range(6):
        a, b = clear[i], hazy[i]
        assert (a.query, a.image_id) == (b.query, b.image_id)
        assert np.array_equal(a.mask, b.mask)
        assert b.image.std() < a.image.std()
        assert np.abs(b.image.astype(float) - (0.6 * a.image + 0.4 * np.asarray((205, 210, 215)))).max() <= 1
