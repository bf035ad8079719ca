import json
from pathlib import Path

import pytest
from fakes import fake_profile

from t2s_core.errors import BadInput
from t2s_core.profiles import read_prompter_profile, read_segmenter_profile


def test_profiles_round_trip_through_json(tmp_path: Path) -> None:
    profile = fake_profile(coordinates="permille", max_instances=3)
    (tmp_path / "profile.json").write_text(profile.model_dump_json())
    assert read_prompter_profile(tmp_path / "profile.json") == profile
    assert profile.reply_px == 1000
    assert fake_profile(model_px=840).reply_px == 840


def test_all_faults_are_named(tmp_path: Path) -> None:
    content = fake_profile().model_dump(mode="json") | {"model_px": 0, "coordinates": "metres", "surprise": 1}
    (tmp_path / "profile.json").write_text(json.dumps(content))
    with pytest.raises(BadInput) as caught:
        read_prompter_profile(tmp_path / "profile.json")
    for word in ("profile.json", "model_px", "coordinates", "surprise"):
        assert word in str(caught.value)


def test_a_missing_profile_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"needs a profile\.json"):
        read_segmenter_profile(tmp_path / "profile.json")
