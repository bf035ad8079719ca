"""Libraries that we are measured against, in an environment of their own: what they need is not what we do."""

import os
import subprocess
from pathlib import Path

PYTHON = Path(os.environ.get("T2S_PEERS_PYTHON", Path(__file__).parents[1] / ".peers" / "bin" / "python"))


def missing_peer(module: str) -> str | None:
    """Why a peer cannot run, and what to do; None where it can."""
    if not PYTHON.exists():
        return f"{PYTHON} is not there; `make peers`, or name an interpreter with {module} in T2S_PEERS_PYTHON"
    find = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({module!r}) is None)"
    if subprocess.run([PYTHON, "-c", find], check=False).returncode:
        return f"{PYTHON} has no {module}; `make peers` again"
    return None
