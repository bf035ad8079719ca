"""Runs by way of dask-jobqueue, on a Slurm whose jobs are processes of this machine."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import fake_slurm
import pytest
from processes import where
from regions import WATER, draw_scene, make_models, results, run, spec_of

from infra.checks import ClusterProblem
from infra.cluster import Cluster, cluster_for
from pipeline.manifest import RunStatus
from pipeline.work import DaskWorkers

SETTINGS = """
host: 127.0.0.1
prologue: ["export T2S_TEST=1"]
idle_s: 0
wait_s: 120
ask_every_s: 0.5
gpu: {minimum: 0, maximum: 2, queue: gpu, cores: 4, memory: 1GB, walltime: "1-00:10:00", directives: [--gres=gpu:1]}
cpu: {minimum: 0, maximum: 2, queue: normal, memory: 1GB}
"""


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))  # jobs find tests/ there
    return fake_slurm.install(tmp_path, monkeypatch)


@pytest.fixture
def settings(tmp_path: Path) -> Callable[..., str]:
    def write(text: str = SETTINGS, **changes: str) -> str:
        for before, after in changes.items():
            assert before in text
            text = text.replace(before, after)
        (tmp_path / "slurm.yaml").write_text(f"shared_folder: {tmp_path / 'tls'}\n{text}")
        return f"slurm:{tmp_path / 'slurm.yaml'}"

    return write


def workers_on(found: Cluster) -> DaskWorkers:
    return DaskWorkers(
        found.client, patience_s=found.patience_s, on_gpus=found.on_gpus, want=found.want, check=found.check
    )


def test_jobs_come_with_the_work_and_go_without_it(jobs: Path, settings: Callable[..., str], tmp_path: Path) -> None:
    spec = spec_of(make_models(tmp_path), draw_scene(tmp_path / "alpha.tif"), queries=[WATER])
    with cluster_for(settings(**{"cpu: {minimum: 0, maximum: 2": "cpu: {minimum: 1, maximum: 1"})) as found:
        assert found.client.scheduler.address.startswith("tls://")
        outcome = run(spec, tmp_path / "slurm", workers_on(found))
        eventually(lambda: len(fake_slurm.alive(jobs)) == 1)  # the one that is kept
    eventually(lambda: fake_slurm.alive(jobs) == [])
    assert outcome.status is RunStatus.SUCCESS
    run(spec, tmp_path / "here")
    assert results(tmp_path / "slurm") == results(tmp_path / "here")
    scripts = fake_slurm.scripts(jobs)
    with_gpu = [script for script in scripts if "#SBATCH --gres=gpu:1" in script]
    assert with_gpu
    assert len(with_gpu) < len(scripts)
    for script in with_gpu:
        assert "#SBATCH -p gpu" in script
        assert "#SBATCH --cpus-per-task=4" in script
        assert "--resources GPU=1" in script
        assert f"--lifetime {24 * 3600 + 300}s" in script
    for script in set(scripts) - set(with_gpu):
        assert "--resources" not in script
        assert "#SBATCH -p normal" in script
        assert "--nthreads 1 " in script


def test_a_job_that_ends_is_replaced(jobs: Path, settings: Callable[..., str]) -> None:
    with cluster_for(settings(**{"cpu: {minimum: 0": "cpu: {minimum: 1"})) as found:
        workers = workers_on(found)
        [(_, first, _)] = workers.map(where, [0])
        fake_slurm.scancel(fake_slurm.alive(jobs))
        eventually(lambda: first not in found.client.nthreads())
        [(_, second, _)] = workers.map(where, [0])
    assert first != second
    assert len(fake_slurm.scripts(jobs)) == 2
    eventually(lambda: fake_slurm.alive(jobs) == [])


def test_jobs_that_end_before_their_worker_connects_end_the_run(jobs: Path, settings: Callable[..., str]) -> None:
    broken = settings(**{"prologue: [": 'prologue: ["exit 1", '})
    with (
        cluster_for(broken) as found,
        pytest.raises(ClusterProblem, match=r"^\d Slurm jobs ended before their worker connected; .* log_folder"),
    ):
        list(workers_on(found).map(where, [0]))
    assert fake_slurm.alive(jobs) == []


@pytest.mark.usefixtures("jobs")
def test_what_slurm_refuses_is_told_in_a_line(settings: Callable[..., str]) -> None:
    refused = settings(**{"queue: normal": "queue: closed", "cpu: {minimum: 0": "cpu: {minimum: 1"})
    with pytest.raises(ClusterProblem, match="Required partition not available") as raised, cluster_for(refused):
        pytest.fail("it was taken")
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("changes", "device", "told"),
    [
        ({"queue: gpu": "partition: gpu"}, "auto", r"slurm\.yaml: gpu\.partition: Extra inputs are not permitted$"),
        ({"[--gres=gpu:1]": "[]"}, "auto", "gpu.directives ask for no GPU; add e.g. --gres=gpu:1"),
        ({"maximum: 2, queue: gpu": "maximum: 0, queue: gpu"}, "auto", "gpu.maximum: Input should be greater than"),
        ({"cpu: {minimum: 0": "cpu: {minimum: 3"}, "auto", "minimum 3 is more than maximum 2"),
        ({SETTINGS[SETTINGS.index("gpu:") : SETTINGS.index("cpu:")]: ""}, "cuda", r"wants a GPU, and \S+ has no `gpu`"),
        ({"host: ": "host: ["}, "auto", "is no YAML"),
    ],
)  # fmt: skip
def test_settings_that_cannot_work_are_refused(
    changes: dict[str, str], device: str, told: str, settings: Callable[..., str]
) -> None:
    with pytest.raises(ClusterProblem, match=told), cluster_for(settings(**changes), device=device):
        pytest.fail("it was taken")


def test_without_slurm_on_this_machine_it_says_so(
    settings: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    wanted = settings(**{"cpu: {minimum: 0": "cpu: {minimum: 1"})
    with pytest.raises(ClusterProblem, match="sbatch"), cluster_for(wanted):
        pytest.fail("it was taken")


def test_a_missing_file_and_a_missing_package_are_each_one_line(
    settings: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with (
        pytest.raises(ClusterProblem, match=r"nothing\.yaml cannot be read: No such file"),
        cluster_for("slurm:nothing.yaml"),
    ):
        pytest.fail("it was taken")
    with pytest.raises(ClusterProblem, match="no such kind of cluster"), cluster_for("slurm"):
        pytest.fail("it was taken")
    from importlib.metadata import PackageNotFoundError

    from flows.cli.app import main

    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("infra.checks.version", missing)
    models, scene = make_models(tmp_path), draw_scene(tmp_path / "alpha.tif")
    given = ["--prompter", models.prompter, "--segmenter", models.segmenter, "--direct", "--out", tmp_path / "out"]
    argv = ["t2s", "segment", scene, "--query", WATER, "--cluster", settings(), *given]
    monkeypatch.setattr(sys, "argv", list(map(str, argv)))
    with pytest.raises(SystemExit) as ending:
        main()
    assert ending.value.code == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert errors == [f"error: --cluster {settings()}: dask-jobqueue is not installed; pip install 't2s[slurm]'"]


def eventually(holds: Callable[[], bool]) -> None:
    end_s = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end_s
        time.sleep(0.2)
