"""`sbatch`, `squeue` and `scancel` that start jobs as plain processes here: for dask-jobqueue a Slurm like any other.

Jobs are folders below `T2S_FAKE_SLURM`: the script, its process group, what it said.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

COMMANDS = ("sbatch", "squeue", "scancel")


def install(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    """Put the commands on PATH; returns the folder of jobs."""
    programs, jobs = folder / "bin", folder / "jobs"
    programs.mkdir()
    jobs.mkdir()
    for name in COMMANDS:
        (programs / name).write_text(
            f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(Path(__file__).parent)!r})\n"
            f"from fake_slurm import {name}\n{name}(sys.argv[1:])\n"
        )
        (programs / name).chmod(0o755)
    patch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    patch.setenv("T2S_FAKE_SLURM", str(jobs))
    return jobs


def alive(jobs: Path) -> list[str]:
    """Ids of jobs that run."""
    return sorted((job.name for job in jobs.iterdir() if _is_alive(_group(job))), key=int)


def scripts(jobs: Path) -> list[str]:
    """Of all jobs there ever were, in the order of their submission."""
    return [(job / "script.sh").read_text() for job in sorted(jobs.iterdir(), key=lambda job: int(job.name))]


def sbatch(arguments: list[str]) -> None:
    """Refuses what asks for the partition `closed`."""
    jobs = Path(os.environ["T2S_FAKE_SLURM"])
    script = Path(arguments[-1]).read_text()
    if "#SBATCH -p closed" in script:
        sys.exit("sbatch: error: Batch job submission failed: Required partition not available")
    number = 1
    while True:
        job = jobs / str(number)
        try:
            job.mkdir()
        except FileExistsError:
            number += 1
        else:
            break
    (job / "script.sh").write_text(script)
    with (job / "output").open("w") as said:
        process = subprocess.Popen(
            ["bash", job / "script.sh"], stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True
        )
    (job / "group").write_text(str(process.pid))
    print(f"Submitted batch job {number}")


def squeue(arguments: list[str]) -> None:
    """Ids alone, a line each."""
    assert arguments == ["--me", "--noheader", "--format=%i"], arguments
    print(*alive(Path(os.environ["T2S_FAKE_SLURM"])), sep="\n")


def scancel(arguments: list[str]) -> None:
    """As Slurm does: SIGTERM to all of the job."""
    group = _group(Path(os.environ["T2S_FAKE_SLURM"]) / arguments[0])
    if _is_alive(group):
        os.killpg(group, signal.SIGTERM)


def _group(job: Path) -> int:
    return int((job / "group").read_text())


def _is_alive(group: int) -> bool:
    """Whether any process of the group is more than a zombie."""
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, of_group = status.read_text().rpartition(")")[2].split()[:3]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(of_group) == group and state not in "ZX":
            return True
    return False
