"""A night with fakes of its two long steps: promotion, refusal, and a crash at every step."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import save_qwen2_5_vl

from pipeline.evaluation import EvaluationSpec
from pipeline.model_registry import Registry
from pipeline.nightly import NightOutcome, NightSpec, Steps, run_night
from pipeline.nightly_gate import Sample
from pipeline.training import TrainSpec
from t2s_core.errors import BadInput, MachineFault
from t2s_core.training.grpo import TrainOutcome, TrainStatus


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_qwen2_5_vl(tmp_path_factory.mktemp("start"))


class Fakes:
    """`gain` is what training brings. Fails once where it is told to."""

    def __init__(self, start: Path, gain: float = 0.1, fail_at: str = "") -> None:
        self.start, self.gain, self.fail_at = start, gain, fail_at
        self.calls: list[str] = []
        self.status = TrainStatus.FINISHED

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if self.fail_at == name:
            self.fail_at = ""
            raise MachineFault(f"{name}: the power is gone")

    def train(self, spec: TrainSpec, folder: Path, device: str) -> TrainOutcome:
        self._call("train")
        shutil.copytree(self.start, folder / "model", dirs_exist_ok=True)
        weights = load_file(folder / "model" / "model.safetensors")
        save_file({k: v + torch.rand(()) for k, v in weights.items()}, folder / "model" / "model.safetensors")
        outcome = TrainOutcome(self.status, "", 7, str(folder / "model"), ())
        (folder / "outcome.json").write_text(json.dumps(asdict(outcome)))
        return outcome

    def evaluate(self, spec: EvaluationSpec, out: str, device: str) -> dict[str, Any]:
        name = Path(out).name
        self._call(name)
        gain = self.gain if name == "challenger" else 0.0
        rows = [asdict(Sample(str(i), 0.5 + gain, 100, 90)) for i in range(40)]
        rows += [asdict(Sample(f"a{i}", 1.0, 0, 0)) for i in range(10)]
        Path(out).mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(rows), Path(out) / "samples.parquet")
        (Path(out) / "scores.json").write_text(
            json.dumps({"fingerprint": "0123456789abcdef", "prompter": spec.prompter})
        )
        return {}

    def night(self, registry: Path, folder: Path) -> NightOutcome:
        spec = NightSpec(registry=str(registry), start=f"qwen_vl:{self.start}", dataset="world")
        return run_night(spec, folder, Steps(curate=no_curation, train=self.train, evaluate=self.evaluate))


def no_curation(*_: object) -> dict[str, Any]:
    raise AssertionError("nothing is to be curated")


def test_a_better_challenger_becomes_champion_and_the_next_night_starts_from_it(start: Path, tmp_path: Path) -> None:
    registry = tmp_path / "registry"
    first = Fakes(start).night(registry, tmp_path / "monday")
    assert first.champion == first.challenger == Registry.at(str(registry)).champion()
    second = Fakes(start, gain=-0.1).night(registry, tmp_path / "tuesday")
    assert not second.decision.promote
    assert second.champion == first.challenger != second.challenger
    record = Registry.at(str(registry)).record(second.challenger)
    assert record.parent.endswith(f"#{first.challenger}")
    assert json.loads((tmp_path / "tuesday" / "champion" / "scores.json").read_text())["prompter"] == record.parent


@pytest.mark.parametrize("step", ["train", "champion", "challenger"])
def test_after_a_crash_the_same_call_goes_on(start: Path, tmp_path: Path, step: str) -> None:
    fakes = Fakes(start, fail_at=step)
    with pytest.raises(MachineFault, match="power"):
        fakes.night(tmp_path / "registry", tmp_path / "night")
    before = list(fakes.calls)
    assert fakes.night(tmp_path / "registry", tmp_path / "night").decision.promote
    assert fakes.calls == [*before, *["train", "champion", "challenger"][len(before) - 1 :]]


def _die(*_: object, **__: object) -> None:
    raise MachineFault("the power is gone")


@pytest.mark.parametrize("method", ["publish", "promote"])
def test_a_crash_between_the_registry_s_steps_publishes_once(
    start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    fakes = Fakes(start)
    with monkeypatch.context() as patch:
        patch.setattr(Registry, method, _die)
        with pytest.raises(MachineFault):
            fakes.night(tmp_path / "registry", tmp_path / "night")
    outcome = fakes.night(tmp_path / "registry", tmp_path / "night")
    assert [one.version for one in Registry.at(str(tmp_path / "registry")).versions()] == [outcome.challenger]
    assert outcome.champion == outcome.challenger


def test_a_finished_night_is_not_done_again(start: Path, tmp_path: Path) -> None:
    monday = Fakes(start).night(tmp_path / "registry", tmp_path / "monday")
    tuesday = Fakes(start).night(tmp_path / "registry", tmp_path / "tuesday")
    again = Fakes(start)
    assert again.night(tmp_path / "registry", tmp_path / "monday") == monday
    assert again.calls == []
    assert Registry.at(str(tmp_path / "registry")).champion() == tuesday.challenger


def test_a_stopped_training_publishes_nothing(start: Path, tmp_path: Path) -> None:
    fakes = Fakes(start)
    fakes.status = TrainStatus.STOPPED
    with pytest.raises(RuntimeError, match="training was stopped"):
        fakes.night(tmp_path / "registry", tmp_path / "night")
    assert Registry.at(str(tmp_path / "registry")).versions() == []


def test_a_folder_holds_one_night(start: Path, tmp_path: Path) -> None:
    Fakes(start).night(tmp_path / "registry", tmp_path / "night")
    with pytest.raises(BadInput, match="another spec"):
        Fakes(start).night(tmp_path / "other", tmp_path / "night")
