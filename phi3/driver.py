"""The NVIDIA card that torch uses first, as CUDA's own driver tells of it, without torch."""

import ctypes
import importlib.util
import logging
import os
import re
from functools import cache
from pathlib import Path
from typing import Any

LIBRARY = "libcuda.so.1"
LONGEST_NAME = 256
# What the driver says where all is well, and where it has no card to show.
DONE, NO_CARD = 0, 100
# So the driver writes 13.0 as a number.
MAJOR = 1000

_log = logging.getLogger("studio")


@cache
def first_card() -> tuple[str, float] | None:
    """Its name and gibibytes; None where torch can use none.

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


def card_of(driver: Any, needed: int) -> tuple[str, float] | None:
    """What this driver tells of its first card; None, and a warning, where it is too old for a torch that was made for
    CUDA `needed`, as torch finds it as well, or can't be started.
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
    return name.value.decode(errors="replace"), size.value / 1024**3


def _cuda_of_torch() -> int | None:
    """The major version of CUDA that torch was made for; None where it was made for none, or isn't installed."""
    torch = importlib.util.find_spec("torch")
    if torch is None or torch.origin is None:
        return None
    told = Path(torch.origin).with_name("version.py").read_text(encoding="utf-8")
    found = re.search(r"^cuda\b.*= '(\d+)\.", told, re.MULTILINE)
    return int(found[1]) if found else None
