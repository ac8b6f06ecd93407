"""A block's parts for training as autograd functions over a card's own kernels.

They compute what those of `phi3/fused.py` do, in half of the passes over memory, and keep less of them: a card's memory
is slow beside its products, and each kernel costs a call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.autograd import Function

from phi3.fused import lora_gradients


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
        upper, grad_a, grad_b = lora_gradients(grad, seen, down, b, ctx.scaling)
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = grad @ ctx.weight()
            if ctx.dropout:
                ctx.kernels.add_dropped(grad_x, upper @ a.to(grad.dtype), ctx.dropout, seeds, ctx.place)
            else:
                grad_x.addmm_(upper, a.to(grad.dtype))
        return grad_x, grad_a.to(a.dtype), grad_b.to(b.dtype), None, None, None, None, None
