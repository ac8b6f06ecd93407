"""A block's parts for training as autograd functions over a card's own kernels, where these can be trusted.

They compute what those of `phi3/fused.py` do, in half of the passes over memory, and keep less of them: a card's memory
is slow beside its products, and each kernel costs a call.
"""

from __future__ import annotations

import importlib
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch.autograd import Function

# NVIDIA's generation of the H100 and H200, by its compute capability.
HOPPER = 9

_log = logging.getLogger("studio")


@cache
def kernels_on(device: torch.device) -> Any:
    """The module `phi3.kernels`, where Triton runs on this device and each kernel computes what plain torch does; None
    elsewhere. The first call takes as long as the compiler does, if it wasn't here before.
    """
    return _trusted("phi3.kernels", device)


@cache
def skinny_on(device: torch.device) -> Any:
    """The same of `phi3.skinny`, the products of few rows, on cards of the generation that they were measured on."""
    if device.type != "cuda" or torch.cuda.get_device_capability(device)[0] != HOPPER:
        return None
    return _trusted("phi3.skinny", device)


def _trusted(name: str, device: torch.device) -> Any:
    if device.type != "cuda":
        return None
    try:
        module = importlib.import_module(name)
        with torch.cuda.device(device):
            problem = "" if module.is_right(device) else "they compute something else"
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


class Chance:
    """Seeds of a forward pass's dropout, one for each layer with LoRA, drawn at once; the backward pass, and a block
    that is computed twice, have the same.
    """

    def __init__(self) -> None:
        self.places = 0
        self.seeds: torch.Tensor | None = None

    def place(self) -> int:
        """One more seed is needed; which of them it is."""
        self.places += 1
        return self.places - 1

    def draw(self, device: torch.device) -> None:
        """All of them anew."""
        self.seeds = torch.randint(-2**62, 2**62, (self.places,), device=device)


class AddedAndNormed(Function):
    """(hidden + more, its root mean square norm), both (tokens, width), with a frozen weight."""

    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, more: torch.Tensor, weight: torch.Tensor, epsilon: float,
                kernels: Any) -> tuple[torch.Tensor, torch.Tensor]:
        total, normed = kernels.added_and_normed(hidden, more, weight, epsilon)
        ctx.save_for_backward(total, weight)
        ctx.epsilon, ctx.kernels = epsilon, kernels
        ctx.set_materialize_grads(False)
        return total, normed

    @staticmethod
    def backward(ctx: Any, grad_total: torch.Tensor | None,
                 grad_normed: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
        total, weight = ctx.saved_tensors
        if grad_normed is None:
            return grad_total, grad_total, None, None, None
        grad = ctx.kernels.added_and_normed_back(grad_total, grad_normed, total, weight, ctx.epsilon)
        return grad, grad, None, None, None


class Turned(Function):
    """Of qkv (tokens, heads, head size) the first heads turned by their place, and the rest, which are values, as they
    are: gradients of both are written side by side at once.
    """

    @staticmethod
    def forward(ctx: Any, qkv: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, half: int, turning: int,
                kernels: Any) -> tuple[torch.Tensor, torch.Tensor]:
        ctx.save_for_backward(cos, sin)
        ctx.half, ctx.kernels = half, kernels
        return kernels.turned(qkv[:, :turning], cos, sin, half, 1.0), qkv[:, turning:]

    @staticmethod
    def backward(ctx: Any, grad_turned: torch.Tensor, grad_values: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        cos, sin = ctx.saved_tensors
        return ctx.kernels.turned_with_rest(grad_turned, grad_values, cos, sin, ctx.half), None, None, None, None, None


class Gated(Function):
    """SwiGLU of gate and up, which lie side by side in (tokens, 2 · width): silu(gate) · up."""

    @staticmethod
    def forward(ctx: Any, both: torch.Tensor, kernels: Any) -> torch.Tensor:
        ctx.save_for_backward(both)
        ctx.kernels = kernels
        return kernels.gated(both)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        both, = ctx.saved_tensors
        return ctx.kernels.gated_back(grad, both), None


class LoraLinear(Function):
    """As `fused.LoraLinear`. Which numbers dropout leaves is drawn again in the backward pass, and not kept."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, a: torch.Tensor, b: torch.Tensor, weight: Callable[[], torch.Tensor],
                scaling: float, dropout: float, chance: tuple[torch.Tensor | None, int], kernels: Any) -> torch.Tensor:
        seen = kernels.dropped(x, dropout, *chance) if dropout else x
        down = seen @ a.to(x.dtype).t()
        out = x @ weight().t()
        ctx.save_for_backward(seen, down, a, b, chance[0])
        ctx.weight, ctx.scaling = weight, scaling / (1 - dropout)  # what is kept counts the more
        ctx.dropout, ctx.place, ctx.kernels = dropout, chance[1], kernels
        return out.addmm_(down, b.to(x.dtype).t(), alpha=ctx.scaling)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        seen, down, a, b, seeds = ctx.saved_tensors
        upper = (grad @ b.to(grad.dtype)).mul_(ctx.scaling)
        grad_b = (grad.t() @ down).mul_(ctx.scaling)
        grad_a = upper.t() @ seen
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = grad @ ctx.weight()
            if ctx.dropout:
                ctx.kernels.add_dropped(grad_x, upper @ a.to(grad.dtype), ctx.dropout, seeds, ctx.place)
            else:
                grad_x.addmm_(upper, a.to(grad.dtype))
        return grad_x, grad_a.to(a.dtype), grad_b.to(b.dtype), None, None, None, None, None
