"""What is wrong with `--cluster` is said before scenes are looked at and before anything is written."""

import sys
from collections.abc import Callable
from pathlib import Path

import dask
import pytest
import yaml
from certificates import certificate

from flows.cli.app import main
from flows.run import RunSettings, run
from pipeline.queries import parse_queries
from pipeline.spec import Models, RunSpec
from t2s_core.errors import BadInput

FILES = {
    "misspelt.yaml": "cpu: {maximum: 2, memory: 1GB}\nidle: 3\n",
    "torn.yaml": "cpu: [\n",
    "pods.yaml": "image: t2s\ncpu: {maximum: 2, cpu: 1 core, memory: 1Gi}\n",
    "no-gpu.yaml": "cpu: {maximum: 2, memory: 1GB}\n",
}
WRONG = [
    ("dask", [], "there is no such kind of cluster; use local, local-gpu, tcp://HOST:PORT"),
    ("slurm", [], "there is no such kind of cluster"),
    ("slurm:nothing.yaml", [], "nothing.yaml cannot be read: No such file or directory"),
    ("slurm:.", [], ". cannot be read: Is a directory"),
    ("slurm:torn.yaml", [], "torn.yaml is no YAML: "),
    ("slurm:misspelt.yaml", [], "misspelt.yaml: idle: Extra inputs are not permitted"),
    ("slurm:no-gpu.yaml", ["--device", "cuda"], "--device cuda wants a GPU, and no-gpu.yaml has no `gpu`"),
    ("kubernetes:pods.yaml", [], "pods.yaml: cpu.cpu: String should match pattern"),
    ("kubernetes:nothing.yaml", [], "nothing.yaml cannot be read: No such file or directory"),
    ("local-gpu", ["--device", "cpu"], "--device cpu needs no GPUs"),
    ("tcp://head", [], "that is no address of a scheduler; write e.g. tcp://head:8786"),
    ("tcp://head:many", [], "that is no address of a scheduler"),
    ("tls://head:8786", [], "this side has no certificate; set distributed.comm.tls.ca-file"),
]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, text in FILES.items():
        Path(name).write_text(text)
    return tmp_path


@pytest.fixture
def refused(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., list[str]]:
    def call(*arguments: str) -> list[str]:
        before = sorted(here.iterdir())
        monkeypatch.setattr(sys, "argv", ["t2s", *arguments])
        with pytest.raises(SystemExit) as ending:
            main()
        assert ending.value.code == 2
        assert sorted(here.iterdir()) == before
        return [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]

    return call


@pytest.mark.parametrize(("cluster", "more", "told"), WRONG)
def test_a_wrong_cluster_is_refused_at_once(
    cluster: str, more: list[str], told: str, refused: Callable[..., list[str]]
) -> None:
    asked = ["nowhere/*.tif", "--query", "the lake", "--out", "out", "--cluster", cluster, *more]
    for command in ("segment", "plan"):
        [line] = refused(command, *asked)
        assert line.startswith(f"error: --cluster {cluster}: {told}")
    Path("run.yaml").write_text(
        yaml.safe_dump({"scenes": ["nowhere/*.tif"], "query": ["the lake"], "out": "out", "cluster": cluster})
    )
    [line] = refused("plan", "--config", "run.yaml", *more)
    assert line.startswith(f"error: --cluster {cluster}: {told}")


def test_restitching_and_python_refuse_it_too(refused: Callable[..., list[str]]) -> None:
    told = "--cluster slurm:nothing.yaml: nothing.yaml cannot be read: No such file or directory"
    assert refused("restitch", "out", "--threshold", "0.6", "--cluster", "slurm:nothing.yaml") == [f"error: {told}"]
    spec = RunSpec(scenes=("nowhere/*.tif",), queries=parse_queries(["the lake"]), models=Models())
    with pytest.raises(BadInput) as raised:
        run(spec, "out", RunSettings(cluster="slurm:nothing.yaml"))
    assert raised.value.problems == (told,)


@pytest.mark.usefixtures("here")
def test_a_flow_refuses_it_before_its_scenes() -> None:
    from flows.segment_region import segment_region

    Path("run.yaml").write_text("{scenes: [nowhere/*.tif], query: [the lake], out: out, cluster: 'slurm:torn.yaml'}")
    with pytest.raises(BadInput) as raised:
        segment_region.fn("run.yaml")
    [problem] = raised.value.problems
    assert problem.startswith("--cluster slurm:torn.yaml: torn.yaml is no YAML: ")
    assert not Path("out").exists()


@pytest.mark.usefixtures("here")
def test_certificates_that_cannot_be_read_are_named(refused: Callable[..., list[str]], tmp_path: Path) -> None:
    found = certificate(tmp_path / "tls").configuration("client")
    asked = ["nowhere.tif", "--query", "the lake", "--out", "out", "--cluster", "tls://head:8786"]
    with dask.config.set({**found, "distributed.comm.tls.client.key": "no-such.pem"}):
        [line] = refused("plan", *asked)
    assert line.startswith("error: --cluster tls://head:8786: the certificates that Dask's configuration names cannot")
    with dask.config.set(found):  # of these nothing is wrong, so scenes come next
        assert "nowhere.tif" in refused("plan", *asked)[0]
