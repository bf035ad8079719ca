from collections.abc import Callable, Sequence
from itertools import chain

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from t2s_core.batching import BatchSize, fitting
from t2s_core.devices import is_out_of_memory, machine_faults
from t2s_core.errors import MachineFault

CPU = torch.device("cpu")
CPU_WORDS = "[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 9"


def doubled_up_to(most: int, tried: list[int]) -> Callable[[Sequence[int]], list[int]]:
    def work(part: Sequence[int]) -> list[int]:
        tried.append(len(part))
        if len(part) > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")
        return [2 * item for item in part]

    return work


@given(n=st.integers(0, 40), size=st.integers(1, 50), most=st.integers(1, 50))
def test_all_items_are_done_once_in_order_whatever_fits(n: int, size: int, most: int) -> None:
    batch_size, tried = BatchSize(size), list[int]()
    done = list(chain.from_iterable(batch_size.run(range(n), doubled_up_to(most, tried))))
    assert done == [2 * item for item in range(n)]
    assert batch_size.size <= size
    assert sum(length > most for length in tried) <= size.bit_length()  # halved, not counted down
    if n >= size > most:
        assert most / 2 - 1 < batch_size.size <= most


def test_the_smaller_size_is_remembered() -> None:
    batch_size, tried = BatchSize(8), list[int]()
    list(batch_size.run(range(10), doubled_up_to(3, tried)))
    assert tried == [8, 4, 2, 2, 2, 2, 2]
    tried.clear()
    list(batch_size.run(range(4), doubled_up_to(3, tried)))
    assert tried == [2, 2]


def test_one_that_does_not_fit_alone_and_any_other_error_are_raised() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        list(BatchSize(8).run(range(8), doubled_up_to(0, [])))

    def broken(_part: Sequence[int]) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    batch_size = BatchSize(8)
    with pytest.raises(RuntimeError, match="shapes"):
        list(batch_size.run(range(8), broken))
    assert batch_size.size == 8


def test_what_a_failed_attempt_held_is_free_before_the_next() -> None:
    alive = 0

    class Held:
        def __init__(self) -> None:
            nonlocal alive
            alive += 1

        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    seen = []

    def work(part: Sequence[int]) -> None:
        seen.append(alive)
        held = Held()
        if len(part) > 1:
            raise MemoryError(held)

    list(BatchSize(4).run(range(4), work))
    assert seen == [0] * len(seen)


def test_out_of_memory_is_known_in_all_its_spellings() -> None:
    with pytest.raises(RuntimeError) as real:
        torch.empty(2**58, dtype=torch.uint8)
    assert is_out_of_memory(real.value)
    assert is_out_of_memory(torch.OutOfMemoryError("x"))
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"))
    assert not is_out_of_memory(RuntimeError("shapes"))
    assert not is_out_of_memory(ValueError("out of memory"))


def test_memory_that_runs_out_is_a_machine_fault_with_figures() -> None:
    with (
        pytest.raises(MachineFault, match=r"tiny: .*can't allocate memory.* GiB free\)"),
        machine_faults("tiny", CPU),
    ):
        raise RuntimeError(CPU_WORDS)
    with pytest.raises(RuntimeError, match="shapes"), machine_faults("tiny", CPU):
        raise RuntimeError("shapes")


def test_sizes_are_fixed_on_a_cpu_and_powers_of_two_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [fitting(CPU, bytes_each=n, most=64, on_cpu=7) for n in (1, 2**29, 2**60)] == [7, 4, 1]
    gpu = torch.device("cuda", 0)
    for free, size in ((100, 64), (64, 32), (1 << 40, 256), (2, 1), (0, 1)):
        monkeypatch.setattr("t2s_core.batching.free_bytes", lambda _device, free=free: free)
        assert fitting(gpu, bytes_each=1, most=256, on_cpu=7) == size
