"""Torch devices: what they are called, and what their failures are."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out: of the GPU, of CUDA's libraries, or the CPU's."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    # These have no class of their own.
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _NO_MEMORY)


_NO_MEMORY = ("out of memory", "ALLOC_FAILED", "DefaultCPUAllocator: can't allocate memory", "not enough memory")


def free_bytes(device: torch.device) -> int:
    """Memory of a CUDA device that this process may still take, what it holds without using it included."""
    free: int = torch.cuda.mem_get_info(device)[0]
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


@contextmanager
def machine_faults(what: str, device: torch.device | None = None) -> Iterator[None]:
    """Turn what a device does to us (out of memory, a lost GPU) into `MachineFault`; bugs pass through.

    Args:
        what: Which model was doing what, for the message.
        device: Where; its memory is told where it ran out.

    """
    try:
        yield
    except (torch.AcceleratorError, MemoryError, RuntimeError) as error:
        short = is_out_of_memory(error)
        if not short and not isinstance(error, torch.AcceleratorError):
            raise
        told = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise MachineFault(f"{what}: {told}{_memory(device) if short and device is not None else ''}") from error


def _memory(device: torch.device) -> str:
    """Figures for the message; a CPU's are those that its system tells."""
    gib = 2**30
    if device.type == "cuda":
        total: int = torch.cuda.mem_get_info(device)[1]
        held = torch.cuda.memory_allocated(device)
        return f" ({device}: {free_bytes(device) / gib:.1f} of {total / gib:.1f} GiB free, {held / gib:.1f} held here)"
    told = Path("/proc/meminfo")
    if not told.exists():
        return ""
    kib = dict(line.split()[:2] for line in told.read_text().splitlines())
    available_gib, all_gib = (int(kib[name]) / 2**20 for name in ("MemAvailable:", "MemTotal:"))
    return f" ({available_gib:.1f} of {all_gib:.1f} GiB free)"
