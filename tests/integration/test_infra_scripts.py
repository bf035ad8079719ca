"""The commands of the images and manifests, as plain processes, and a region through them."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from distributed import Client
from regions import WATER, draw_scene, make_models, results, run, spec_of

from infra.cluster import cluster_for
from pipeline.manifest import RunStatus
from pipeline.work import DaskWorkers

BIN = Path(__file__).parents[2] / "infra" / "bin"


@contextmanager
def started(script: str, log: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    given = {**os.environ, "T2S_PYTHON": sys.executable, "T2S_HOST": "127.0.0.1", **environment}
    with log.open("wb") as said, subprocess.Popen([BIN / script], env=given, stdout=said, stderr=said) as process:
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()


def free_ports(n: int) -> list[str]:
    with ExitStack() as stack:
        held = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(n)]
        return [str(it.getsockname()[1]) for it in held]


def answer(url: str, process: subprocess.Popen[bytes]) -> str:
    """What a URL says, once somebody answers there."""
    end_s = time.monotonic() + 120
    while True:
        assert process.poll() is None, f"{url}: {process.args} has ended"
        try:
            with urllib.request.urlopen(url, timeout=5) as response:  # noqa: S310 -- http, ours
                return str(response.read().decode())
        except OSError:
            assert time.monotonic() < end_s, url
            time.sleep(0.3)


def kept_messages(client: Client) -> set[int]:
    """How many messages of a connection are kept at most, on either side."""
    on_scheduler = client.run_on_scheduler(
        lambda dask_scheduler: {comm.recent_message_log.maxlen for comm in dask_scheduler.stream_comms.values()}
    )
    return {client.scheduler_comm.recent_message_log.maxlen, *on_scheduler}


def test_a_region_through_what_the_images_start(tmp_path: Path) -> None:
    port, *pages = free_ports(4)
    address = f"tcp://127.0.0.1:{port}"
    worker = {"DASK_SCHEDULER_ADDRESS": address, "T2S_GPU_CHECK": "off"}
    spec = spec_of(make_models(tmp_path), draw_scene(tmp_path / "alpha.tif"), queries=[WATER])
    with (
        started("scheduler.sh", tmp_path / "s.log", T2S_SCHEDULER_PORT=port, T2S_DASHBOARD_PORT=pages[0]) as scheduler,
        started("worker.sh", tmp_path / "w.log", T2S_DASHBOARD_PORT=pages[1], DASK_WORKER_NAME="cpu", **worker) as cpu,
        started(
            "gpu-worker.sh", tmp_path / "g.log", T2S_DASHBOARD_PORT=pages[2], DASK_WORKER_NAME="gpu", **worker
        ) as gpu,
    ):
        for page, process in zip(pages, (scheduler, cpu, gpu), strict=True):
            assert answer(f"http://127.0.0.1:{page}/health", process) == "ok"
        with cluster_for(address) as found:
            found.client.wait_for_workers(2, timeout=60)
            workers = found.client.scheduler_info()["workers"].values()
            assert {w["name"]: (w["nthreads"], w["resources"]) for w in workers} == {
                "cpu": (1, {}),
                "gpu": (1, {"GPU": 1}),
            }
            assert kept_messages(found.client) == {20}
            outcome = run(spec, tmp_path / "out", DaskWorkers(found.client, on_gpus=True, check=found.check))
        metrics = answer(f"http://127.0.0.1:{pages[2]}/metrics", gpu)
    assert outcome.status is RunStatus.SUCCESS
    run(spec, tmp_path / "here")
    assert results(tmp_path / "out") == results(tmp_path / "here")
    assert "dask_worker_" in metrics


@pytest.mark.parametrize(
    ("script", "told"),
    [("worker.sh", "DASK_SCHEDULER_ADDRESS: set it to"), ("prefect-worker.sh", "PREFECT_API_URL: set it to")],
)
def test_a_script_says_what_it_needs(script: str, told: str) -> None:
    bare = {"PATH": os.environ["PATH"]}
    done = subprocess.run([BIN / script], env=bare, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert told in done.stderr


def test_a_gpu_worker_without_a_gpu_does_not_start() -> None:
    given = {
        **os.environ,
        "T2S_PYTHON": sys.executable,
        "DASK_SCHEDULER_ADDRESS": "tcp://127.0.0.1:1",
        "CUDA_VISIBLE_DEVICES": "",
    }
    done = subprocess.run([BIN / "gpu-worker.sh"], env=given, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "no GPU is visible here" in done.stderr


def test_prefect_s_server_and_worker_answer_and_the_pool_is_made(tmp_path: Path) -> None:
    port, page = free_ports(2)
    given = {"PREFECT_HOME": str(tmp_path / "prefect"), "PREFECT_API_URL": f"http://127.0.0.1:{port}/api"}
    with started("prefect-server.sh", tmp_path / "s.log", T2S_PREFECT_PORT=port, **given) as server:
        assert answer(f"http://127.0.0.1:{port}/api/health", server) == "true"
        with started("prefect-worker.sh", tmp_path / "w.log", PREFECT_WORKER_WEBSERVER_PORT=page, **given) as worker:
            assert "OK" in answer(f"http://127.0.0.1:{page}/health", worker)
            pool = json.loads(answer(f"http://127.0.0.1:{port}/api/work_pools/t2s-gpu", worker))
            assert (pool["type"], pool["concurrency_limit"]) == ("process", 1)
