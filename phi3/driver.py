"""The NVIDIA card that torch uses first, as CUDA's own driver tells of it, without torch."""

import ctypes
import importlib.util
import logging
import os
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

LIBRARY = "libcuda.so.1"
LONGEST_NAME = 256
# What the driver says where it has no card to show.
NO_CARD = 100
# So the driver writes 13.0 as a number.
MAJOR = 1000
# The driver's numbers (cuda.h, CUdevice_attribute) of a card's clock in kHz, its multiprocessors, and the two parts of
# its compute capability.
CLOCK, PROCESSORS, GENERATION, VERSION = 13, 16, 75, 76
# From this version on CUDA makes no kernels for cards before this compute capability.
CUDA_FROM_TURING_ON, TURING = 13, (7, 5)
# Operations of bf16, summed in float32, that a multiprocessor makes each time its clock ticks, by compute capability,
# from NVIDIA's data sheets. Of cards before the A100 those of float32, in which they compute it.
OPERATIONS = ((12, 0), 512), ((10, 0), 8192), ((9, 0), 4096), ((8, 1), 512), ((8, 0), 2048), ((0, 0), 128)

_log = logging.getLogger("studio")


@dataclass(frozen=True)
class Card:
    """What there is to know of one: `memory` in gibibytes, and `teraflops` of bf16 at most, in dense products."""

    name: str
    memory: float
    teraflops: float


@cache
def first_card() -> Card | None:
    """What torch can use; None where it can use none.

    Only CUDA itself counts cards as torch does: what CUDA_VISIBLE_DEVICES leaves, a part of a card (MIG) as one, and of
    several the fastest first. nvidia-smi counts whole cards, all of them, as they stand in the machine.
    """
    needed = _cuda_of_torch()
    if needed is None:
        return None
    try:
        driver = ctypes.CDLL(LIBRARY)
    except OSError:  # there is no driver
        return None
    return card_of(driver, needed)


def card_of(driver: Any, needed: int) -> Card | None:
    """What this driver tells of its first card; None, and a warning, where it is too old for a torch that was made for
    CUDA `needed`, as torch finds it as well, or can't be started. ValueError where torch would use the card, and has no
    kernels for it.
    """
    # As torch asks for it: else older drivers load every kernel that there is.
    os.environ.setdefault("CUDA_MODULE_LOADING", "LAZY")
    version, device, size = ctypes.c_int(), ctypes.c_int(), ctypes.c_size_t()
    name = ctypes.create_string_buffer(LONGEST_NAME)
    problem = driver.cuInit(0) or driver.cuDriverGetVersion(ctypes.byref(version))
    if problem:
        if problem != NO_CARD:
            _log.warning("The NVIDIA driver doesn't start (CUDA's error %d), so no card is used. A restart of the "
                         "machine may help.", problem)
        return None
    if version.value // MAJOR < needed:
        _log.warning("The NVIDIA driver knows CUDA %d.%d at most, and the torch that is installed was made for CUDA "
                     "%d, so no card is used. Update the driver, or install a torch for an older CUDA (pytorch.org "
                     "says how).", version.value // MAJOR, version.value % MAJOR // 10, needed)
        return None
    if driver.cuDeviceGet(ctypes.byref(device), 0) or driver.cuDeviceGetName(name, LONGEST_NAME, device) \
            or driver.cuDeviceTotalMem_v2(ctypes.byref(size), device):
        return None
    clock, processors, *capability = (_told(driver, what, device)
                                      for what in (CLOCK, PROCESSORS, GENERATION, VERSION))
    called = name.value.decode(errors="replace")
    if needed >= CUDA_FROM_TURING_ON and (0, 0) < tuple(capability) < TURING:
        raise ValueError(f"{called} is older than what the torch that is installed was made for: CUDA {needed} knows "
                         "cards from Turing on (GTX 16, RTX 20, T4). Install a torch for CUDA 12.6 (pytorch.org says "
                         "how), or set CUDA_VISIBLE_DEVICES= to compute without the card.")
    return Card(called, size.value / 1024**3, clock * 1e3 * processors * _operations(*capability) / 1e12)


def _told(driver: Any, what: int, device: ctypes.c_int) -> int:
    """One of the card's numbers; 0 where the driver doesn't tell it."""
    number = ctypes.c_int()
    driver.cuDeviceGetAttribute(ctypes.byref(number), what, device)
    return number.value


def _operations(generation: int, version: int) -> int:
    return next(count for capability, count in OPERATIONS if (generation, version) >= capability)


def _cuda_of_torch() -> int | None:
    """The major version of CUDA that torch was made for; None where it was made for none, or isn't installed."""
    torch = importlib.util.find_spec("torch")
    if torch is None or torch.origin is None:
        return None
    told = Path(torch.origin).with_name("version.py").read_text(encoding="utf-8")
    found = re.search(r"^cuda\b.*= '(\d+)\.", told, re.MULTILINE)
    return int(found[1]) if found else None
