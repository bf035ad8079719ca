"""Measure and write `benchmarks/results/<name>.json`: `python benchmarks/run.py [NAME ...]`, all of them by default.

A benchmark is a module `bench_<name>.py` beside this file with `measure() -> dict`, which gives `ratio` or `value`,
`unit` and `details`, and `ci95` where it has one; one with `LONG = True` runs only where it is named, one whose
`missing() -> str | None` says what this machine lacks is passed over unless it is named. Ratios come from two things
timed in turn in one process, so that a machine whose speed drifts moves both.
"""

import importlib
import json
import os
import platform
import sys
from pathlib import Path
from types import ModuleType

import torch

HERE = Path(__file__).parent


def machine() -> dict[str, str | int]:
    """What the numbers were measured on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor()
    )
    return {
        "cpu": model,
        "cores": os.cpu_count() or 0,
        "system": platform.system(),
        "python": platform.python_version(),
        **({"gpu": torch.cuda.get_device_name()} if torch.cuda.is_available() else {}),
    }


def why_not(module: ModuleType) -> str | None:
    """Why a benchmark does not run unless it is named."""
    if getattr(module, "LONG", False):
        return "takes long; run it by name"
    return module.missing() if hasattr(module, "missing") else None


def main(names: list[str]) -> None:
    """Run the named benchmarks. Raises `SystemExit` on a name that is none."""
    known = sorted(path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py"))
    unknown = [name for name in names if name not in known]
    if unknown:
        raise SystemExit(f"no benchmark {', '.join(unknown)}; there are: {', '.join(known)}")
    (HERE / "results").mkdir(exist_ok=True)
    for name in names or known:
        module = importlib.import_module(f"bench_{name}")
        reason = None if names else why_not(module)
        if reason:
            print(f"{name}: {reason}")
            continue
        result = {"name": name, **module.measure(), "machine": machine()}
        (HERE / "results" / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
        print(json.dumps(result))


if __name__ == "__main__":
    sys.path.insert(0, str(HERE))
    main(sys.argv[1:])
