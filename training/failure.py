"""What went wrong in a training: a sentence, advice, and after an out-of-memory how far off the plan was."""

from __future__ import annotations

import os
import re
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from phi3.machine import GIBIBYTE, is_disk_full, is_out_of_memory
from training.config import RunConfig
from training.fitting import change_after_memory_ran_out, changes_in_words
from training.plan import Plan

_UNITS = {"bytes": 1, "KiB": 1024, "MiB": 1024**2, "GiB": GIBIBYTE}
# torch's words: on a card "Tried to allocate 2.00 GiB. … of which 1.20 GiB is free", on a CPU "you tried to allocate
# 123 bytes".
_ASKED = re.compile(r"[Tt]ried to allocate ([\d.]+) (bytes|KiB|MiB|GiB)")
_FREE = re.compile(r"of which ([\d.]+) (bytes|KiB|MiB|GiB) is free")


@dataclass(frozen=True)
class Failure:
    """What a `failed` event says. `mendable`: the user can do something; `told` are its other values."""

    message: str
    advice: str
    mendable: bool = True
    told: dict[str, Any] = field(default_factory=dict)

    @property
    def sentence(self) -> str:
        """Both in one."""
        return f"{self.message} {self.advice}".strip()


class OutOfMemory(MemoryError):
    """Memory ran out in a run that had a plan; `failure` compares the two."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.sentence)
        self.failure = failure


@contextmanager
def against_plan(config: RunConfig, plan_of: Callable[[RunConfig], Plan], held: Callable[[], int]) -> Iterator[None]:
    """Raise what memory ran out with as OutOfMemory; `held` says how many bytes the process has had at most."""
    try:
        yield
    except (MemoryError, RuntimeError) as problem:
        if not is_out_of_memory(problem):
            raise
        raise OutOfMemory(out_of_memory(config, plan_of, held(), str(problem))) from problem


def out_of_memory(config: RunConfig, plan_of: Callable[[RunConfig], Plan], held: int, said: str) -> Failure:
    """How far off the plan was, from what torch `said`, and the mildest change that makes up for it."""
    plan, asked, free = plan_of(config), _bytes(_ASKED, said), _bytes(_FREE, said)
    changes = change_after_memory_ran_out(config, plan_of, held, asked or 0)
    more = f" and asked for {_gigabytes(asked)} more" if asked else ""
    message = (f"The machine ran out of memory: the plan was {_gigabytes(plan.peak)} of {_gigabytes(plan.available)}, "
               f"and the training held {_gigabytes(held)}{more}.")
    advice = f"Change this and start again: {changes_in_words(config, changes)}." if changes else \
        "No change of the settings is enough. Close what else needs memory here, or choose a smaller base."
    told = {"planned_peak_bytes": plan.peak, "available_bytes": plan.available, "held_bytes": held,
            "asked_bytes": asked, "free_bytes": free, "changes": changes}
    return Failure(message, advice, told=told)


def explained(problem: BaseException) -> Failure:
    """Whatever was raised, as a sentence with advice."""
    if isinstance(problem, OutOfMemory):
        return problem.failure
    if isinstance(problem, ValueError):
        return Failure(str(problem), "")
    if is_out_of_memory(problem):
        return Failure("The machine ran out of memory before the training began.", "Close what else needs memory here, "
                       "use qlora, or choose a smaller base.")
    if is_disk_full(problem):
        return Failure("The disk is full, so the training could not go on.", "Free some space and start again; "
                       "what was saved before is still there.")
    return Failure(f"The training failed: {type(problem).__name__}.", "The run's log.txt holds the details.", False)


def keep_trace(problem: BaseException, log: Path) -> None:
    """Append to the log where it was raised. A process whose own errors go there prints it on its way out. OSError
    where it can't be written."""
    with log.open("a", encoding="utf-8", errors="backslashreplace") as file:
        if not _is_stderr(file):
            file.writelines(traceback.format_exception(problem))


def _is_stderr(file: IO[str]) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.fstat(2))
    except OSError:  # closed, as under a service
        return False


def _bytes(pattern: re.Pattern[str], said: str) -> int | None:
    found = pattern.search(said)
    return int(float(found[1]) * _UNITS[found[2]]) if found else None


def _gigabytes(number: int) -> str:
    return f"{number / GIBIBYTE:.1f} GB"
