"""What must hold of a cluster before work is given to it: one software on both sides, and the hardware asked for."""

from collections.abc import Collection, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

GPU = "GPU"
"""The Dask resource of a worker that has a GPU to itself: `dask worker --nthreads 1 --resources GPU=1`."""

_WHOLE = ("t2s", "dask", "distributed", "cloudpickle", "msgpack")
"""Must be the same to the last digit: they talk to each other, or decide what a result is."""
_MINOR = ("python", "numpy", "pydantic", "shapely", "pyproj", "odc-geo")
"""Must agree in the first two numbers: what travels between processes are pickles of their objects."""


class ClusterProblem(ValueError):
    """A cluster that cannot be used as it is. One line: what is wrong, and the way out."""


def workers_of(client: Any) -> dict[str, dict[str, Any]]:  # noqa: ANN401 -- distributed has no types
    """By address: `nthreads`, `resources` and more, of the workers that are connected just now."""
    found: dict[str, dict[str, Any]] = client.scheduler_info(n_workers=-1)["workers"]
    return found


def gpus_of(worker: Mapping[str, Any]) -> int:
    """How many models a worker may run at the same time on GPUs of its own."""
    return int(worker["resources"].get(GPU, 0))


def check_versions(client: Any) -> None:  # noqa: ANN401
    """Raise `ClusterProblem` where scheduler or a worker has other software than this process."""
    names = [*_WHOLE, *_MINOR]
    told = client.get_versions(packages=[name for name in names if name != "python"])
    here = told["client"]["packages"]
    sides = {"the scheduler": told["scheduler"], **{f"worker {name}": it for name, it in told["workers"].items()}}
    for side, answer in sides.items():
        packages = answer["packages"] if answer else {}
        odd = [name for name in names if not _agree(name, here.get(name), packages.get(name))]
        if odd:
            said = ", ".join(f"{name} {_said(packages.get(name))} there, {_said(here.get(name))} here" for name in odd)
            raise ClusterProblem(f"{side} has other software: {said}; install the same on both sides")


def _agree(name: str, here: str | None, there: str | None) -> bool:
    if here is None or there is None:
        return here == there
    if name in _WHOLE:
        return here == there
    return here.split(".")[:2] == there.split(".")[:2]


def _said(version: str | None) -> str:
    return "missing" if version is None else ".".join(version.split(".")[:3])


def check_threads(workers: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise `ClusterProblem` where a worker would run models in several threads at once: engines know only one."""
    for address, worker in workers.items():
        if worker["nthreads"] > 1 and gpus_of(worker) != 1:
            raise ClusterProblem(
                f"worker {address} has {worker['nthreads']} threads, and a model runs in one; use --nthreads 1"
            )


def check_gpus(workers: Collection[Mapping[str, Any]]) -> None:
    """Raise `ClusterProblem` where no worker has a GPU."""
    if not any(gpus_of(worker) for worker in workers):
        raise ClusterProblem(
            f"--device cuda wants a GPU, and none of its {len(workers)} workers has one (--resources GPU=1); "
            "start one that has, or use --device cpu"
        )


def extra(package: str, name: str) -> None:
    """Raise `ClusterProblem` where a package of an optional extra is not installed."""
    try:
        version(package)
    except PackageNotFoundError as error:
        raise ClusterProblem(f"{package} is not installed; pip install 't2s[{name}]'") from error
