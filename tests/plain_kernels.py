"""What `phi3.kernels` computes, in plain torch, on any device: for tests of those who call it."""

from __future__ import annotations

import torch
from torch.nn import functional


def added_and_normed(hidden, more, weight, epsilon):
    """(hidden + more, its norm)."""
    total = hidden if more is None else hidden + more
    return total, functional.rms_norm(total.float(), weight.shape, weight.float(), epsilon).to(total.dtype)


def added_and_normed_back(grad_total, grad_normed, total, weight, epsilon):
    """The gradient of the sum."""
    with torch.enable_grad():
        wide = total.detach().float().requires_grad_()
        grad, = torch.autograd.grad(functional.rms_norm(wide, weight.shape, weight.float(), epsilon), wide,
                                    grad_normed.float())
    return (grad if grad_total is None else grad + grad_total.float()).to(total.dtype)


def gated(both):
    """silu(gate) · up."""
    gate, up = both.float().chunk(2, -1)
    return (functional.silu(gate) * up).to(both.dtype)


def gated_back(grad, both):
    """The gradient of both."""
    with torch.enable_grad():
        wide = both.detach().float().requires_grad_()
        gate, up = wide.chunk(2, -1)
        found, = torch.autograd.grad(functional.silu(gate) * up, wide, grad.float())
    return found.to(both.dtype)


def turned(x, cos, sin, half, sign):
    """x cos + sign · partner sin."""
    partners = torch.cat([x[..., half:2 * half], x[..., :half], x[..., 2 * half:]], -1)
    return (x.float() * cos.float() + sign * partners.float() * sin.float()).to(x.dtype)


def turned_with_rest(grad_turned, grad_values, cos, sin, half):
    """The gradient of queries, keys and values before the turn."""
    return torch.cat([turned(grad_turned, cos, sin, half, -1.0), grad_values], 1)


def dropped(x, dropout, seeds, place):
    """What dropout leaves."""
    return x * _kept(x, dropout, seeds, place)


def add_dropped(target, x, dropout, seeds, place):
    """Added to the target."""
    return target.add_(x * _kept(x, dropout, seeds, place))


def _kept(x, dropout, seeds, place):
    """A hash of the seed and each number's place; without asking for the seed, as in a capture."""
    numbers = torch.arange(x.numel()).view(x.shape) + (seeds[place] & 0xFFFFFF)
    mixed = (numbers * 2654435761) & 0xFFFFFFFF
    mixed = ((mixed ^ (mixed >> 15)) * 2246822519) & 0xFFFFFFFF
    return ((mixed ^ (mixed >> 13)).double() / 2**32 >= dropout).to(x.dtype)


def turned_into_cache(qkv, cos, sin, lengths, keys, values, half):
    """The turned queries; keys and values are put into the cache."""
    rows, (_, kept, room, size) = qkv.shape[0], keys.shape
    heads = qkv.shape[1] // size - 2 * kept
    parts = qkv.view(rows, heads + 2 * kept, size)
    turning = turned(parts[:, :heads + kept], cos, sin, half, 1.0)
    first = torch.arange(rows)[:, None] * kept + torch.arange(kept)
    places = (first * room + lengths[:, None] - 1).flatten()
    keys.view(-1, size).index_copy_(0, places, turning[:, heads:].reshape(-1, size))
    values.view(-1, size).index_copy_(0, places, parts[:, heads + kept:].reshape(-1, size))
    return turning[:, :heads].contiguous()


def beside_down(inputs, a, slots):
    """What A in each row's slot makes of its inputs, in one part."""
    return torch.einsum("ri,rki->rk", inputs.float(), a.index_select(0, slots).float())[:, None]


def beside_up(parts, b, slots, strengths, outputs):
    """What B in each row's slot adds."""
    narrow = parts.sum(1) * (strengths * (slots > 0))[:, None]
    return outputs.add_(torch.einsum("rk,rko->ro", narrow, b.index_select(0, slots).float()))
