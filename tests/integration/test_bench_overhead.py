"""The benchmark of overhead measures what it says: its stand-ins run whole, and model time is left out."""

import bench_overhead
import bench_reading
import peers
import pytest


def test_a_small_one_runs_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("T2S_BENCH_SIDE_PX", "256")
    monkeypatch.setattr(bench_overhead, "REPEATS", 2)
    monkeypatch.setattr(bench_overhead, "RUNS", 1)
    found = bench_overhead.measure()
    details = found["details"]
    assert 0 < found["value"] < 1
    assert (details["n_tiles"], details["stand_ins"]["n_tiles"]) == (1, 9)
    assert 0 < details["inside_models_s"][0] < details["wall_s"][0]
    assert details["ms_per_tile_without_target"] > 0
    assert details["mpx_per_s_with_three_objects_per_tile"] > 0


def test_a_peer_that_is_not_there_is_named_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "PYTHON", peers.PYTHON.with_name("none"))
    assert "make peers" in str(bench_reading.missing())
