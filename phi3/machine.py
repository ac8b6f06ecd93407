"""What this machine is: a CPU, a CUDA card or a ZeroGPU Space; asked once, without torch."""

import errno
import os
import sys
import tempfile
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Literal

from phi3.driver import Card, first_card

MEBIBYTE, GIBIBYTE = 1024**2, 1024**3
# A step works on logits of so many numbers at once: 64 MiB in float32.
LOGITS_AT_ONCE = 1 << 24
# What libraries say that wrap the system's error in their own: safetensors, and torch with C++'s words for it.
_ON_A_FULL_DISK = ("No space left", "os error 28", "os error 27", "file write failed", "iostream error")
NO_MEMORY = "There is no memory left for {}. Close what else needs it (nvidia-smi tells of a card), and {}."
# What says that memory ran out: torch's allocators on a card and on a CPU, and on a card CUDA, its library of products
# and Triton, which ask the driver themselves.
_WITHOUT_MEMORY = ("CUDA out of memory", "DefaultCPUAllocator", "CUDA error: out of memory",
                   "CUBLAS_STATUS_ALLOC_FAILED", "Triton Error [CUDA]: out of memory")


@dataclass(frozen=True)
class Machine:
    """One machine, as the plan and the page see it. Memory is in gibibytes; `card_memory` is 0 without a card.

    `multiplies_bf16`: its processor does so by itself, four times as fast as it multiplies float32. Of the card's
    memory `card_taken` are kept for the page's answers, and where that is known, the card makes so many `teraflops` of
    bf16 at most.
    """

    kind: Literal["cpu", "cuda", "zerogpu"]
    name: str
    threads: int
    memory: float
    card_memory: float = 0.0
    multiplies_bf16: bool = False
    card_taken: float = 0.0
    teraflops: float = 0.0

    @property
    def card_left(self) -> float:
        """What a run may have of the card's memory beside the answers."""
        return self.card_memory - self.card_taken

    def without_card(self) -> "Machine":
        """Its processor alone."""
        return replace(self, kind="cpu", name="CPU", card_memory=0.0, card_taken=0.0, teraflops=0.0)

    def hardware(self) -> str:
        """What it is, in a few words."""
        if self.kind == "cpu":
            return f"{self.threads} CPU cores, {self.memory:.0f} GB, no GPU"
        return f"{self.name}, {self.card_memory:.0f} GB"

    def sentence(self) -> str:
        """What a visitor reads about this machine."""
        held = f"; {self.card_taken:.1f} GB of them are kept for answers" if self.card_taken else ""
        return f"This machine: {self.hardware()}{held}."


def this_machine() -> Machine:
    """Read what this machine is from the system, so that the page needn't wait for torch."""
    cpu = Machine("cpu", "CPU", _threads(), _memory(), multiplies_bf16=multiplies_bf16())
    if os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true"):
        # Half an RTX Pro 6000 Blackwell is what a Space's default ("large") lease holds.
        return replace(cpu, kind="zerogpu", name="ZeroGPU", card_memory=48.0)
    card = _first_card()
    if card is not None:
        return replace(cpu, kind="cuda", name=card.name, card_memory=card.memory, teraflops=card.teraflops)
    return cpu


@cache
def multiplies_bf16() -> bool:
    """Whether this processor has instructions for products of bfloat16 (AVX512-BF16, AMX, or ARM's). Linux tells; of
    others it is not known, and False.
    """
    told = Path("/proc/cpuinfo")
    words = set(told.read_text(encoding="utf-8").split()) if told.exists() else set()
    return bool(words & {"avx512_bf16", "amx_bf16", "bf16"})


def _threads() -> int:
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _memory() -> float:
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text().strip() if limit.exists() else "max"
    return min(physical, int(text) if text.isdigit() else physical) / GIBIBYTE


def _first_card() -> Card | None:
    """The NVIDIA card that torch uses first, or None."""
    return None if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1") else first_card()


def path_of(written: str | Path) -> Path:
    """The path that somebody wrote, `~` for their home. A name that only begins so, "~$table.xlsx", is nobody's home,
    and pathlib's own expanduser raises there.
    """
    return Path(os.path.expanduser(written))


def studio_home() -> Path:
    """Where runs and adapters are kept: STUDIO_HOME, else a Space's persistent disk, else ./studio_home."""
    named = os.environ.get("STUDIO_HOME", "").strip()
    if named:
        return path_of(named).resolve()
    disk = Path("/data")
    if os.environ.get("SPACE_ID") and os.access(disk, os.W_OK):
        return disk / "studio"
    return Path("studio_home").resolve()


def writable_home() -> Path:
    """`studio_home`, made where it isn't there yet; ValueError where nothing can be kept in it."""
    home = studio_home()
    try:
        home.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=home).close()
    except OSError as problem:
        raise ValueError(f"Nothing can be kept in {home} ({problem.strerror}). Name a folder in which you may write: "
                         "STUDIO_HOME=FOLDER.") from None
    return home


def is_disk_full(problem: BaseException | None) -> bool:
    """Whether it was raised because nothing more can be written. torch and safetensors wrap the system's error in their
    own, so the chain and the words count as well.
    """
    while problem is not None:
        if isinstance(problem, OSError) and problem.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return True
        if any(words in str(problem) for words in _ON_A_FULL_DISK):
            return True
        problem = problem.__cause__ or problem.__context__
    return False


def is_out_of_memory(problem: BaseException) -> bool:
    """Python's own error, or one of torch's, which is known by its words."""
    return isinstance(problem, MemoryError) or any(words in str(problem) for words in _WITHOUT_MEMORY)
