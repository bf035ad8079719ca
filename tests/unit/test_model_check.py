"""`t2s models check`: whole models pass, and each way of being broken fails its own check."""

from pathlib import Path

import numpy as np
import pytest
from fakes import BoxSegmenter, ScriptedPrompter, reply_text
from tiny_models import sam_model, save_qwen2_5_vl, save_segmenter

from t2s_core import model_check
from t2s_core.errors import MachineFault
from t2s_core.model_check import Check, check_models
from t2s_core.ports import InstanceLogits
from t2s_core.prompts import InstancePrompt

GOOD = reply_text([InstancePrompt((10, 10, 100, 100), ((20, 20), (40, 40)))])


def run(monkeypatch: pytest.MonkeyPatch, *, prompter: object = None, segmenter: object = None) -> dict[str, Check]:
    def load(model: object) -> object:
        if isinstance(model, Exception):
            raise model
        return model

    monkeypatch.setattr(
        model_check, "load_prompter", lambda *_, **__: load(prompter or ScriptedPrompter(lambda *_: GOOD))
    )
    monkeypatch.setattr(model_check, "load_segmenter", lambda *_, **__: load(segmenter or BoxSegmenter()))
    return {check.name: check for check in check_models("p", "s", device="cpu")}


def test_good_models_pass_every_check(monkeypatch: pytest.MonkeyPatch) -> None:
    checks = run(monkeypatch)
    assert list(checks) == ["prompter loads", "prompter answers", "segmenter loads", "segmenter segments"]
    assert all(check.ok for check in checks.values())
    assert "6 of 6 replies are in format" in checks["prompter answers"].detail
    assert 0 < checks["prompter answers"].seen["box_iou"] < 1
    assert checks["segmenter segments"].seen["masks_in_boxes"] == 1


def test_the_tiles_are_asked_what_they_show(monkeypatch: pytest.MonkeyPatch) -> None:
    prompter = ScriptedPrompter(lambda *_: GOOD)
    run(monkeypatch, prompter=prompter)
    queries = [request.query for call in prompter.calls for request in call]
    assert len(queries) == model_check.N_TILES
    assert all(query.startswith("the ") for query in queries)


@pytest.mark.parametrize(("n_bad", "ok"), [(0, True), (1, True), (2, False), (6, False)])
def test_replies_must_be_in_format(monkeypatch: pytest.MonkeyPatch, n_bad: int, ok: bool) -> None:
    prompter = ScriptedPrompter(lambda key, _: "I would rather not." if int(key) < n_bad else GOOD)
    check = run(monkeypatch, prompter=prompter)["prompter answers"]
    assert check.ok is ok
    assert f"{6 - n_bad} of 6 replies are in format" in check.detail
    assert ("I would rather not." in check.detail) is (n_bad > 0)


def test_a_model_that_does_not_load_fails_and_the_other_is_still_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    checks = run(monkeypatch, prompter=MachineFault("CUDA out of memory"))
    assert [(name, check.ok) for name, check in checks.items()] == [
        ("prompter loads", False),
        ("segmenter loads", True),
        ("segmenter segments", True),
    ]
    assert checks["prompter loads"].detail == "CUDA out of memory"


class Nan(BoxSegmenter):
    def _fill(self, prompt, frame):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
        return InstanceLogits(np.full((8, 8), np.nan, np.float32), 0.5)


class Elsewhere(BoxSegmenter):
    def _fill(self, prompt, frame):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
        return InstanceLogits(-super()._fill(prompt, frame).logits, 0.5)


class Empty(BoxSegmenter):
    def _fill(self, prompt, frame):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
        return InstanceLogits(np.full((8, 8), -5, np.float32), 0.5)


@pytest.mark.parametrize(
    ("segmenter", "said"),
    [(Nan(), "NaN or infinite"), (Elsewhere(), "0 of "), (Empty(), "0 of ")],
    ids=["nan", "elsewhere", "empty"],
)
def test_masks_must_be_finite_and_in_their_boxes(
    monkeypatch: pytest.MonkeyPatch, segmenter: BoxSegmenter, said: str
) -> None:
    check = run(monkeypatch, segmenter=segmenter)["segmenter segments"]
    assert not check.ok
    assert said in check.detail


def test_real_networks_say_where_and_how_they_run(tmp_path: Path) -> None:
    qwen = save_qwen2_5_vl(tmp_path / "qwen")
    sam = save_segmenter(tmp_path / "sam", sam_model())
    checks = {c.name: c for c in check_models(f"qwen_vl:{qwen}", f"sam_hf:{sam}", device="cpu")}
    for name in ("prompter loads", "segmenter loads"):
        assert checks[name].ok
        assert checks[name].seen["dtype"] == "float32"
        assert "float32 on cpu" in checks[name].detail
    # random weights: one babbles, the other paints the tile
    assert not checks["prompter answers"].ok
    assert not checks["segmenter segments"].ok


def test_the_bundled_segmenter_passes() -> None:
    checks = {c.name: c for c in check_models("qwen_vl:/no/such/place", "bundled", device="cpu")}
    assert not checks["prompter loads"].ok
    assert checks["segmenter segments"].ok, checks["segmenter segments"].detail
