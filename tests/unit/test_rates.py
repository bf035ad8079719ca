"""What a run took predicts the next one."""

from typing import Any

import pytest

from pipeline.plan import ModelVersions
from pipeline.rates import RateBook, Rates, rates_of
from pipeline.spec import Models
from pipeline.storage import Store

VERSIONS = ModelVersions(Models(), "p@1", "s@1")


def manifest(**timings: Any) -> dict[str, Any]:
    workers = {
        "loading": 8.0, "reading": 1.0, "prompting": 60.0, "encoding": 20.0, "decoding": 10.0, "writing": 1.0,
        "stitching": 6.0, "vectorising": 3.0, "publishing": 1.0, "idle": 2.0,
    }  # fmt: skip
    return {
        "run_id": "r1",
        "history": [{"computed": 500, "n_tokens": 10_000}],
        "timings": {
            "wall_s": 62.0, "n_workers": 2, "stitched_mpx": 100.0, "busy_s": {"segment": 108.0}, "workers_s": workers,
            **timings,
        },
    }  # fmt: skip


def rates() -> Rates:
    found = rates_of(manifest())
    assert found is not None
    return found


def test_a_run_predicts_itself() -> None:
    assert rates().predict(tile_queries=500, mpx_queries=100.0, n_workers=2) == pytest.approx(62.0)
    assert rates().tokens == 20


def test_more_workers_share_the_work_and_not_the_start() -> None:
    start_s = 62.0 - (100.0 + 10.0) / 2
    assert rates().predict(tile_queries=500, mpx_queries=100.0, n_workers=11) == pytest.approx(start_s + 10.0)


def test_what_needs_no_answers_loads_no_models() -> None:
    whole, nothing = (rates().predict(tile_queries=n, mpx_queries=0.0, n_workers=2) for n in (1, 0))
    assert whole - nothing == pytest.approx(4.0 + 0.2 / 2)


@pytest.mark.parametrize(
    "empty",
    [{**manifest(), "history": [{"computed": 0, "n_tokens": 0}]}, {**manifest(), "history": [{}]}],
    ids=["nothing computed", "not ended"],
)
def test_a_run_that_computed_nothing_tells_nothing(empty: dict[str, Any]) -> None:
    assert rates_of(empty) is None
    assert rates_of(manifest(n_workers=0)) is None
    assert rates_of(manifest(stitched_mpx=0.0)) is None


def test_rates_are_kept_by_models_and_place(tmp_path: Any) -> None:
    store = Store.at(str(tmp_path))
    book = RateBook(store, "local", "auto")
    assert book.read(VERSIONS) is None
    book.write(VERSIONS, rates())
    assert book.read(VERSIONS) == rates()
    assert RateBook(store, "tcp://gpu:8786", "auto").read(VERSIONS) is None
    assert RateBook(store, "local", "cuda").read(VERSIONS) is None
    assert book.read(ModelVersions(Models(), "p@2", "s@1")) is None


@pytest.mark.parametrize(("n_before", "n_after", "kept"), [(500, 9, 500), (500, 250, 250), (50, 60, 60), (50, 40, 50)])
def test_a_short_run_does_not_displace_a_long_one(tmp_path: Any, n_before: int, n_after: int, kept: int) -> None:
    book = RateBook(Store.at(str(tmp_path)), "local", "auto")
    for n in (n_before, n_after):
        found = rates_of({**manifest(), "history": [{"computed": n, "n_tokens": 1}]})
        assert found is not None
        book.write(VERSIONS, found)
    stored = book.read(VERSIONS)
    assert stored is not None
    assert stored.n_tile_queries == kept
