"""Torch devices: what they are called, and what their failures are."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from t2s_core.errors import BadInput, MachineFault


def device_name(device: str) -> str:
    """`auto` is the GPU where there is one, else the CPU; any other name is itself."""
    return ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device


def resolve_device(device: str) -> torch.device:
    """`cpu`, `cuda` or `cuda:N` to a device. Raises `BadInput` where it does not exist here."""
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise BadInput(f"device {device!r}: {str(error).splitlines()[0]}") from error
    if found.type == "cuda":
        count = torch.cuda.device_count()
        if (found.index or 0) >= count:
            raise BadInput(f"device {device!r}: this machine has {count} CUDA devices; use cpu")
    return found


def default_dtype(device: torch.device) -> torch.dtype:
    """bf16 on a GPU, as the published models were trained; fp32 elsewhere, where it rounds no decision away."""
    return torch.bfloat16 if device.type == "cuda" else torch.float32


def wait_for(device: torch.device) -> None:
    """Let a device finish what is queued on it; nothing to do where calls return when they are done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def machine_faults(what: str) -> Iterator[None]:
    """Turn what a device does to us (out of memory, a lost GPU) into `MachineFault`; bugs pass through.

    Args:
        what: Which model was doing what, for the message.

    """
    try:
        yield
    except (torch.OutOfMemoryError, torch.AcceleratorError, MemoryError) as error:
        raise MachineFault(f"{what}: {str(error).splitlines()[0] if str(error) else type(error).__name__}") from error
