"""Questions about the drawn world: splits, meanings, answers."""

import re

import numpy as np
import pytest

from t2s_core.world.classes import Kind
from t2s_core.world.queries import FIRST_SEED, QueryDraw, WorldQuery, all_queries, demo_queries
from t2s_core.world.samples import samples
from t2s_core.world.tiles import Instance

SPLITS = ("train", "val", "test")


def _instance(kind: Kind, x: int, y: int, side: int) -> Instance:
    mask = np.zeros((256, 256), np.bool_)
    mask[y : y + side, x : x + side] = True
    return Instance(kind, (x, y, x + side, y + side), ((x + 1, y + 1), (x + 2, y + 2)), mask)


def test_no_wording_is_in_two_splits() -> None:
    texts = [{query.text.lower().rstrip("?") for query in all_queries(split)} for split in SPLITS]
    assert not texts[0] & texts[1]
    assert not texts[0] & texts[2]
    assert not texts[1] & texts[2]


def test_seeds_of_splits_do_not_meet() -> None:
    assert FIRST_SEED["train"] < FIRST_SEED["val"] < FIRST_SEED["test"]


def test_every_meaning_but_nowhere_is_asked_in_every_split() -> None:
    meanings = [{q.id for q in all_queries(split) if q.category != "nowhere"} for split in SPLITS]
    assert meanings[0] == meanings[1] == meanings[2]


def test_every_meaning_has_at_least_eight_wordings_in_training_unless_it_is_a_relation() -> None:
    queries = [q for q in all_queries("train") if q.relation is None]
    for meaning in {q.id for q in queries}:
        assert len({q.text for q in queries if q.id == meaning}) >= 8


def test_ids_are_slugs() -> None:
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", query.id) for query in all_queries("train"))


def test_demo_queries_are_decidable_tile_by_tile_and_one_target_is_absent() -> None:
    queries = demo_queries()
    assert len(queries) >= 6
    assert len({query.id for query in queries}) == len(queries)
    assert all(query.relation is None for query in queries)
    assert any(not query.kinds for query in queries)
    assert any(query.category == "reasoning" for query in queries)


@pytest.mark.parametrize(("relation", "wanted"), [("largest", 2), ("leftmost", 0), ("topmost", 1)])
def test_a_relation_singles_one_out(relation: str, wanted: int) -> None:
    lakes = [_instance(Kind.LAKE, 0, 90, 20), _instance(Kind.LAKE, 60, 0, 20), _instance(Kind.LAKE, 120, 120, 60)]
    query = WorldQuery("x", "x", "x", frozenset({Kind.LAKE}), "relation", relation)
    assert query.answer([_instance(Kind.ROAD, 0, 0, 200), *lakes]) == [lakes[wanted]]
    assert query.clear(lakes)


def test_a_relation_is_not_clear_between_equals() -> None:
    query = WorldQuery("x", "x", "x", frozenset({Kind.LAKE}), "relation", "largest")
    assert not query.clear([_instance(Kind.LAKE, 0, 0, 20), _instance(Kind.LAKE, 60, 0, 20)])


def test_a_target_of_which_only_a_sliver_shows_is_never_asked_for() -> None:
    draw = QueryDraw("train", np.random.default_rng(0))
    asked = [draw.draw([], {Kind.LAKE: 5}, absent=True) for _ in range(300)]
    assert not any(query is None or Kind.LAKE in query.kinds for query in asked)


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_samples_are_present_or_absent_as_asked(rate: float) -> None:
    for sample in samples("val", 6, rate):
        assert sample.mask.any() == bool(sample.instances) == (rate == 0.0)


def test_samples_are_the_same_every_time() -> None:
    first, second = ([(s.query.text, s.image.tobytes()) for s in samples("test", 3, 0.5)] for _ in range(2))
    assert first == second


def test_the_truth_is_the_union_of_the_instances_and_slivers() -> None:
    for sample in samples("train", 6, 0.0):
        union = np.logical_or.reduce([one.mask for one in sample.instances])
        assert not (union & ~sample.mask).any()
