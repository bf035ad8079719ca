"""What infra/ deploys, held against schemas and linters; no container engine and no Kubernetes runs here."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask_kubernetes
import jsonschema
import kubernetes_validate
import pytest
import yaml
from dask_kubernetes.operator.controller.controller import (
    build_scheduler_deployment_spec,
    build_scheduler_service_spec,
    build_worker_deployment_spec,
)

from infra.kubernetes_pods import KubernetesSettings, cluster_spec, worker_spec
from infra.settings import read_settings
from infra.slurm_jobs import SlurmSettings

ROOT = Path(__file__).parents[2]
INFRA = ROOT / "infra"
SCRIPTS = sorted((INFRA / "bin").glob("*.sh"))
MANIFESTS = sorted(
    p for p in (INFRA / "kubernetes").glob("*.yaml") if p.name not in {"cluster.yaml", "kustomization.yaml"}
)
KUBERNETES = "1.33"
SETTINGS = read_settings(str(INFRA / "kubernetes" / "cluster.yaml"), KubernetesSettings)


def tool(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


def check(*command: object) -> None:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("dockerfile", sorted((INFRA / "docker").glob("*.Dockerfile")), ids=lambda p: p.name)
def test_dockerfiles_pass_their_linter_and_run_as_nobody_special(dockerfile: Path) -> None:
    check(tool("hadolint"), dockerfile)
    text = dockerfile.read_text()
    assert re.search(r"^USER 1000:1000$", text, re.MULTILINE)
    assert not re.search(r"^FROM \S+:latest|^FROM [^:\s]+$", text, re.MULTILINE)
    copied = set(re.findall(r"^COPY (?!--from)(.*) \S+$", text, re.MULTILINE))
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    for name in (name for names in copied for name in names.split() if name != "."):
        assert (ROOT / name).exists()
        assert f"!{name.split('/')[0]}" in ignored


def test_the_cpu_image_leaves_out_torch_and_its_gpu_libraries_alone() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    awk = shutil.which("awk")
    assert awk is not None
    kept = subprocess.run(
        [awk, "-f", INFRA / "docker" / "without-cuda.awk"], input=lock, capture_output=True, text=True, check=True
    ).stdout

    def names(text: str) -> set[str]:
        return set(re.findall(r"^([a-z0-9][^=\s]*)==", text, re.MULTILINE))

    gone = names(lock) - names(kept)
    assert {"torch", "torchvision"} <= gone
    assert all(re.match(r"torch$|torchvision$|triton$|nvidia-|cuda-", name) for name in gone)
    assert kept.count("--hash=") < lock.count("--hash=")
    assert all(line.startswith((" ", "#")) or line == "" or "==" in line for line in kept.splitlines())


def test_compose_holds_to_its_schema_and_starts_the_scripts() -> None:
    file = INFRA / "compose.yaml"
    check(tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", file)
    services = yaml.safe_load(file.read_text())["services"]
    assert {
        "postgres",
        "store",
        "prefect-server",
        "prefect-worker",
        "scheduler",
        "worker",
        "gpu-worker",
        "vllm",
    } == set(services)
    started = {
        word for service in services.values() for word in service.get("command", ()) if word.startswith("infra/")
    }
    assert started == {f"infra/bin/{script.name}" for script in SCRIPTS}
    for name, service in services.items():
        assert "healthcheck" in service, name
        assert all(str(port).startswith("127.0.0.1:") for port in service.get("ports", ())), name
        assert not service["image"].endswith(":latest"), name
    needed = set(re.findall(r"\$\{(\w+):\?", file.read_text()))
    offered = set(re.findall(r"^(\w+)=", (INFRA / "compose.env.example").read_text(), re.MULTILINE))
    assert needed <= offered


def test_scripts_pass_their_linter() -> None:
    assert len(SCRIPTS) == 5
    check(tool("shellcheck"), *SCRIPTS)
    assert all(script.stat().st_mode & 0o111 for script in SCRIPTS)


def test_yaml_files_pass_their_linter() -> None:
    rules = {"line-length": {"max": 140}, "document-start": "disable", "comments": {"min-spaces-from-content": 1}}
    check(tool("yamllint"), "--strict", "-d", json.dumps({"extends": "default", "rules": rules}), INFRA)


def documents() -> Iterator[tuple[str, dict[str, Any]]]:
    for file in MANIFESTS:
        for n, document in enumerate(yaml.safe_load_all(file.read_text())):
            yield f"{file.name}-{n}", document
    spec = cluster_spec(SETTINGS, "t2s-abcdef")
    yield "cluster-of-a-run", spec
    kind = {"apiVersion": "kubernetes.dask.org/v1", "kind": "DaskWorkerGroup", "metadata": {"name": "t2s-gpu"}}
    group = {"cluster": "t2s-abcdef", "worker": worker_spec(SETTINGS, "gpu")}
    yield "gpu-group-of-a-run", {**kind, "spec": group}


DOCUMENTS = dict(documents())


def as_the_operator_makes_of_it(document: dict[str, Any]) -> list[dict[str, Any]]:
    """The objects of Kubernetes itself: what is checked of a pod in Dask's resources is checked there."""
    name, spec = document["metadata"]["name"], document["spec"]
    worker = ("t2s", "t2s", name, "abc", spec["worker"]["spec"], {}, {})
    made = [build_worker_deployment_spec(*worker)]
    if "scheduler" in spec:
        made.append(build_scheduler_deployment_spec(name, spec["scheduler"]["spec"], {}, {}))
        made.append(build_scheduler_service_spec(name, spec["scheduler"]["service"], {}, {}))
    return made


@pytest.mark.parametrize("name", DOCUMENTS)
def test_manifests_hold_to_their_schemas(name: str) -> None:
    document = DOCUMENTS[name]
    if document["apiVersion"] != "kubernetes.dask.org/v1":
        kubernetes_validate.validate(document, KUBERNETES, strict=True)
        return
    for made in as_the_operator_makes_of_it(document):
        kubernetes_validate.validate(made, KUBERNETES, strict=True)
    folder = (
        Path(dask_kubernetes.__file__).parent / "operator" / "deployment" / "helm" / "dask-kubernetes-operator" / "crds"
    )
    definition = yaml.safe_load((folder / f"{document['kind'].lower()}.yaml").read_text())
    jsonschema.validate(document, definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"])


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_container_has_limits_probes_and_no_privileges(name: str) -> None:
    document = DOCUMENTS[name]
    made = as_the_operator_makes_of_it(document) if "dask" in document["apiVersion"] else [document]
    for pod in (it["spec"]["template"]["spec"] for it in made if it["kind"] == "Deployment"):
        assert pod["securityContext"]["runAsNonRoot"] is True
        for container in pod["containers"]:
            assert (ROOT / container["args"][0]).is_file()
            assert container["resources"]["limits"]["memory"]
            assert "livenessProbe" in container
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            gpus = container["resources"]["limits"].get("nvidia.com/gpu")
            assert (gpus == "1") == (container["args"] == ["infra/bin/gpu-worker.sh"])


def test_no_secret_is_written_into_a_manifest() -> None:
    assert not [name for name, document in DOCUMENTS.items() if document["kind"] == "Secret"]
    words = re.compile(
        r"(password|secret_?key|(?<!ServiceAccount)token|api_?key)['\"]?\s*[:=]\s*['\"]?(?!\$\{|\s|$)\w", re.IGNORECASE
    )
    for file in (*MANIFESTS, INFRA / "compose.yaml", INFRA / "compose.env.example"):
        assert not [line for line in file.read_text().splitlines() if words.search(line.split("#")[0])], file


def test_the_kustomization_lists_every_manifest() -> None:
    listed = yaml.safe_load((INFRA / "kubernetes" / "kustomization.yaml").read_text())["resources"]
    assert sorted(listed) == [file.name for file in MANIFESTS]


def test_examples_of_settings_are_settings() -> None:
    slurm = read_settings(str(INFRA / "slurm" / "slurm.yaml"), SlurmSettings)
    assert slurm.gpu is not None
    assert SETTINGS.gpu is not None
    spec = worker_spec(SETTINGS, "gpu")
    assert (spec["replicas"], spec["spec"]["nodeSelector"]) == (0, {"nvidia.com/gpu.present": "true"})
    assert spec["spec"]["containers"][0]["envFrom"] == [{"secretRef": {"name": "t2s-store"}}]
