"""Worker processes answer as this process does, bit for bit: our own, and those of a scheduler somewhere else."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dask
import pytest
from regions import ROADS, WATER, draw_scene, make_models, results, run, spec_of

from infra.checks import ClusterProblem
from infra.cluster import cluster_for
from pipeline.manifest import RunStatus
from pipeline.spec import RunSpec
from pipeline.work import DaskWorkers


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> RunSpec:
    folder = tmp_path_factory.mktemp("region")
    return spec_of(make_models(folder), draw_scene(folder / "alpha.tif"), queries=[WATER, ROADS])


@pytest.fixture(scope="module")
def in_process(spec: RunSpec, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    out = tmp_path_factory.mktemp("in_process") / "out"
    run(spec, out)
    return results(out)


@contextmanager
def scheduler_with_a_worker() -> Iterator[str]:
    """The address of a scheduler on loopback that has one worker, each a process as an operator would start it."""
    dask = [sys.executable, "-m", "dask"]
    scheduler = subprocess.Popen(
        [*dask, "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"], stderr=subprocess.PIPE, text=True
    )
    assert scheduler.stderr is not None
    address = next(word for line in scheduler.stderr for word in line.split() if word.startswith("tcp://"))
    worker = subprocess.Popen(
        [*dask, "worker", address, "--nthreads", "1", "--no-dashboard", "--no-nanny"], stderr=subprocess.DEVNULL
    )
    try:
        yield address
    finally:
        for process in (worker, scheduler):
            process.kill()
            process.wait()
        scheduler.stderr.close()


def test_local_worker_processes_give_the_same_bits(
    spec: RunSpec, in_process: dict[str, object], tmp_path: Path
) -> None:
    with cluster_for("local", n_workers=2) as cluster:
        outcome = run(spec, tmp_path / "out", DaskWorkers(cluster.client))
    assert (outcome.status, outcome.computed) == (RunStatus.SUCCESS, 18)
    assert results(tmp_path / "out") == in_process


def test_dask_keeps_few_messages_unless_it_is_told_to_keep_more() -> None:
    with cluster_for("local", n_workers=1) as cluster:
        workers = cluster.client.cluster.scheduler.stream_comms.values()
        logs = [comm.recent_message_log for comm in (cluster.client.scheduler_comm, *workers)]
        assert [log.maxlen for log in logs] == [20, 20]
    with dask.config.set({"distributed.admin.low-level-log-length": 500}), cluster_for("local", n_workers=1) as cluster:
        assert cluster.client.scheduler_comm.recent_message_log.maxlen == 500


def test_a_scheduler_s_workers_give_the_same_bits_and_stay(
    spec: RunSpec, in_process: dict[str, object], tmp_path: Path
) -> None:
    with scheduler_with_a_worker() as address:
        with cluster_for(address) as cluster:
            outcome = run(spec, tmp_path / "out", DaskWorkers(cluster.client))
        with cluster_for(address) as cluster:
            assert len(cluster.client.nthreads()) == 1
    assert outcome.status is RunStatus.SUCCESS
    assert results(tmp_path / "out") == in_process


def test_what_is_no_address_is_refused() -> None:
    with (
        pytest.raises(ClusterProblem, match="no such kind of cluster; use local, local-gpu"),
        cluster_for("my-cluster"),
    ):
        pytest.fail("connected to nowhere")
