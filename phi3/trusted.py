"""A card's own kernels: whether they can be trusted on it, and which steps of answers are computed by them."""

from __future__ import annotations

import importlib
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch

# NVIDIA's generation of the H100 and H200, by its compute capability.
HOPPER = 9

_log = logging.getLogger("studio")


@cache
def kernels_on(device: torch.device) -> Any:
    """The module `phi3.kernels`, where Triton runs on this device and each kernel computes what plain torch does; None
    elsewhere. The first call takes as long as the compiler does, if it wasn't here before.
    """
    return _trusted("phi3.kernels", "phi3.kernels_check", device)


@cache
def skinny_on(device: torch.device) -> Any:
    """The same of `phi3.skinny`, the products of few rows, on cards of the generation that they were measured on."""
    if device.type != "cuda" or torch.cuda.get_device_capability(device)[0] != HOPPER:
        return None
    return _trusted("phi3.skinny", "phi3.skinny", device)


def _trusted(name: str, check: str, device: torch.device) -> Any:
    """The module, where `is_right` of the one that checks it says so."""
    if device.type != "cuda":
        return None
    try:
        module = importlib.import_module(name)
        with torch.cuda.device(device):
            is_right = importlib.import_module(check).is_right(device)
        problem = "" if is_right else "they compute something else"
    except Exception as caught:  # noqa: BLE001 - whatever it was, there is a slower way that works
        problem = f"{type(caught).__name__}: {caught}"
    if problem:
        _log.warning("The card's own kernels (%s) can't be used, so it is slower than it could be. Why: %s", name,
                     problem)
        return None
    return module


_now = threading.local()


@contextmanager
def own_kernels() -> Iterator[None]:
    """In here a step of an answer is computed by the card's own kernels. They are for steps that are captured: begun
    one by one, each costs the processor three times what one of torch's does.
    """
    _now.are_own = True
    try:
        yield
    finally:
        _now.are_own = False


def are_own() -> bool:
    """Whether the calling thread is in there."""
    return getattr(_now, "are_own", False)
