"""The benchmark of eight questions a tile, with two tiles: both loops and the engine say the same."""

import importlib

import pytest


def test_all_ways_to_ask_give_the_same_replies(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = importlib.import_module("bench_queries")
    monkeypatch.setenv("T2S_BENCH_TILES", "2")
    monkeypatch.setattr(bench, "RUNS", 1)
    result = bench.measure()
    assert result["ratio"] > 0
    assert result["details"]["same_replies_as_the_plain_loop"] == 1
    assert result["details"]["same_replies_as_runs_of_one_query"] == 1
    assert result["details"]["objects"] > 0
