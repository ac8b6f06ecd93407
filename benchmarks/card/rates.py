"""What this machine can do at most: its matrix rate and how fast it copies; everything else is held against these."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator

from benchmarks.card.bench import Bench, on_card, wait_for_card
from benchmarks.card.figure import Figure, Section

TIMES, WARM_UPS = 10, 3


def matmul_rate() -> float:
    """Operations a second of a large square matrix product of random numbers in bf16."""
    import torch

    side, device = (8192, "cuda") if on_card() else (1024, "cpu")
    one, other = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    return 2 * side**3 / _seconds(lambda: one @ other)


def copy_rate() -> float:
    """Bytes a second, read and written, of a copy from memory to the same memory."""
    import torch

    count = 1 << (31 if on_card() else 26)
    source = torch.ones(count, device="cuda" if on_card() else "cpu", dtype=torch.uint8)
    target = torch.empty_like(source)
    return 2 * count / _seconds(lambda: target.copy_(source))


def _seconds(act: Callable[[], object]) -> float:
    """The median of several times, each waited for."""
    took = []
    for turn in range(WARM_UPS + TIMES):
        wait_for_card()
        began = time.perf_counter()
        act()
        wait_for_card()
        if turn >= WARM_UPS:
            took.append(time.perf_counter() - began)
    return statistics.median(took)


def _rates(bench: Bench) -> Iterator[Figure]:
    import torch

    name = torch.cuda.get_device_name() if on_card() else f"CPU, threads used: {torch.get_num_threads()}"
    yield Figure("device", name)
    yield Figure("matrix product", round(matmul_rate() / 1e12, 3), "TFLOP/s, bf16")
    yield Figure("copy", round(copy_rate() / 1e9, 1), "GB/s, read and written")


SECTIONS = (Section("rates", _rates),)
