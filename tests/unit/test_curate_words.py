"""Names of labels: columns, templates, class values, phrasings."""

import json
from pathlib import Path

import pytest

from pipeline.curate_words import (
    cell_text,
    filled,
    key_of,
    read_class_values,
    read_phrasings,
    template_fields,
    vocabulary,
)
from pipeline.queries import Query
from t2s_core.errors import BadInput


def test_a_template_takes_columns_and_a_row_that_lacks_one_says_nothing() -> None:
    assert filled("the {colour} {class}", {"colour": "red", "class": " roof ", "x": 1}) == "the red roof"
    assert filled("the {class}", {"class": None}) is None
    assert filled("the {class}", {"class": float("nan")}) is None
    assert filled("type {code}", {"code": 3.0}) == "type 3"
    assert filled("{{the}} {class}", {"class": "lake"}) == "{the} lake"


@pytest.mark.parametrize("template", ["the {}", "{class!r}", "{class:>9}", "no field", "{class"])
def test_a_template_is_columns_and_nothing_else(template: str) -> None:
    with pytest.raises(BadInput, match=r"write e\.g\. 'the \{class\}'"):
        template_fields(template)


def test_a_template_reaches_into_no_object() -> None:
    assert template_fields("{class.__init__}") == ["class.__init__"], "a column's name, which no table has"


def test_cells_as_texts() -> None:
    assert [cell_text(v) for v in (3, 3.0, 2.5, " lake ")] == ["3", "3", "2.5", "lake"]
    assert key_of("The  Lake ") == key_of("the lake")
    assert key_of("cafe\u0301") == key_of("caf\u00e9"), "a query is asked in composed characters"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[1]", "no mapping"),
        ("{}", "no mapping"),
        ('{"1": 2}', "value 1"),
        ("{", "cannot be read"),
        (None, "No such file"),
    ],
)
def test_bad_class_values(tmp_path: Path, text: str | None, problem: str) -> None:
    path = tmp_path / "values.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(BadInput, match=problem):
        read_class_values(str(path))


@pytest.mark.parametrize(
    ("text", "problem"),
    [("- a", "no mapping"), ("lake: water", "no list"), ("lake: [1]", "no list"), ("a: [", "cannot be read"),
     ("!!python/object:os.system {}", "cannot be read")],
)  # fmt: skip
def test_bad_phrasings(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "phrasings.yaml"
    path.write_text(text)
    with pytest.raises(BadInput, match=problem):
        read_phrasings(str(path))


def test_class_values_and_phrasings_are_read(tmp_path: Path) -> None:
    (tmp_path / "v.json").write_text(json.dumps({"1": "the  lake", " 2": "a road"}))
    assert read_class_values(str(tmp_path / "v.json")) == {"1": "the lake", "2": "a road"}
    (tmp_path / "p.yaml").write_text("the lake:\n- open  water\n- where can I swim?\n")
    assert read_phrasings(str(tmp_path / "p.yaml")) == {"the lake": ["open water", "where can I swim?"]}


def test_a_vocabulary_joins_labels_and_a_run() -> None:
    known = [Query(query_id="water", text="the water", label="Water")]
    words = vocabulary(known, {"The water": "w", "the lake": "lake"}, {"the LAKE": ["open water", "The Lake"]})
    assert {q.query_id for q in words.queries.values()} == {"water", "the-lake"}
    assert words.texts == {"the water": ("the water",), "the lake": ("the lake", "open water")}
    assert words.categories == {"the water": "w", "the lake": "lake"}


@pytest.mark.parametrize(
    ("named", "phrasings", "problem"),
    [
        (["the lake"], {"the pond": ["water"]}, "nothing is labelled with"),
        (["the lake", "the sea"], {"the lake": ["The Sea"]}, "asks for two queries"),
        (["the lake", "the sea"], {"the lake": ["water"], "the sea": ["water"]}, "asks for two queries"),
        (["the lake"], {"the lake": [""]}, "is empty"),
        (["x" * 501], {}, "more than 500"),
        (["the lake!", "the lake?"], {}, "stands for both"),
        (["the-water"], {}, "query_id=the-water stands for"),
    ],
)
def test_words_that_cannot_be_asked(named: list[str], phrasings: dict[str, list[str]], problem: str) -> None:
    known = [Query(query_id="the-water", text="the water")]
    with pytest.raises(BadInput, match=problem):
        vocabulary(known, {text: text for text in named}, phrasings)
