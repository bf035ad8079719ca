"""The benchmark of the engine on a GPU, run at its smallest: what it will do there, it does here."""

import importlib
from types import ModuleType

import pytest
import torch


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    return importlib.import_module("bench_gpu")


@pytest.mark.parametrize("graphs", [False, True])
def test_engine_and_plain_loop_are_asked_the_same(bench: ModuleType, graphs: bool) -> None:
    sizes = bench.Sizes(tiles=3, plain_tiles=2, new_tokens=5, queries=2, runs=1, graphs=graphs)
    result = bench.measure_shape("tiny", sizes)
    details = result["details"]
    assert result["ratio"] > 0
    for numbers in details["engine"].values():
        assert numbers["tile_queries_per_s"] > 0
        assert numbers["generated_tokens_per_s"] > 0
        assert min(numbers["prompting_s"], numbers["encoding_s"], numbers["decoding_s"]) > 0
    assert [numbers["tile_queries"] for numbers in details["plain"].values()] == [2, 4]
    assert details["prefill"]["images"] == 3
    assert details["prefill"]["tflop_for_an_image"] > 0


def test_the_segmenter_has_the_published_shape(bench: ModuleType) -> None:
    with torch.device("meta"):
        model = bench.Sam2Model(bench.Sam2Config(**bench.SAM["3b"]))
    trunk = sum(parameter.numel() for parameter in model.vision_encoder.backbone.parameters())
    assert 33e6 < trunk < 35e6  # Hiera-S: 34 million
    assert model.config.prompt_encoder_config.image_size == 1024


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_without_a_gpu_it_says_so(bench: ModuleType) -> None:
    assert bench.missing() == "no GPU"
    with pytest.raises(SystemExit, match="no GPU"):
        bench.measure()


def test_cards_have_their_limits(bench: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, limit in (("NVIDIA H100 80GB HBM3", 989), ("NVIDIA H200", 989), ("NVIDIA H100 PCIe", 756), ("T4", None)):
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda name=name: name)
        assert bench._limit_tflop_s() == limit


def test_time_that_several_kernels_share_counts_once(bench: ModuleType) -> None:
    assert bench.union_us([]) == 0
    assert bench.union_us([(5, 9), (0, 4), (1, 2), (3, 6)]) == 9
