"""Several runs that start on one directory at the same moment: one works, the others are refused in one line."""

import json
import socket
import time
from itertools import pairwise
from pathlib import Path

import pytest
from processes import Command, cluster, forked
from trials import SEEDS, Region, manifest, tiles

from pipeline.lease import STALE_S, Lease, held, read_lease
from pipeline.storage import Store
from t2s_core.errors import BadInput

N_RACERS = 4


def race(url: str, run_id: str, start_unix_s: float, hold_s: float, said: str) -> None:
    """Take the lease at a given moment and write down when it was held."""
    time.sleep(max(0.0, start_unix_s - time.time() - 0.002))
    while time.time() < start_unix_s:  # to the microsecond
        pass
    try:
        with held(Store.at(url), run_id):
            taken = time.monotonic()
            time.sleep(hold_s)
            Path(said).write_text(json.dumps([taken, time.monotonic()]))
    except BadInput as refused:
        Path(said).write_text(json.dumps(str(refused)))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("left_behind", ["nothing", "stale", "stale_and_half_taken_over"])
def test_of_runs_that_start_in_the_same_millisecond_one_gets_the_lease(
    left_behind: str, seed: int, tmp_path: Path
) -> None:
    store = Store.at(str(tmp_path / "out"))
    if left_behind != "nothing":
        leave(store, "lease.json")
    if left_behind == "stale_and_half_taken_over":
        import hashlib

        digest = hashlib.sha256(store.read("lease.json")).hexdigest()[:20]
        leave(store, f"lease.json.{digest}")
    start_unix_s = time.time() + 1.5
    racers = [
        forked(race, store.url, f"r{seed}-{i}", start_unix_s, 0.5, str(tmp_path / f"said{i}")) for i in range(N_RACERS)
    ]
    for racer in racers:
        racer.join(60)
        assert racer.exitcode == 0
    said = [json.loads((tmp_path / f"said{i}").read_text()) for i in range(N_RACERS)]
    held_by = sorted(times for times in said if isinstance(times, list))
    assert held_by, said
    # a racer that was late may hold it after another, never at the same time
    assert all(before[1] <= after[0] for before, after in pairwise(held_by))
    for refusal in (text for text in said if isinstance(text, str)):
        assert "is at work here (process " in refusal
        assert "\n" not in refusal
    assert [p.name for p in (tmp_path / "out").iterdir()] == []


def leave(store: Store, name: str) -> None:
    stale = Lease("r-dead", "elsewhere", 1, time.time() - STALE_S - 1)
    store.write(name, json.dumps({f: getattr(stale, f) for f in Lease.__slots__}).encode())


@pytest.fixture(scope="module")
def region(tmp_path_factory: pytest.TempPathFactory) -> Region:
    return Region.drawn(tmp_path_factory.mktemp("region"))


def test_the_second_of_two_commands_on_one_directory_is_refused_in_one_line(region: Region, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with cluster(1) as dask:
        commands = [region.start(out, dask, tmp_path / f"{i}.log") for i in range(2)]
        codes = [command.wait() for command in commands]
    if codes == [0, 0]:  # one began when the other had ended: then it had nothing to do
        assert sorted(entry["computed"] for entry in manifest(out)["history"]) == [0, len(tiles(out)) and 18]
        return
    assert sorted(codes) == [0, 2], [command.said for command in commands]
    refused: Command = commands[codes.index(2)]
    errors = [line for line in refused.said.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "is at work here" in errors[0]
    assert "Traceback" not in refused.said
    assert len(manifest(out)["history"]) == 1


def test_a_lease_of_another_host_blocks_until_it_is_stale_and_no_longer(tmp_path: Path) -> None:
    store = Store.at(str(tmp_path))
    for age_s, host, blocks in ((STALE_S - 5, "elsewhere", True), (STALE_S + 1, "elsewhere", False)):
        lease = {"run_id": "r-x", "host": host, "pid": 1, "renewed_unix_s": time.time() - age_s}
        store.write("lease.json", json.dumps(lease).encode())
        if blocks:
            with pytest.raises(BadInput, match="run r-x is at work here"), held(store, "r1"):
                pytest.fail("two runs in one directory")
            continue
        with held(store, "r1"):
            mine = read_lease(store)
            assert mine is not None
            assert (mine.run_id, mine.host) == ("r1", socket.gethostname())
