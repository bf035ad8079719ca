"""Reinforcement on a GPU as `t2s train` does it: bfloat16, gradient checkpointing, adapters or all weights."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from t2s_core.errors import MachineFault
from t2s_core.registry import load_prompter, load_segmenter, prompter_directory, prompter_profile
from t2s_core.segmenters.sam_hf import HfSamSegmenter
from t2s_core.training.curves import CurveTable
from t2s_core.training.datasets.world import WorldExamples
from t2s_core.training.grpo import TrainOutcome, TrainStatus, train
from t2s_core.training.settings import Lora, TrainSettings

DEVICE = "cuda"
# 64 replies a step at a high temperature: not all of a group's score alike.
SETTINGS = TrainSettings(
    group_size=8, questions_per_step=8, questions_per_pass=4, learning_rate=1e-3, temperature=1.3, steps=2,
    dtype="bfloat16", gradient_checkpointing=True, max_new_tokens=64, held_out=0,
)  # fmt: skip
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device; this machine has none"),
]


def run(folder: Path, settings: TrainSettings) -> tuple[TrainOutcome, HfSamSegmenter]:
    segmenter = load_segmenter("bundled", device=DEVICE)
    assert isinstance(segmenter, HfSamSegmenter)
    outcome = train(
        prompter_directory("bundled"),
        profile=prompter_profile("bundled"),
        segmenter=segmenter,
        examples=WorldExamples("train", 64, 0.0),
        folder=folder,
        settings=settings,
    )
    return outcome, segmenter


def changed(folder: Path) -> set[str]:
    before = load_file(prompter_directory("bundled") / "model.safetensors")
    after = load_file(folder / "model" / "model.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.isfinite(weight).all() for weight in after.values())
    return {name for name in before if not torch.equal(before[name], after[name])}


@pytest.mark.parametrize("lora", [Lora(r=8), None], ids=["adapters", "all weights"])
def test_the_prompter_learns_and_the_segmenter_stays(tmp_path: Path, lora: Lora | None) -> None:
    outcome, segmenter = run(tmp_path, SETTINGS.model_copy(update={"lora": lora}))
    assert (outcome.status, outcome.steps) == (TrainStatus.FINISHED, 2)
    names = changed(tmp_path)
    assert any("language_model" in name for name in names)
    assert not any("visual" in name for name in names), "the vision tower is frozen by default"
    untouched = load_segmenter("bundled", device=DEVICE)
    assert isinstance(untouched, HfSamSegmenter)
    fresh = untouched._model.state_dict()
    assert all(torch.equal(weight, fresh[name]) for name, weight in segmenter._model.state_dict().items())
    norms = [value for _, name, value in CurveTable(tmp_path).rows if name == "grad_norm"]
    assert len(norms) == 2
    assert max(norms) > 0
    load_prompter(f"qwen_vl:{outcome.model}", device=DEVICE)


def test_memory_that_runs_out_is_the_machines_fault(tmp_path: Path) -> None:
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 200 * 2**20) / total)
    try:
        with pytest.raises(MachineFault, match="out of memory"):
            run(tmp_path, SETTINGS.model_copy(update={"group_size": 64, "questions_per_pass": 8}))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
