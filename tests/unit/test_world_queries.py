"""Questions about the drawn world: splits, meanings, answers."""

import hashlib
import re
from collections import Counter

import numpy as np
import pytest

from t2s_core.world.classes import Kind
from t2s_core.world.nonsense import nonsense
from t2s_core.world.nowhere import NOWHERE, NOWHERE_CLUES, NOWHERE_REASONS
from t2s_core.world.queries import FIRST_SEED, QueryDraw, Split, WorldQuery, all_queries, demo_queries
from t2s_core.world.samples import samples
from t2s_core.world.tiles import Instance

SPLITS: tuple[Split, ...] = ("train", "val", "test")


def _instance(kind: Kind, x: int, y: int, side: int) -> Instance:
    mask = np.zeros((256, 256), np.bool_)
    mask[y : y + side, x : x + side] = True
    return Instance(kind, (x, y, x + side, y + side), ((x + 1, y + 1), (x + 2, y + 2)), mask)


def test_no_wording_is_in_two_splits() -> None:
    texts = [{query.text.lower().rstrip("?") for query in all_queries(split)} for split in SPLITS]
    assert not texts[0] & texts[1]
    assert not texts[0] & texts[2]
    assert not texts[1] & texts[2]


@pytest.mark.parametrize(
    ("split", "count", "digest"), [("val", 214, "383011926daa2e5e"), ("test", 309, "f9bdea7fa0413c81")]
)
def test_wordings_that_scores_are_measured_on_stay_as_they_are(split: Split, count: int, digest: str) -> None:
    """A score on other sentences is another score: whoever changes these must measure every model again."""
    texts = [query.text for query in all_queries(split)]
    assert len(texts) == count
    assert hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16] == digest


def test_a_training_sentence_is_there_once_and_all_of_them_are_few_enough_to_make_a_tokenizer_of() -> None:
    texts = [query.text for query in all_queries("train")]
    assert len(set(texts)) == len(texts)
    assert 40_000 < len(texts) < 60_000


def test_every_class_is_asked_for_by_many_nouns_and_clues() -> None:
    for kind in set(Kind) - {Kind.GROUND}:
        asked = [query for query in all_queries("train") if query.kinds == {kind} and query.relation is None]
        assert len({query.about for query in asked if query.category == "direct"}) >= 10
        assert len({query.about for query in asked if query.category == "reasoning"}) >= 50


def test_no_word_that_only_val_and_test_call_absent_is_trained() -> None:
    trained = {word for query in all_queries("train") for word in re.findall("[a-z]+", query.text.lower())}
    assert not trained & {"golf", "vineyard", "wine", "grapes", "windmill", "dam", "monument"}
    assert not any(noun in query.text for query in all_queries("train") for noun in NOWHERE["test"])


def test_words_without_meaning_are_words_of_no_other_question() -> None:
    words = {
        word for split in SPLITS for q in all_queries(split) if q.about not in nonsense() for word in q.text.split()
    }
    assert len(set(nonsense())) == 300
    assert all(set(phrase.split()) - words for phrase in nonsense())


def test_nouns_questions_and_nonsense_of_what_is_nowhere_are_each_drawn() -> None:
    draw = QueryDraw("train", np.random.default_rng(0))
    asked = [query for query in (draw.draw([], {}, absent=True) for _ in range(6_000)) if query and not query.kinds]
    family = {
        **dict.fromkeys(NOWHERE["train"], "noun"),
        **dict.fromkeys(nonsense(), "nonsense"),
        **dict.fromkeys((*NOWHERE_REASONS, *(clue for clues in NOWHERE_CLUES.values() for clue in clues)), "question"),
    }
    counts = Counter(family[query.about] for query in asked)
    assert len(counts) == 3
    assert min(counts.values()) > 0.15 * len(asked)


def test_a_whole_question_is_drawn_as_often_as_a_clue_that_has_many_sentences() -> None:
    draw = QueryDraw("train", np.random.default_rng(0))
    asked = [draw.draw([_instance(Kind.LAKE, 0, 0, 9)], {}, absent=False) for _ in range(3_000)]
    sentences = Counter(
        query.about for query in all_queries("train") if (query.id, query.category) == ("lake", "reasoning")
    )
    drawn = Counter(query.about for query in asked if query and (query.id, query.category) == ("lake", "reasoning"))
    single = [drawn[about] for about, count in sentences.items() if count == 1]
    many = [drawn[about] for about, count in sentences.items() if count > 1]
    assert 0.75 < np.mean(single) / np.mean(many) < 1.33


def test_seeds_of_splits_do_not_meet() -> None:
    assert FIRST_SEED["train"] < FIRST_SEED["val"] < FIRST_SEED["test"]


def test_every_meaning_but_nowhere_is_asked_in_every_split() -> None:
    meanings = [{q.id for q in all_queries(split) if q.category != "nowhere"} for split in SPLITS]
    assert meanings[0] == meanings[1] == meanings[2]


def test_every_meaning_has_at_least_eight_wordings_in_training_unless_it_is_a_relation() -> None:
    assert min(Counter(q.id for q in all_queries("train") if q.relation is None).values()) >= 8


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
