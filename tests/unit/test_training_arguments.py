"""From settings to what TRL is told."""

from pathlib import Path

import pytest
import torch
from fakes import BoxSegmenter, fake_profile
from pydantic import ValidationError
from tiny_models import save_qwen2_5_vl
from transformers import TrainingArguments
from trl import GRPOConfig
from trl.import_utils import is_vllm_available

from t2s_core.errors import BadInput
from t2s_core.training.arguments import on_one_device, questions_per_process
from t2s_core.training.datasets.world import WorldExamples
from t2s_core.training.grpo import _config, _load, train
from t2s_core.training.settings import TrainSettings


def config(tmp_path: Path, **settings: object) -> GRPOConfig:
    return _config(tmp_path, TrainSettings.model_validate(settings), fake_profile())


@pytest.mark.parametrize(
    ("per_step", "per_pass", "processes", "want"),
    [(2, None, 1, (2, 1)), (4, 2, 1, (2, 2)), (8, None, 4, (2, 1)), (8, 1, 4, (1, 2)), (8, 4, 2, (4, 1))],
)
def test_a_step_is_shared_among_processes(
    monkeypatch: pytest.MonkeyPatch, per_step: int, per_pass: int | None, processes: int, want: tuple[int, int]
) -> None:
    monkeypatch.setattr("t2s_core.training.arguments.how_many", lambda: processes)
    settings = TrainSettings(questions_per_step=per_step, questions_per_pass=per_pass)
    assert questions_per_process(settings) == want


@pytest.mark.parametrize(("per_pass", "processes", "way_out"), [(2, 1, "use 2"), (None, 2, "use 2"), (1, 4, "use 4")])
def test_what_cannot_be_shared_evenly_is_refused(
    monkeypatch: pytest.MonkeyPatch, per_pass: int | None, processes: int, way_out: str
) -> None:
    monkeypatch.setattr("t2s_core.training.arguments.how_many", lambda: processes)
    with pytest.raises(BadInput, match=f"questions_per_step=3 is no multiple.*{way_out}"):
        questions_per_process(TrainSettings(questions_per_step=3, questions_per_pass=per_pass))


def test_a_process_trains_on_one_of_the_gpus_that_it_sees(tmp_path: Path) -> None:
    arguments = TrainingArguments(output_dir=str(tmp_path), use_cpu=True)
    arguments._n_gpu = 4
    assert on_one_device(arguments).n_gpu == 1


def test_transformers_samples_by_default(tmp_path: Path) -> None:
    assert not config(tmp_path).use_vllm


def test_vllm_samples_where_it_is_told_to(tmp_path: Path) -> None:
    beside = config(tmp_path, rollouts="vllm", vllm_memory=0.4)
    assert (beside.use_vllm, beside.vllm_mode, beside.vllm_gpu_memory_utilization) == (True, "colocate", 0.4)
    apart = config(tmp_path, rollouts="vllm", vllm_server="http://gpu-2:8000")
    assert (apart.use_vllm, apart.vllm_mode, apart.vllm_server_base_url) == (True, "server", "http://gpu-2:8000")


def test_a_server_that_nobody_asks_is_refused() -> None:
    with pytest.raises(ValidationError, match="would be asked nothing; add `rollouts: vllm`"):
        TrainSettings(vllm_server="http://gpu-2:8000")


def refused(tmp_path: Path) -> str:
    folder = tmp_path / "training"
    with pytest.raises(BadInput) as caught:
        train(
            tmp_path,
            profile=fake_profile(),
            segmenter=BoxSegmenter(),
            examples=WorldExamples("train", 4),
            folder=folder,
            settings=TrainSettings(rollouts="vllm"),
        )
    assert not folder.exists(), "found before anything is written"
    return str(caught.value)


@pytest.mark.skipif(is_vllm_available(), reason="vllm is installed here")
def test_vllm_that_is_missing_is_said_with_the_way_out(tmp_path: Path) -> None:
    assert "no usable vllm is installed" in (text := refused(tmp_path))
    assert "rollouts: transformers" in text


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_vllm_without_a_gpu_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("t2s_core.training.grpo.is_vllm_available", lambda: True)
    assert "no CUDA device" in refused(tmp_path)


def test_no_gradient_is_computed_in_a_frozen_vision_tower(tmp_path: Path) -> None:
    start = save_qwen2_5_vl(tmp_path)
    for frozen in (True, False):
        model, _ = _load(start, TrainSettings(freeze_vision=frozen))
        model.enable_input_require_grads()  # as TRL does under gradient checkpointing
        seen: list[bool] = []
        model.model.visual.register_forward_hook(
            lambda _module, _inputs, output, seen=seen: seen.append(output.pooler_output.requires_grad)
        )
        grid = torch.tensor([[1, 4, 4]])
        model.model.visual(torch.rand(16, 3 * 2 * 8 * 8), grid_thw=grid)
        assert seen == [not frozen]
