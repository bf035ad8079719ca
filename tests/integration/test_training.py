"""Reinforcement from masks alone, with a tiny random prompter: what must hold whatever it learns."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from fakes import BoxEmbeddings, BoxSegmenter
from safetensors.torch import load_file
from tiny_models import save_qwen2_5_vl

from t2s_core.errors import BadInput, MachineFault
from t2s_core.ports import Prompter, RawReply
from t2s_core.profiles import read_prompter_profile
from t2s_core.prompts import InstancePrompt
from t2s_core.registry import load_prompter
from t2s_core.training.curves import CurveTable
from t2s_core.training.examples import BadExample, Example
from t2s_core.training.grpo import TrainOutcome, TrainStatus, train
from t2s_core.training.settings import Lora, TrainSettings, Watch

SETTINGS = TrainSettings(
    group_size=4, questions_per_step=2, learning_rate=1e-3, steps=4, save_steps=2, dtype="float32", held_out=0,
    max_new_tokens=6, kl_weight=0.01,
)  # fmt: skip


@dataclass
class Squares:
    """A white square on black, or nothing where the number divides by four; one example is bad."""

    n: int = 12
    bad: frozenset[int] = frozenset({5})
    name: str = "squares/train"
    fingerprint: str = "0123456789abcdef"

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> Example:
        if index in self.bad:
            raise BadExample(f"squares/{index}: has no image")
        mask = np.zeros((64, 64), np.bool_)
        mask[8 + index : 40, 8:40] = index % 4 != 0
        image = np.repeat((255 * mask).astype(np.uint8)[..., None], 3, axis=2)
        return Example(str(index), str(index), image, f"the square {index}", "", mask)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_qwen2_5_vl(tmp_path_factory.mktemp("start"))


def run(start: Path, folder: Path, settings: TrainSettings = SETTINGS, **changes: object) -> TrainOutcome:
    arguments: dict[str, object] = {"segmenter": BoxSegmenter(), "examples": Squares()} | changes
    profile = read_prompter_profile(start / "profile.json")
    with pytest.MonkeyPatch.context() as patch:
        # A random model writes noise, all of it worth nothing: here its letters are worth something, so that it learns.
        patch.setattr("t2s_core.rewards.MaskReward.iou", by_letters)
        return train(start, profile=profile, folder=folder, settings=settings, **arguments)  # type: ignore[arg-type]


def by_letters(_: object, examples: list[Example], replies: list[RawReply]) -> list[float]:
    assert len(examples) == len(replies)
    return [sum(map(ord, reply.text)) % 97 / 97 for reply in replies]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model" / "model.safetensors")


@pytest.fixture(scope="module")
def trained(start: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainOutcome]:
    folder = tmp_path_factory.mktemp("trained")
    return folder, run(start, folder)


def test_it_ends_with_a_model_that_differs_and_loads(start: Path, trained: tuple[Path, TrainOutcome]) -> None:
    folder, outcome = trained
    assert (outcome.status, outcome.steps) == (TrainStatus.FINISHED, 4)
    before, after = load_file(start / "model.safetensors"), weights(folder)
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert not any("visual" in name for name in changed), "the vision tower is frozen by default"
    load_prompter(f"qwen_vl:{folder / 'model'}")


def test_bad_examples_are_named(trained: tuple[Path, TrainOutcome]) -> None:
    assert trained[1].bad_examples in ((), ("squares/5: has no image",))


def test_curves_have_every_step_and_a_picture(trained: tuple[Path, TrainOutcome]) -> None:
    folder = trained[0]
    rows = CurveTable(folder).rows
    assert [step for step, name, _ in rows if name == "reward"] == [1, 2, 3, 4]
    assert {"rewards/mask_reward/mean", "kl", "completions/mean_length"} <= {name for _, name, _ in rows}
    assert (folder / "curves.png").stat().st_size > 1000


def test_a_killed_training_resumes_to_the_same_weights(
    start: Path, trained: tuple[Path, TrainOutcome], tmp_path: Path
) -> None:
    class Killed(Exception):
        pass

    class DyingSquares(Squares):
        asked = 0

        def __getitem__(self, index: int) -> Example:
            type(self).asked += 1
            if type(self).asked > 7:  # 2 questions a step: in the fourth
                raise Killed
            return super().__getitem__(index)

    with pytest.raises(Killed):
        run(start, tmp_path, examples=DyingSquares())
    assert (tmp_path / "checkpoints" / "checkpoint-2").is_dir()
    run(start, tmp_path)
    assert DyingSquares.asked > 7
    want, got = weights(trained[0]), weights(tmp_path)
    assert all(torch.equal(want[name], got[name]) for name in want)
    steps = [step for step, name, _ in CurveTable(tmp_path).rows if name == "reward"]
    assert steps == [1, 2, 3, 4]


def test_another_training_is_not_mixed_into_a_folder(start: Path, trained: tuple[Path, TrainOutcome]) -> None:
    with pytest.raises(BadInput, match="another learning_rate"):
        run(start, trained[0], SETTINGS.model_copy(update={"learning_rate": 1e-5}))


def test_more_steps_go_on(start: Path, trained: tuple[Path, TrainOutcome]) -> None:
    outcome = run(start, trained[0], SETTINGS.model_copy(update={"steps": 5}))
    assert outcome.steps == 5


class _Broken(BoxSegmenter):
    def encode(self, images: object) -> BoxEmbeddings:
        raise MachineFault("the GPU is gone")


def test_a_broken_machine_stops_the_training(start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A random model's replies hold no box, so the segmenter would never be asked.
    monkeypatch.setattr("t2s_core.rewards.MaskReward._prompts", lambda *_: [InstancePrompt((1, 1, 9, 9), ((4, 4),))])
    profile = read_prompter_profile(start / "profile.json")
    with pytest.raises(MachineFault, match="the GPU is gone"):
        train(start, profile=profile, segmenter=_Broken(), examples=Squares(), folder=tmp_path, settings=SETTINGS)


def test_a_run_in_which_all_replies_score_alike_is_stopped(start: Path, tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"watch": Watch(flat_steps=2), "steps": 50})
    profile = read_prompter_profile(start / "profile.json")
    outcome = train(
        start, profile=profile, segmenter=BoxSegmenter(), examples=Squares(), folder=tmp_path, settings=settings
    )
    assert outcome.status is TrainStatus.STOPPED
    assert "scored alike" in outcome.reason
    assert outcome.steps == 2
    assert json.loads((tmp_path / "outcome.json").read_text())["status"] == "stopped"
    assert (tmp_path / "model" / "model.safetensors").is_file()


def test_a_budget_pauses_with_a_checkpoint(start: Path, tmp_path: Path) -> None:
    outcome = run(start, tmp_path, SETTINGS.model_copy(update={"minutes": 1e-6, "save_steps": 50}))
    assert (outcome.status, outcome.steps) == (TrainStatus.PAUSED, 1)
    assert (tmp_path / "checkpoints" / "checkpoint-1").is_dir()
    assert run(start, tmp_path, SETTINGS.model_copy(update={"save_steps": 50})).steps == 4


def test_held_out_scores_join_the_curves_and_change_nothing(
    start: Path, trained: tuple[Path, TrainOutcome], tmp_path: Path
) -> None:
    def measure(prompter: Prompter) -> dict[str, float]:
        torch.rand(3)
        return {"giou": 0.5 if prompter.version else 0.0}

    settings = SETTINGS.model_copy(update={"held_out": 1, "held_out_steps": 2})
    run(start, tmp_path, settings, measure=measure)
    measured = [(step, value) for step, name, value in CurveTable(tmp_path).rows if name == "held_out/giou"]
    assert measured == [(0, 0.5), (2, 0.5), (4, 0.5)]


def test_adapters_are_merged_into_the_model(start: Path, tmp_path: Path) -> None:
    outcome = run(start, tmp_path, SETTINGS.model_copy(update={"lora": Lora(r=2), "steps": 1}))
    assert outcome.status is TrainStatus.FINISHED
    assert weights(tmp_path).keys() == load_file(start / "model.safetensors").keys()


def test_the_supervised_stage_comes_first_and_is_kept(start: Path, tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"supervised_steps": 2, "steps": 1, "supervised_learning_rate": 1e-3})
    run(start, tmp_path, settings)
    before = load_file(start / "model.safetensors")
    between = load_file(tmp_path / "supervised-model" / "model.safetensors")
    assert any(not torch.equal(before[name], between[name]) for name in before)
    written = (tmp_path / "supervised-model" / "model.safetensors").stat().st_mtime_ns
    run(start, tmp_path, settings)
    assert (tmp_path / "supervised-model" / "model.safetensors").stat().st_mtime_ns == written
