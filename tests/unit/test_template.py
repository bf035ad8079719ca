import json
from pathlib import Path

import pytest

from t2s_core.errors import BadInput
from t2s_core.template import default_template, load_template


def test_default_template_asks_for_the_schema_in_the_models_convention() -> None:
    pixel = default_template(model_px=840, coordinates="pixel")
    for word in ("<think>", "</answer>", "bbox_2d", "positive_points", "840 x 840", "[]", "exactly 2 points"):
        assert word in pixel.user
    permille = default_template(model_px=832, coordinates="permille", points_per_instance=1)
    assert "0 to 1000" in permille.user
    assert "832" not in permille.user
    assert "exactly 1 point " in permille.user
    assert "[[x1, y1]]" in permille.user


def test_a_query_is_text_and_not_a_format() -> None:
    user = default_template(model_px=840, coordinates="pixel").user_text("roofs {of} %s {query} {0}")
    assert '"roofs {of} %s {query} {0}"' in user


def test_load_template(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    path.write_text(json.dumps({"system": "Look.", "user": "Find {query}!"}))
    assert load_template(path).user_text("a lake") == "Find a lake!"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ('{"system": "s", "user": "no place"}', "{query} exactly once"),
        ('{"system": "s", "user": "{query} {query}"}', "has it 2 times"),
        ('{"system": "s"}', "user"),
        ('{"system": "", "user": "{query}"}', "system"),
        ('{"system": "s", "user": "{query}", "extra": 1}', "extra"),
        ("not json", "JSON"),
        ("[]", "object"),
    ],
)
def test_faults_are_one_line_with_the_file(tmp_path: Path, content: str, why: str) -> None:
    path = tmp_path / "t.json"
    path.write_text(content)
    with pytest.raises(BadInput, match=r"t\.json") as caught:
        load_template(path)
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="No such file"):
        load_template(tmp_path / "missing.json")
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadInput, match=r"binary\.json"):
        load_template(tmp_path / "binary.json")
