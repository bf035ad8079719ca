"""Runs by way of dask-kubernetes and the real Dask operator, on a Kubernetes whose pods are processes here."""

import base64
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from fake_kubernetes import Kubernetes, config, kubernetes, operator
from kubernetes_pods import ROOT
from processes import start, where
from regions import WATER, make_models, results, run, spec_of
from trials import Region

from infra.checks import ClusterProblem
from infra.cluster import Cluster, cluster_for
from pipeline.work import DaskWorkers

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="pods have addresses 127.x.y.z, which Linux has")

SETTINGS = """
image: registry.example.org/t2s:0.1.0
namespace: t2s
env_from_secrets: [t2s-store]
env: {T2S_TEST: "1"}
gpu: {minimum: 0, maximum: 1, cpu: "4", memory: 8Gi}
cpu: {minimum: 0, maximum: 2, cpu: "1", memory: 1Gi}
idle_s: 60
wait_s: 120
"""
MANIFESTS = ROOT / "infra" / "kubernetes"


def role() -> list[dict[str, Any]]:
    """What the manifests let the Prefect worker do, and whoever is outside of the cluster must be let, too."""
    [found] = [one for one in yaml.safe_load_all((MANIFESTS / "namespace.yaml").read_text()) if one["kind"] == "Role"]
    return [*found["rules"], {"apiGroups": [""], "resources": ["pods/portforward"], "verbs": ["get"]}]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubernetes]:
    with kubernetes(tmp_path_factory.mktemp("kubernetes")) as api:
        api.granted += role()
        secret = {"metadata": {"name": "t2s-store"}, "data": {"T2S_HUSH": base64.b64encode(b"hush").decode()}}
        api.put("secrets", secret)
        with operator(api):
            yield api


@pytest.fixture
def api(made: Kubernetes, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kubernetes]:
    monkeypatch.setenv("KUBECONFIG", str(config(made, "t2s", "elsewhere")))
    made.most.clear()
    yield made
    made.operator_waits_s = 0
    nothing_stays(made)


def left(api: Kubernetes) -> list[str]:
    kinds = ("daskclusters", "daskworkergroups", "deployments", "services", "pods")
    return [*api.alive(), *(f"{kind}/{name}" for kind in kinds for name in api.of(kind))]


def eventually(holds: Callable[[], bool], told: Callable[[], object] = lambda: "") -> None:
    end_s = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < end_s, told()
        time.sleep(0.2)


def nothing_stays(api: Kubernetes) -> None:
    eventually(lambda: left(api) == [], lambda: f"{left(api)}\n{api.said()}")


@pytest.fixture
def settings(tmp_path: Path) -> Callable[..., str]:
    def write(**changes: str) -> str:
        text = SETTINGS
        for before, after in changes.items():
            assert before in text
            text = text.replace(before, after)
        (tmp_path / "kubernetes.yaml").write_text(text)
        return f"kubernetes:{tmp_path / 'kubernetes.yaml'}"

    return write


def of_workers(api: Kubernetes, group: str = "") -> list[str]:
    return [pod for pod in api.alive() if f"{group}-worker-" in pod]


def test_the_command_runs_on_pods_that_come_with_the_work(
    api: Kubernetes, settings: Callable[..., str], tmp_path: Path
) -> None:
    drawn = Region.drawn(tmp_path)
    region = replace(drawn, scenes=drawn.scenes[:1])
    cluster = settings(**{"maximum: 2": "maximum: 1"})
    command = start(region.arguments(tmp_path / "pods", "--cluster", cluster, "--device", "auto"), tmp_path / "log")
    assert command.wait(240) == 0, command.said + api.said()
    nothing_stays(api)
    assert {group.partition("-")[2].partition("-")[2] for group in api.most} >= {"default", "gpu"}
    spec = spec_of(make_models(tmp_path), *region.scenes, queries=[WATER])
    run(spec.model_copy(update={"batch_tiles": 8}), tmp_path / "here")
    assert results(tmp_path / "pods") == results(tmp_path / "here")


def test_groups_shrink_by_their_own_workers_lost_pods_come_again_and_a_failed_run_leaves_nothing(
    api: Kubernetes, settings: Callable[..., str]
) -> None:
    kept = settings(**{"minimum: 0, maximum: 1": "minimum: 1, maximum: 1", "idle_s: 60": "idle_s: 2"})
    with pytest.raises(RuntimeError, match="of the run"), cluster_for(kept) as found:
        work_for_pods_that_fails(api, found)
    nothing_stays(api)


def work_for_pods_that_fails(api: Kubernetes, found: Cluster) -> None:
    workers = DaskWorkers(
        found.client, patience_s=found.patience_s, on_gpus=found.on_gpus, want=found.want, check=found.check
    )
    on_gpu = list(workers.map(where, range(3), models=True))
    assert {env["T2S_HUSH"] + env["T2S_TEST"] for _, _, env in on_gpu} == {"hush1"}
    api.down = True  # a while without the API ends nothing
    assert len(list(workers.map(where, range(3), models=True))) == 3
    found.want("cpu", 2)
    time.sleep(1.5)
    api.down = False
    found.client.wait_for_workers(3, timeout=60)
    elsewhere = {address for _, address, _ in workers.map(where, range(50))}
    assert len(elsewhere - {address for _, address, _ in on_gpu}) == len(elsewhere) == 2
    [gpu] = of_workers(api, "gpu")
    eventually(lambda: of_workers(api) == [gpu])
    # The operator looks every five seconds whether a scheduler is idle, and would end one without a limit after 300.
    assert found.client.run_on_scheduler(lambda dask_scheduler: dask_scheduler.idle_timeout) == 2 * (600 + 120)
    api.kill(gpu)
    [(_, again, _)] = workers.map(where, [0], models=True)
    assert again not in {address for _, address, _ in on_gpu}
    raise RuntimeError("of the run")


def test_groups_that_the_operator_never_came_to_go_with_their_cluster(
    api: Kubernetes, settings: Callable[..., str]
) -> None:
    api.operator_waits_s = 0.4
    with cluster_for(settings()):
        pass  # the GPU workers' group was asked for a moment ago
    assert not api.of("daskworkergroups")


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ({"t2s:0.1.0": "no/such:1"}, "^no scheduler's pod can start: ImagePullBackOff: Back-off pulling image"),
        ({"t2s-store": "t2s-other"},
         r'^no scheduler\'s pod can start: CreateContainerConfigError: secret "t2s-other" not found'),
        ({"namespace: t2s": "namespace: default"}, r'cannot \w+ resource "daskclusters" .* in the namespace "default"'),
    ],
)  # fmt: skip
def test_what_cannot_start_is_told_in_time_and_leaves_nothing(
    setting: dict[str, str],
    told: str,
    api: Kubernetes,
    settings: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("infra.kubernetes_workers._STUCK_S", 0)
    monkeypatch.setattr("infra.kubernetes_workers._LOOK_EVERY_S", 0.5)
    api.operator_waits_s = 0.1
    with pytest.raises(ClusterProblem, match=told), cluster_for(settings(**setting)):
        pytest.fail("it was taken")


def test_pods_that_cannot_start_end_the_run_and_what_could_not_be_deleted_is_named(
    api: Kubernetes,
    settings: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("infra.kubernetes_workers._STUCK_S", 0)
    monkeypatch.setattr("infra.kubernetes_workers._LOOK_EVERY_S", 0.5)
    with cluster_for(settings(**{"env: {": "gpu_image: no/such:1\nenv: {"})) as found:
        workers = DaskWorkers(found.client, patience_s=60, on_gpus=True, want=found.want, check=found.check)
        with pytest.raises(ClusterProblem, match=r"^no gpu pod can start: ImagePullBackOff: Back-off pulling image"):
            list(workers.map(where, [0], models=True))
        [name] = api.of("daskclusters")
        api.down = True
    api.down = False
    [told] = [record.getMessage() for record in caplog.records if "could not be deleted" in record.getMessage()]
    assert told.endswith(f"delete it: kubectl --namespace t2s delete daskcluster {name}")
    api.take("daskclusters", name)


def test_a_cluster_that_nobody_acts_on_is_given_up(
    settings: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with kubernetes(tmp_path) as alone:
        alone.granted += role()
        monkeypatch.setenv("KUBECONFIG", str(config(alone, "t2s", "t2s")))
        told = r"^its scheduler was not ready within 2 s: it has no pod; does the Dask operator run\?$"
        with pytest.raises(ClusterProblem, match=told), cluster_for(settings(**{"wait_s: 120": "wait_s: 2"})):
            pytest.fail("it was taken")
        assert left(alone) == []


def test_an_api_that_knows_no_operator_or_is_not_there_is_told_in_a_line(
    api: Kubernetes, settings: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    api.missing.add("daskclusters")
    try:
        with pytest.raises(ClusterProblem, match="is the Dask operator installed"), cluster_for(settings()):
            pytest.fail("it was taken")
    finally:
        api.missing.clear()
    monkeypatch.setattr(api, "url", "http://127.0.0.1:1")
    monkeypatch.setenv("KUBECONFIG", str(config(api, "nobody", "t2s")))
    with pytest.raises(ClusterProblem, match=r"^the Kubernetes API: ") as raised, cluster_for(settings()):
        pytest.fail("it was taken")
    assert len(str(raised.value).splitlines()) == 1
    assert os.environ["KUBECONFIG"] not in str(raised.value)
