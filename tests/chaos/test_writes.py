"""Writes that fail, a disk that is full, objects damaged from outside: nothing lost, nothing let in, and it is said."""

import errno
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from faulty_store import each_fails_once, faulty, full_after
from regions import results, run
from trials import SEEDS

from pipeline.manifest import RunStatus, read_manifest
from pipeline.spec import RunSpec
from pipeline.status import run_status
from pipeline.storage import Store
from t2s_core.errors import MachineFault

N_TILES = 9


@pytest.fixture
def out(tmp_path: Path) -> Iterator[str]:
    yield f"faulty://{tmp_path.name}/out"
    fsspec.filesystem("faulty").rm(f"/{tmp_path.name}", recursive=True)


def tiles(out: str) -> dict[str, bytes]:
    return {name: Store.at(out).read(name) for name in Store.at(out).names("tiles")}


def test_when_every_object_s_first_write_fails_each_rerun_goes_on_where_the_last_one_died(
    spec: RunSpec, expected: dict[str, Any], out: str
) -> None:
    fault, failed = each_fails_once()
    kept: dict[str, bytes] = {}
    computed = 0
    with faulty(fault):
        for _ in range(500):
            n_failed = len(failed)
            try:
                outcome = run(spec, out)
            except OSError as error:
                assert error.errno == errno.EIO
                assert len(failed) > n_failed
                assert kept.items() <= tiles(out).items()  # run ids in the rows would tell a second computation
                kept = tiles(out)
                agrees_that_it_has_not_ended_well(out)
                continue
            computed = outcome.computed
            break
    assert (outcome.status, computed) == (RunStatus.SUCCESS, 0)
    assert len(failed) > len(expected)
    assert results(out) == expected


@pytest.mark.parametrize("seed", SEEDS)
def test_a_disk_that_is_full_in_the_middle(seed: int, spec: RunSpec, expected: dict[str, Any], out: str) -> None:
    n_writes = random.Random(seed).randrange(60)
    print(f"seed {seed}: room for {n_writes} writes")
    with faulty(full_after(n_writes)):
        try:
            run(spec, out)
            ended = True
        except OSError as error:
            assert error.errno == errno.ENOSPC
            ended = False
    kept = tiles(out)
    if not ended:
        agrees_that_it_has_not_ended_well(out)
    outcome = run(spec, out)
    assert outcome.status is RunStatus.SUCCESS
    assert kept.items() <= tiles(out).items()
    assert results(out) == expected


def agrees_that_it_has_not_ended_well(out: str) -> None:
    """run.json, report and `t2s status`."""
    manifest = read_manifest(Store.at(out))
    assert not Store.at(out).exists("report.html")
    if manifest is None:
        return
    status = run_status(out)
    assert status["status"] in {"FAILED", "INTERRUPTED"}
    assert manifest["status"] == ("FAILED" if status["status"] == "FAILED" else "RUNNING")
    assert status["error"] == manifest.get("error")
    if manifest["status"] == "FAILED":
        assert manifest["counts"] == status["tile_queries"]


def torn(data: bytes, rng: random.Random) -> bytes:
    """Half written, as a copy that broke off."""
    return data[: rng.randrange(len(data))]


def zeroed(data: bytes, rng: random.Random) -> bytes:
    """Of full length with nothing behind, as after a power cut."""
    start = rng.randrange(len(data) - 8)
    return data[:start] + bytes(len(data) - start)


def foreign(data: bytes, rng: random.Random) -> bytes:
    """A whole Parquet file of something else."""
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    pq.write_table(pa.table({"key": ["k"], "colour": ["blue"]}), sink)
    return sink.getvalue()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("damage", [torn, zeroed, foreign])
def test_a_damaged_tile_result_is_said_put_aside_and_computed_anew(
    damage: Any, seed: int, spec: RunSpec, expected: dict[str, Any], tmp_path: Path
) -> None:
    rng, store = random.Random(seed), Store.at(str(tmp_path / "out"))
    run(spec, store.url)
    name = rng.choice(store.names("tiles"))
    whole = store.read(name)
    rubbish = damage(whole, rng)
    store.write(name, rubbish)
    others = {n: d for n, d in tiles(store.url).items() if n != name}
    status = run_status(store.url)
    assert status["damaged"] == [name]
    lost = status["tile_queries"]["pending"]
    assert lost in {1, 4}
    notes = Notes()
    outcome = run(spec, store.url, progress=notes)
    assert (outcome.status, outcome.computed) == (RunStatus.SUCCESS, lost)
    assert notes.said == [f"{store.url}/{name} is damaged: put aside in damaged/, what it held is open again"]
    assert outcome.manifest["history"][-1]["damaged"] == [name]
    assert store.read(f"damaged/{name}") == rubbish
    assert others.items() <= tiles(store.url).items()
    assert results(store.url) == expected
    assert run_status(store.url)["damaged"] == []


@pytest.mark.parametrize("seed", SEEDS)
def test_flipped_bits_in_a_tile_result_never_become_another_mask(
    seed: int, spec: RunSpec, expected: dict[str, Any], tmp_path: Path
) -> None:
    rng, store = random.Random(seed), Store.at(str(tmp_path / "out"))
    run(spec, store.url)
    name = rng.choice(store.names("tiles"))
    data = bytearray(store.read(name))
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    store.write(name, bytes(data))
    for folder in ("masks.zarr", "features"):  # so that the mask is made again from what is there
        store.remove(folder)
    try:
        run(spec, store.url)
    except MachineFault as fault:
        assert f"{name} is damaged" in str(fault)
        assert run_status(store.url)["status"] == "FAILED"
        store.remove(name)
        assert run(spec, store.url).status is RunStatus.SUCCESS
    assert results(store.url) == expected


class Notes:
    """A progress that keeps what it is told."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def expect(self, _: int) -> None: ...

    def start(self, *_: object) -> Any:
        return lambda _: None

    def note(self, message: str) -> None:
        self.said.append(message)
