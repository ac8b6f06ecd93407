"""A trainer's steps by the clock, the memory that they took, and what they were spent on."""

from __future__ import annotations

import re
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.card.bench import on_card, wait_for_card


@dataclass(frozen=True)
class Taken:
    """`first` step's seconds and the median of the others'; bytes at most, of them `reserved` by torch's allocator, and
    `besides`, what the process holds of a card beyond that.
    """

    first: float
    seconds: float
    peak: int
    reserved: int
    besides: int


class Peak:
    """The most memory held from now on: the card's, or on a CPU this process's resident memory."""

    def __init__(self) -> None:
        import torch

        if on_card():
            torch.cuda.reset_peak_memory_stats()
        elif _LINUX.exists():
            # Linux forgets how high it was (proc(5), clear_refs).
            Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")

    def bytes(self) -> int:
        """Of tensors on a card; of everything on a CPU."""
        from training.outcome import peak_bytes

        if not on_card() and _LINUX.exists():
            # The one that can be forgotten; `getrusage` keeps its own.
            return 1024 * int(re.search(r"VmHWM:\s+(\d+) kB", _LINUX.read_text(encoding="utf-8"))[1])
        return peak_bytes()

    def reserved(self) -> int:
        """What torch's allocator took of the card for it; on a CPU the same as the bytes."""
        import torch

        return torch.cuda.max_memory_reserved() if on_card() else self.bytes()


_LINUX = Path("/proc/self/status")


def besides() -> int:
    """Bytes of the card that are taken, and not by torch's allocator in this process: its context, and others."""
    import torch

    if not on_card():
        return 0
    free, whole = torch.cuda.mem_get_info()
    return whole - free - torch.cuda.memory_reserved()


def train(trainer: Any, profiler: Any = None) -> list[float]:
    """Seconds of each step of the whole training; the last one within the profiler, where there is one."""
    from transformers import TrainerCallback
    from transformers.trainer_callback import PrinterCallback

    took: list[float] = []

    class Watch(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, *given: Any, **named: Any) -> None:
            wait_for_card()
            if profiler is not None and state.global_step == state.max_steps - 1:
                profiler.start()
            self.began = time.perf_counter()

        def on_step_end(self, args: Any, state: Any, *given: Any, **named: Any) -> None:
            wait_for_card()
            took.append(time.perf_counter() - self.began)
            if profiler is not None and state.global_step == state.max_steps:
                profiler.stop()

    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(Watch())
    trainer.train()
    return took


def taken(trainer: Any, peak: Peak) -> Taken:
    """Train, and say what it took; there are two steps at least."""
    first, *others = train(trainer)
    return Taken(first, statistics.median(others), peak.bytes(), peak.reserved(), besides())


def largest_kernels(trainer: Any, count: int = 10) -> list[dict[str, Any]]:
    """What the last step was spent on: the operations with the most time of their own, on the card or on the CPU."""
    from torch.profiler import ProfilerActivity, profile

    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_card() else [])]
    profiler = profile(activities=activities)
    train(trainer, profiler)
    return kernels_of(profiler, 1, count)["kernels"]


def kernels_of(profiler: Any, steps: int, count: int) -> dict[str, Any]:
    """All that so many steps were spent on, and the largest of it, a step: `milliseconds_of_kernels`,
    `launched` and `kernels`."""
    events = [event for event in profiler.key_averages() if not on_card() or _is_kernel(event)]

    def own(event: Any) -> float:
        return event.self_device_time_total if on_card() else event.self_cpu_time_total

    whole = sum(map(own, events)) or 1.0
    largest = sorted(events, key=own, reverse=True)[:count]
    return {"milliseconds_of_kernels": round(whole / 1e3 / steps, 3),
            "launched": round(sum(event.count for event in events) / steps),
            "kernels": [{"kernel": event.key[:120], "milliseconds": round(own(event) / 1e3 / steps, 3),
                         "share": round(own(event) / whole, 3), "times": round(event.count / steps)}
                        for event in largest]}


def _is_kernel(event: Any) -> bool:
    """What ran on the card itself; the time of what began it there is the same time again."""
    from torch.autograd import DeviceType

    return event.device_type == DeviceType.CUDA and not event.is_user_annotation
