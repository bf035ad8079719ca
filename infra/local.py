"""Workers on this machine: processes for its cores, and one for each of its GPUs."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from infra.checks import GPU, ClusterProblem
from infra.signals import deaf_to_ctrl_c

# One thread per worker: an engine is not thread-safe, and GDAL datasets may not cross threads. And no limit of memory:
# Dask would kill a worker for the size of its models.
_WORKER = {"nthreads": 1, "memory_limit": 0}


def gpu_ids() -> list[str]:
    """Of the GPUs that this process may use, as CUDA_VISIBLE_DEVICES would name them."""
    import torch

    n_gpus = torch.cuda.device_count()  # by NVML: a CUDA context here would cost memory on the first GPU
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return [name.strip() for name in visible.split(",")][:n_gpus] if visible else [str(i) for i in range(n_gpus)]


@contextmanager
def local_processes(n_workers: int | None) -> Iterator[Any]:
    """A Dask cluster of `n_workers` processes; one per core if None."""
    from distributed import LocalCluster

    with (
        _loop() as loop,
        LocalCluster(
            loop=loop,
            n_workers=n_workers or os.cpu_count() or 1,
            threads_per_worker=_WORKER["nthreads"],
            memory_limit=_WORKER["memory_limit"],
            processes=True,
            dashboard_address=None,
            # A port of its own: with the usual one, two runs on one machine would warn of each other.
            scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},
            silence_logs=logging.ERROR,
        ) as cluster,
    ):
        yield cluster


@contextmanager
def local_gpus(n_workers: int | None) -> Iterator[Any]:
    """A Dask cluster of one process per GPU, and `n_workers` more for what needs none; a core each if None.

    Raises `ClusterProblem` where there is no GPU.
    """
    from distributed import Scheduler, SpecCluster

    gpus = gpu_ids()
    if not gpus:
        raise ClusterProblem("this machine has no GPU that PyTorch can use; use --cluster local")
    with_gpu = {f"gpu-{name}": _worker(resources={GPU: 1}, env={"CUDA_VISIBLE_DEVICES": name}) for name in gpus}
    n_others = n_workers or max(1, (os.cpu_count() or 1) - len(gpus))
    others = {f"cpu-{i}": _worker(env={"CUDA_VISIBLE_DEVICES": ""}) for i in range(n_others)}
    scheduler = {
        "cls": Scheduler,
        "options": {"host": "127.0.0.1", "dashboard": False, "dashboard_address": "127.0.0.1:0"},
    }
    workers = {**with_gpu, **others}
    with (
        _loop() as loop,
        SpecCluster(loop=loop, workers=workers, scheduler=scheduler, silence_logs=logging.ERROR) as cluster,
    ):
        yield cluster


@contextmanager
def _loop() -> Iterator[Any]:
    """An event loop in a thread of its own. Its processes do not hear Ctrl-C, or Dask would start others for them."""
    from distributed.utils import LoopRunner

    runner = LoopRunner()
    with deaf_to_ctrl_c():
        runner.start()
    try:
        yield runner.loop
    finally:
        runner.stop()


def _worker(**options: Any) -> dict[str, Any]:  # noqa: ANN401 -- as Dask's Nanny takes them
    from distributed import Nanny

    return {"cls": Nanny, "options": {**_WORKER, "dashboard": False, "silence_logs": logging.ERROR, **options}}
