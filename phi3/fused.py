"""A block's parts for training, forward and backward, in the fewest passes over memory; the base's weights are frozen.

Each is an autograd function with its gradient written out, because a frozen base asks for less than autograd keeps and
computes: no gradient of a weight but LoRA's, and nothing kept that can be had again by one cheap pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.autograd import Function
from torch.nn import functional

from phi3.machine import LOGITS_AT_ONCE
from phi3.products import product


class LoraLinear(Function):
    """A frozen linear layer and the LoRA beside it: x Wᵀ + s · drop(x) Aᵀ Bᵀ (Hu et al., "LoRA", 2021, section 4.1).

    `x` is (tokens, in), A (rank, in) and B (out, rank) in whatever type they are trained in: it is they that are cast,
    and not x. `weight` gives W (out, in); what is held in 4 bits is made whole anew in the backward pass.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, a: torch.Tensor, b: torch.Tensor, weight: Callable[[], torch.Tensor],
                scaling: float, dropout: float) -> torch.Tensor:
        kept = _kept(x, dropout) if dropout else None
        seen = _left(x, kept)
        down = seen @ a.to(x.dtype).t()
        out = product(x, weight().t())
        ctx.save_for_backward(seen, kept, down, a, b)
        ctx.weight, ctx.scaling = weight, scaling / (1 - dropout)  # what is kept counts the more
        return out.addmm_(down, b.to(x.dtype).t(), alpha=ctx.scaling)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        seen, kept, down, a, b = ctx.saved_tensors
        upper, grad_a, grad_b = lora_gradients(grad, seen, down, b, ctx.scaling)
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = product(grad, ctx.weight())
            if kept is None:
                grad_x.addmm_(upper, a.to(grad.dtype))
            else:
                grad_x += _left(upper @ a.to(grad.dtype), kept)
        return grad_x, grad_a.to(a.dtype), grad_b.to(b.dtype), None, None, None


def lora_gradients(grad: torch.Tensor, seen: torch.Tensor, down: torch.Tensor, b: torch.Tensor,
                   scaling: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Of a layer's output's gradient (tokens, out): what goes back through B (tokens, rank), and A's and B's gradients,
    in the type of `grad`. `seen` (tokens, in) is what A saw, and `down` (tokens, rank) what it made of it.
    """
    upper = (grad @ b.to(grad.dtype)).mul_(scaling)
    return upper, upper.t() @ seen, (grad.t() @ down).mul_(scaling)


class Normed(Function):
    """Root mean square norm (Zhang and Sennrich, 2019) of (tokens, width) with a frozen weight, computed in float32."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
        wide = x.float()
        scale = inverse_root(wide, wide.new_full((), epsilon))
        ctx.save_for_backward(x, scale, weight)
        return (wide * scale).to(x.dtype).mul_(weight)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, scale, weight = ctx.saved_tensors
        wide, grad = x.float(), grad.float() * weight.float()
        # Of y = x s with s = (mean x² + ε)^-1/2: dx = s (g - x s² mean(g x)).
        along = torch.linalg.vecdot(grad, wide).unsqueeze(-1).mul_(scale).mul_(scale).div_(-x.shape[-1])
        return torch.addcmul(grad, wide, along).mul_(scale).to(x.dtype), None, None


class Turned(Function):
    """Queries and keys (tokens, heads, head size) turned by their place (Su et al., "RoFormer", 2021).

    `cos` and `sin` are (tokens, 1, head size), `sin` with the sign that the partner of each number has (`Turns`).
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, half: int) -> torch.Tensor:
        ctx.save_for_backward(cos, sin)
        ctx.half = half
        return _turned(x, cos, sin, half, 1.0)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        cos, sin = ctx.saved_tensors
        return _turned(grad, cos, sin, ctx.half, -1.0), None, None, None


class Gated(Function):
    """SwiGLU (Shazeer, 2020) of gate and up, which lie side by side in (tokens, 2 · width): silu(gate) · up."""

    @staticmethod
    def forward(ctx: Any, both: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(both)
        gate, up = both.chunk(2, -1)
        return functional.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        both, = ctx.saved_tensors
        gate, up = both.chunk(2, -1)
        result = torch.empty_like(both)
        of_gate, of_up = result.chunk(2, -1)
        torch.ops.aten.silu_backward.grad_input(grad * up, gate, grad_input=of_gate)
        torch.mul(grad, functional.silu(gate), out=of_up)
        return result


class Spread(Function):
    """Rows of different lengths that lie end to end (tokens, …), each filled up to the longest: (slots, …).

    `tokens` says which token stands in each slot, and what fills up is any token of the row: later ones are seen by
    none of the row's own, so no gradient comes back from there. `slots` says where each token stands.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, tokens: torch.Tensor, slots: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(slots)
        return x.index_select(0, tokens)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        slots, = ctx.saved_tensors
        return grad.index_select(0, slots), None, None


class Gathered(Function):
    """The other way round: the tokens alone, end to end, out of (slots, …)."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, slots: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(slots)
        ctx.count = x.shape[0]
        return x.index_select(0, slots)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        slots, = ctx.saved_tensors
        return grad.new_zeros(ctx.count, *grad.shape[1:]).index_copy_(0, slots, grad), None


class HeadLoss(Function):
    """Negative log-likelihood of `targets` (tokens,) after `hidden` (tokens, width): summed, a float32 scalar. With
    `gaps` a target may be -100, and isn't counted.

    The head (vocabulary, width) is frozen, so the gradient of the hidden states is all that the backward pass needs. It
    is worked out here, while a tile of logits is at hand, and no logit is kept or computed twice.
    """

    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, head: torch.Tensor, targets: torch.Tensor,
                gaps: bool = False) -> torch.Tensor:
        loss, grads = hidden.new_zeros((), dtype=torch.float32), torch.empty_like(hidden)
        for some, wanted, place in _tiles(hidden, head, targets):
            logits = product(some, head.t()).float()
            logits -= logits.amax(-1, keepdim=True)
            counts = (wanted >= 0).to(logits.dtype) if gaps else None
            wanted = wanted.clamp(min=0) if gaps else wanted
            of_wanted = logits.gather(-1, wanted)
            slope = logits.exp_()
            summed = slope.sum(-1, keepdim=True)
            missed = summed.log() - of_wanted
            loss += (missed * counts if gaps else missed).sum()
            slope.div_(summed).scatter_add_(-1, wanted, slope.new_full((), -1.0).expand_as(wanted))
            grads[place] = product((slope.mul_(counts) if gaps else slope).to(hidden.dtype), head)
        ctx.save_for_backward(grads)
        return loss

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        grads, = ctx.saved_tensors
        return grads * grad.to(grads.dtype), None, None, None


def head_judged(hidden: torch.Tensor, head: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The same loss without a gradient, and how many targets were the likeliest word: scalars, float32 and int64."""
    loss, right = hidden.new_zeros((), dtype=torch.float32), targets.new_zeros(())
    for some, wanted, _ in _tiles(hidden, head, targets):
        logits = product(some, head.t()).float()
        right += (logits.max(-1, keepdim=True).indices == wanted).sum()  # sooner than argmax
        loss += (torch.logsumexp(logits, -1, keepdim=True) - logits.gather(-1, wanted)).sum()
    return loss, right


def _tiles(hidden: torch.Tensor, head: torch.Tensor,
           targets: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor, slice]]:
    """So many tokens at once, with their targets (tokens, 1) and place, that their logits stay within bounds."""
    at_once = max(1, LOGITS_AT_ONCE // head.shape[0])
    for start in range(0, hidden.shape[0], at_once):
        place = slice(start, start + at_once)
        yield hidden[place], targets[place, None], place


def inverse_root(x: torch.Tensor, epsilon: torch.Tensor) -> torch.Tensor:
    """One over the root mean square of each row, (…, 1), with `epsilon` under the root (Zhang and Sennrich, 2019).

    PyTorch has no kernel of its own for this on a CPU, and these three calls are fewer than the nine of its rms_norm.
    """
    length = torch.linalg.vector_norm(x, 2, -1, True)
    return torch.addcmul(epsilon, length, length, value=1 / x.shape[-1]).rsqrt_()


def _kept(x: torch.Tensor, dropout: float) -> torch.Tensor:
    """Which numbers dropout leaves: 1 with probability 1 - `dropout`, else 0, in a byte each, in the shape of `x`.

    On a CPU eight bytes are cut from each random number, a twelfth of the time of torch's own dropout. Of 256 values a
    byte drops as many as the probability asks for, and where that is no whole number, chance says for each call whether
    it is one more, so that each number is dropped with exactly that probability.
    """
    if x.device.type != "cpu":
        return (torch.rand_like(x, dtype=torch.float32) >= dropout).view(torch.uint8)
    drawn = torch.empty(x.numel() // 8 + 2, dtype=torch.int64).random_(-2 ** 63, None).view(torch.uint8)
    few, rest = divmod(dropout * 256, 1)
    dropped = int(few) + (int(drawn[-4:].view(torch.int32)) / 2 ** 32 + 0.5 < rest)
    kept = torch.empty(x.shape, dtype=torch.uint8)
    return torch.ge(drawn[:x.numel()].view(x.shape), dropped, out=kept)


def _left(x: torch.Tensor, kept: torch.Tensor | None) -> torch.Tensor:
    """What dropout leaves of x. A byte is multiplied in a quarter of the time that a boolean takes on a CPU."""
    return x if kept is None else x * kept


def _turned(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, half: int, sign: float) -> torch.Tensor:
    """x cos + partner sin, where the partner of a number stands half a rotated head away; backward, `sign` is -1."""
    out = x * cos
    out[..., :half].addcmul_(x[..., half:2 * half], sin[..., :half], value=sign)
    out[..., half:2 * half].addcmul_(x[..., :half], sin[..., half:2 * half], value=sign)
    return out
