"""Out of memory on purpose: a sentence with advice, the memory is free again, and the run that was advised works."""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.card.base import make_chats
from benchmarks.card.bench import Bench, free_memory, on_card
from benchmarks.card.figure import TRAINING, Check, Figure, Section

GIGABYTE = 1e9
# A rehearsal may have this much more than it holds already: what it asks for is small, and a CPU's memory is other
# people's as well.
ROOM = 300 * 1024**2
# What may stay behind: libraries keep a little of what they first needed.
LEFT_BEHIND = 200 * 1000**2
NAME = "memory"


def _too_large(bench: Bench) -> Iterator[Figure]:
    """A batch that can't fit, on a resident base; then, in the same process, what the failure advised."""
    import torch

    from phi3.models import load_base
    from training.runs import Runs

    base = load_base(str(bench.base()))
    runs, rows = Runs(bench.studio(NAME)), bench.size(64, 32)
    held = torch.cuda.memory_allocated() if on_card() else 0
    failed = _failed(bench, runs, base, rows)
    told = failed.last_event().values
    yield Figure("it ends as", told["message"], check=Check(
        "a sentence that names the plan and what was asked for",
        failed.state() == "failed" and "ran out of memory" in told["message"] and bool(told.get("asked_bytes"))))
    yield Figure("its advice", told["advice"], check=Check("a change of the settings", bool(told.get("changes"))))
    free_memory()
    left = (torch.cuda.memory_allocated() if on_card() else 0) - held
    free, whole = torch.cuda.mem_get_info() if on_card() else (0, 0)
    yield Figure("memory left behind", round(left / GIGABYTE, 3), "GB", f"{free / GIGABYTE:.1f} of "
                 f"{whole / GIGABYTE:.1f} GB of the card are free" if on_card() else "tensors on a card: none here",
                 check=Check("the card's memory is free again", left < LEFT_BEHIND))
    yield from _again(bench, runs, base, rows, told.get("changes") or {})


def _again(bench: Bench, runs: Any, base: Any, rows: int, changes: Mapping[str, Any]) -> Iterator[Figure]:
    from training.train import run_lease

    # A step of as many conversations would be as long in a rehearsal as all the rest of it.
    fewer = changes if on_card() else {"per_device_train_batch_size": 2}
    run = _new_run(bench, runs, base, rows, "next", **fewer)
    end = run_lease(run, None, base)
    yield Figure("the next run in the same process", end.type, note=f"with {dict(fewer)}", check=Check(
        f"finished at step {end.step}", end.type == "finished"))


def _failed(bench: Bench, runs: Any, base: Any, rows: int) -> Any:
    """The run that could not fit; RuntimeError where it did."""
    from training.train import run_lease

    run = _new_run(bench, runs, base, rows, "too-large")
    try:
        with _little_room(bench.small):
            run_lease(run, None, base)
    except ValueError:
        return run
    raise RuntimeError(f"{rows} conversations of {bench.tokens(2047)} tokens fitted, which they were not meant to.")


def _new_run(bench: Bench, runs: Any, base: Any, rows: int, name: str, **changes: Any) -> Any:
    from training.config import RunConfig
    from training.data import read_data

    longest = bench.tokens(2047)
    # So many words that every conversation is cut at the limit.
    chats = make_chats(bench.work / "long.jsonl", 12 * longest, rows)
    config = RunConfig.from_settings({
        "base": base.facts.id, "name": name, "bf16": True, "max_steps": 1, "held_out": 0.0, "max_length": longest,
        "eval_steps": 10**6, "save_steps": 10**6, "per_device_train_batch_size": rows, **changes})
    return runs.create(config, read_data(Path(chats)))


@contextmanager
def _little_room(is_small: bool) -> Iterator[None]:
    """In a rehearsal, and on a CPU, the process may take little more than it has; else a card is as large as it is."""
    if on_card() and is_small:
        import torch

        whole = torch.cuda.mem_get_info()[1]
        torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_allocated() + ROOM) / whole)
        try:
            yield
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)
        return
    if on_card() or sys.platform != "linux":
        yield
        return
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0])
    usual = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + ROOM, usual[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, usual)


SECTIONS = (Section("a batch that can't fit", _too_large, TRAINING),)
