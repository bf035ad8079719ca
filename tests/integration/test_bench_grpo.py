"""The benchmark of the 3B shape, run at its smallest: what it will do on a GPU, it does here."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch

FILE = Path(__file__).parents[2] / "benchmarks" / "bench_grpo_3b.py"


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_grpo_3b", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_reply_runs_to_the_limit_and_a_gradient_flows(bench: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("T2S_GRPO_3B", '{"group_size": 2, "questions_per_step": 1, "max_new_tokens": 4, "steps": 2}')
    result = bench.measure_shape("tiny", bench.SETTINGS)
    details = result["details"]
    assert result["value"] > 0
    assert result["runs"] == 1
    assert details["settings"]["lora"]["r"] == 8
    assert details["reply_tokens"] == [4, 4]
    assert len(details["generate_s"]) == len(details["step_s"]) == 2
    assert all(norm > 0 for norm in details["grad_norm"])


def test_the_shape_has_the_published_number_of_parameters(bench: ModuleType) -> None:
    with torch.device("meta"):
        config = bench.Qwen2_5_VLConfig(
            text_config=bench.TEXT["3b"] | {"tie_word_embeddings": True},
            vision_config=bench.VISION["3b"],
            tie_word_embeddings=True,
        )
        model = bench.Qwen2_5_VLForConditionalGeneration(config)
    assert sum(parameter.numel() for parameter in model.parameters()) == 3_754_622_976


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_without_a_gpu_it_says_what_it_needs(bench: ModuleType) -> None:
    with pytest.raises(SystemExit, match="needs a CUDA device with about"):
        bench.measure()
