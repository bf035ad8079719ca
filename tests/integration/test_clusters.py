"""Where work goes on a cluster, who may join and leave, and what is refused before any work: on real processes."""

import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dask
import pytest
from certificates import Certificate, certificate
from processes import Cluster, cluster, kill, where, where_once_there
from regions import WATER, draw_scene, make_models, results, run, spec_of

from infra import cluster as infra_cluster
from infra.checks import ClusterProblem
from infra.cluster import cluster_for
from pipeline.manifest import RunStatus
from pipeline.stitching import MosaicBlocks
from pipeline.work import DaskWorkers
from t2s_core.errors import MachineFault

GPU = {"resources": {"GPU": 1}}


def workers_on(found: infra_cluster.Cluster, **options: Any) -> DaskWorkers:
    return DaskWorkers(found.client, on_gpus=found.on_gpus, check=found.check, **options)


def places(workers: DaskWorkers, items: Any, *, models: bool = False) -> dict[Any, str]:
    return {item: address for item, address, _ in workers.map(where, items, models=models)}


def test_models_go_to_gpu_workers_and_all_else_keeps_off_them() -> None:
    with cluster(2) as made:
        made.add_worker(**GPU)
        with cluster_for(made.address) as found:
            found.client.wait_for_workers(3)
            resources = {a: w["resources"] for a, w in found.client.scheduler_info()["workers"].items()}
            with_gpu = {address for address, has in resources.items() if has}
            workers = workers_on(found)
            assert set(places(workers, range(30), models=True).values()) == with_gpu
            assert set(places(workers, range(60)).values()) == resources.keys() - with_gpu
        with cluster_for(made.address, device="cpu") as found:
            assert not set(places(workers_on(found), range(30), models=True).values()) & with_gpu


def test_a_scene_is_stitched_while_gpus_are_at_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.mosaics.BLOCK_PX", 512)
    monkeypatch.setattr("pipeline.early._FEWEST_BLOCKS", 1)
    spec = spec_of(make_models(tmp_path), draw_scene(tmp_path / "alpha.tif", 2500, 100))
    rounds, add = [], MosaicBlocks.add

    def noted(self: MosaicBlocks, *arguments: Any, **options: Any) -> None:
        rounds.append(threading.current_thread().name)
        add(self, *arguments, **options)

    monkeypatch.setattr(MosaicBlocks, "add", noted)
    with cluster(1) as made:
        made.add_worker(**GPU)
        with cluster_for(made.address) as found:
            found.client.wait_for_workers(2)
            workers = workers_on(found)
            assert workers.models_apart
            assert run(spec, tmp_path / "out", workers).status is RunStatus.SUCCESS
    assert "t2s-early" in rounds
    run(spec, tmp_path / "here")
    assert results(tmp_path / "out") == results(tmp_path / "here")


def test_a_cluster_of_gpus_alone_does_everything() -> None:
    with cluster(0) as made:
        made.add_worker(**GPU)
        with cluster_for(made.address) as found:
            workers = workers_on(found)
            assert not workers.models_apart
            assert len(places(workers, range(5))) == len(places(workers, range(5), models=True)) == 5


def test_workers_may_join_and_retire_while_a_job_runs() -> None:
    """Items go on until three workers took part, the third instead of a first that was told to leave."""
    with cluster(1) as made, cluster_for(made.address) as found:
        seen: dict[int, str] = {}

        def items() -> Iterator[int]:
            numbers = iter(range(20_000))
            for enough in (2, 3):
                made.add_worker()
                while len(set(seen.values())) < enough:
                    yield next(numbers)
                found.client.retire_workers([next(iter(set(seen.values())))])

        for item, address, _ in workers_on(found).map(where, items()):
            assert item not in seen
            seen[item] = address
    assert len(set(seen.values())) == 3


def test_work_for_workers_that_have_all_gone_is_given_to_others(tmp_path: Path) -> None:
    go = tmp_path / "go"
    with cluster(1) as made, cluster_for(made.address) as found:
        [cpu] = found.client.nthreads()
        made.add_worker(**GPU)
        found.client.wait_for_workers(2)
        workers = workers_on(found)

        def items() -> Iterator[str]:
            yield str(go)
            kill(made.workers[0])
            go.touch()

        taken = [address for _, address, _ in workers.map(where_once_there, items())]
    assert taken
    assert cpu not in taken


def test_without_a_gpu_worker_models_wait_only_so_long() -> None:
    with cluster(1) as made, cluster_for(made.address) as found:
        workers = DaskWorkers(found.client, on_gpus=True, patience_s=0.5)
        with pytest.raises(MachineFault, match=r"no Dask worker with a GPU is connected, nor came within 0\.5 s"):
            list(workers.map(where, [1], models=True))


def no_gpu(made: Cluster) -> dict[str, Any]:
    made.add_worker()
    return {"device": "cuda"}


def other_numpy(made: Cluster) -> dict[str, Any]:
    made.add_worker({"numpy": "1.26.4"})
    return {}


def other_dask(made: Cluster) -> dict[str, Any]:
    made.add_worker({"distributed": "2020.1.0", "t2s": "9.9.9"})
    return {}


def threads(made: Cluster) -> dict[str, Any]:
    made.add_worker(nthreads=4)
    return {}


def nobody(made: Cluster) -> dict[str, Any]:
    return {}


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        (no_gpu, r"^--device cuda wants a GPU, and none of its 1 workers has one"),
        (
            other_numpy,
            r"^worker tcp://\S+ has other software: numpy 1\.26\.4 there, \d+\.\d+\.\d+ here; install the same",
        ),
        (other_dask, r"software: t2s 9\.9\.9 there, \S+ here, distributed 2020\.1\.0 there, \S+ here; install"),
        (threads, r"^worker tcp://\S+ has 4 threads, and a model runs in one; use --nthreads 1$"),
        (nobody, r"^no worker is connected to it, nor came within 0\.5 s; start workers: dask worker tcp://"),
    ],
)
def test_what_cannot_work_is_said_before_any_task(
    setting: Callable[[Cluster], dict[str, Any]], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if setting is nobody:
        monkeypatch.setattr(infra_cluster, "_PATIENCE_S", 0.5)
    with cluster(0) as made:
        options = setting(made)
        with pytest.raises(ClusterProblem, match=told), cluster_for(made.address, **options):
            pytest.fail("it was taken")


def test_a_latecomer_with_other_software_ends_the_run_by_naming_it() -> None:
    with cluster(1) as made, cluster_for(made.address) as found:

        def items() -> Iterator[int]:
            yield 0
            made.add_worker({"dask": "2020.1.0"})
            found.client.wait_for_workers(2)
            yield from range(1, 10_000)

        with pytest.raises(ClusterProblem, match=r"other software: dask 2020\.1\.0 there"):
            list(workers_on(found).map(where, items()))


def test_local_gpus_are_a_worker_each_and_the_others_see_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.local.gpu_ids", lambda: ["3", "GPU-5f"])
    with cluster_for("local-gpu", n_workers=1) as found:
        found.client.wait_for_workers(3)
        assert found.on_gpus
        workers = workers_on(found)
        on_gpus = list(workers.map(where, range(40), models=True))
        elsewhere = list(workers.map(where, range(10)))
    assert {env["CUDA_VISIBLE_DEVICES"] for _, _, env in on_gpus} == {"3", "GPU-5f"}
    assert len({address for _, address, _ in on_gpus}) == 2
    assert {env["CUDA_VISIBLE_DEVICES"] for _, _, env in elsewhere} == {""}


def test_local_gpus_without_a_gpu_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.local.gpu_ids", list)
    with (
        pytest.raises(ClusterProblem, match="no GPU that PyTorch can use; use --cluster local"),
        cluster_for("local-gpu"),
    ):
        pytest.fail("it was taken")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def encrypted(certificates: Certificate) -> Iterator[Cluster]:
    with cluster(1, "tls", certificates.configuration("scheduler", "worker")) as made:
        yield made


def test_a_run_over_tls_gives_the_same_bits(encrypted: Cluster, certificates: Certificate, tmp_path: Path) -> None:
    assert encrypted.address.startswith("tls://")
    spec = spec_of(make_models(tmp_path), draw_scene(tmp_path / "alpha.tif"), queries=[WATER])
    with dask.config.set(certificates.configuration("client")), cluster_for(encrypted.address) as found:
        outcome = run(spec, tmp_path / "tls", workers_on(found))
    run(spec, tmp_path / "here")
    assert outcome.status is RunStatus.SUCCESS
    assert results(tmp_path / "tls") == results(tmp_path / "here")


def error_lines(
    address: str, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    from flows.cli.app import main

    models, scene = make_models(folder), draw_scene(folder / "alpha.tif")
    given = ["--prompter", models.prompter, "--segmenter", models.segmenter, "--direct", "--device", "cpu"]
    argv = ["t2s", "segment", scene, "--query", WATER, "--out", folder / "out", "--cluster", address, *given]
    monkeypatch.setattr(sys, "argv", list(map(str, argv)))
    monkeypatch.setattr(infra_cluster, "_PATIENCE_S", 3.0)
    with pytest.raises(SystemExit) as ending:
        main()
    assert ending.value.code == 2
    return [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]


def test_a_client_without_certificate_is_refused_in_one_line(
    encrypted: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    [line] = error_lines(encrypted.address, tmp_path, capsys, monkeypatch)
    assert line.startswith(
        f"error: --cluster {encrypted.address}: this side has no certificate; set distributed.comm.tls"
    )


def test_a_client_with_a_stranger_s_certificate_is_refused_in_one_line(
    encrypted: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with dask.config.set(certificate(tmp_path / "stranger").configuration("client")):
        [line] = error_lines(encrypted.address, tmp_path, capsys, monkeypatch)
    assert line.startswith(f"error: --cluster {encrypted.address}: no scheduler answers there: ")


def test_a_client_that_does_not_encrypt_is_refused_in_one_line(
    encrypted: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = encrypted.address.replace("tls://", "tcp://")
    [line] = error_lines(plain, tmp_path, capsys, monkeypatch)
    assert line.startswith(f"error: --cluster {plain}: no scheduler answers there: ")
