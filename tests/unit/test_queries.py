"""Queries from texts and files; every problem at once."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.queries import MAX_CHARACTERS, Query, parse_queries
from pipeline.slugs import is_slug
from t2s_core.errors import BadInput


def problems_of(texts: list[str], file: Path | None = None) -> str:
    with pytest.raises(BadInput) as caught:
        parse_queries(texts, file)
    assert all("\n" not in problem for problem in caught.value.problems)
    return str(caught.value)


def test_ids_are_readable_and_depend_on_the_text_alone() -> None:
    queries = parse_queries(["Where could a seaplane land?", "水はどこ", "3 boats"])
    assert [q.query_id for q in queries][::2] == ["where-could-a-seaplane-land", "q-3-boats"]
    assert parse_queries(["水はどこ"])[0].query_id == queries[1].query_id


@given(st.text(min_size=1, max_size=MAX_CHARACTERS))
def test_any_text_is_a_query_or_a_problem(text: str) -> None:
    try:
        (query,) = parse_queries([text])
    except BadInput:
        return
    assert is_slug(query.query_id)
    assert query.text == " ".join(query.text.split())
    assert Query.model_validate_json(query.model_dump_json()) == query
    assert parse_queries([query.text]) == (query,)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("q.yaml", "- water\n- query: tall trees\n  query_id: trees\n  label: tree\n  threshold: 0.4\n"),
        ("q.yml", "queries:\n- query: water\n- {query: tall trees, query_id: trees, label: tree, threshold: 0.4}\n"),
        ("q.json", '["water", {"query": "tall trees", "query_id": "trees", "label": "tree", "threshold": 0.4}]'),
        ("q.csv", "\ufeffquery,query_id,label,threshold\nwater,,,\ntall trees,trees,tree,0.4\n"),
    ],
)
def test_all_formats_say_the_same(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    assert parse_queries([], tmp_path / name) == (
        Query(query_id="water", text="water"),
        Query(query_id="trees", text="tall trees", label="tree", threshold=0.4),
    )


def test_texts_come_before_the_file(tmp_path: Path) -> None:
    (tmp_path / "q.json").write_text('["b"]')
    assert [q.text for q in parse_queries(["a"], tmp_path / "q.json")] == ["a", "b"]


def test_every_problem_is_listed(tmp_path: Path) -> None:
    entries = [
        {"query": "a", "query_id": "Not A Slug"},
        {"query": "b", "threshold": 1},
        {"query": "c", "colour": "red"},
        {"query": 5},
        {"query": "d", "threshold": "high"},
    ]
    (tmp_path / "q.json").write_text(json.dumps(entries))
    found = problems_of([" ", "x" * 501, "bell\x07", "Boats", "boats", "b c", "b-c"], tmp_path / "q.json")
    for part in (
        "is empty", "501 characters, more than 500", "U+0007", "'boats' is given twice",
        "query_id=b-c stands for both 'b c' and 'b-c'", "q.json #1: query_id='Not A Slug' not a slug",
        "q.json #2: threshold=1 is not between 0 and 1", "q.json #3: unknown key colour", "q.json #4: query=5 is no",
        "q.json #5: threshold='high' is not between",
    ):  # fmt: skip
        assert part in found
    assert len(found.splitlines()) == 10


@pytest.mark.parametrize(
    ("name", "content", "part"),
    [
        ("q.toml", "", "queries come from .yaml"),
        ("q.json", "{", "cannot be read"),
        ("q.yaml", "a: [", "cannot be read"),
        ("q.yaml", "a: b", "not a list of queries"),
        ("q.yaml", "!!python/object/apply:os.getcwd []", "cannot be read"),
        ("q.json", "[]", "holds no query"),
        ("q.csv", "text\nwater\n", "no column `query`"),
        ("q.csv", "query\nwater, clear\n", "more cells"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, name: str, content: str, part: str) -> None:
    (tmp_path / name).write_text(content)
    assert part in problems_of([], tmp_path / name)


def test_no_query_at_all() -> None:
    assert "use --query TEXT" in problems_of([])
    assert "No such file" in problems_of([], Path("/nowhere/q.json"))


def test_text_that_looks_different_from_what_it_is_is_refused() -> None:
    assert "U+202E" in problems_of(["boats\u202estaob"])


def test_rules_of_features_come_with_a_query(tmp_path: Path) -> None:
    file = tmp_path / "questions.csv"
    file.write_text("query,mode,min_area_m2,simplify_m\nthe roofs,instance,12.5,\nthe lake,,,2\n")
    roofs, lake = parse_queries([], file)
    assert (roofs.mode, roofs.min_area_m2, roofs.simplify_m) == ("instance", 12.5, None)
    assert (lake.mode, lake.min_area_m2, lake.simplify_m) == (None, None, 2.0)
    file.write_text("query,mode,min_area_m2\na,panoptic,1\nb,semantic,-1\n")
    with pytest.raises(BadInput) as caught:
        parse_queries([], file)
    assert [text.partition(": ")[2].partition(" ")[0] for text in caught.value.problems] == [
        "mode='panoptic'", "min_area_m2=-1.0"
    ]  # fmt: skip
