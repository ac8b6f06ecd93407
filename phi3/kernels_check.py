"""Whether each of a card's own kernels (phi3/kernels.py) computes what plain torch does, on this card."""

from __future__ import annotations

import torch
from torch.nn import functional

from phi3 import kernels


def is_right(device: torch.device | str) -> bool:
    """Whether each kernel computes on this device what plain torch does, of a few random numbers in bf16.

    Widths are those of Phi-3-mini, so most of what is compiled here is used afterwards. Whatever the compiler or the
    card raises is passed on.
    """
    with torch.inference_mode(False), torch.enable_grad():
        draw = torch.Generator("cpu").manual_seed(0)

        def some(*shape: int) -> torch.Tensor:
            return torch.randn(shape, generator=draw, device="cpu").to(device, torch.bfloat16)

        return all(example(some) for example in (_norms_agree, _gates_agree, _turns_agree, _drops_agree,
                                                 _cache_agrees, _sides_agree))


def _agree(made: torch.Tensor, expected: torch.Tensor) -> bool:
    """Whether what was rounded to bf16 once, after sums in float32, is near enough; `expected` is in float32."""
    return torch.allclose(made.float(), expected.float(), rtol=2 ** -7, atol=2 ** -10)


def _norms_agree(some) -> bool:
    hidden, more, grad_total, grad_normed = some(4, 3, 3072)
    weight, epsilon = some(3072), 1e-5
    total, normed = kernels.added_and_normed(hidden, more, weight, epsilon)
    itself, again = kernels.added_and_normed(total, None, weight, epsilon)
    wide = total.float().requires_grad_()
    expected = functional.rms_norm(wide, (3072,), weight.float(), epsilon)
    grad, = torch.autograd.grad(expected, wide, grad_normed.float())
    return (_agree(total, hidden + more) and itself is total
            and _agree(normed, expected) and _agree(again, expected)
            and _agree(kernels.added_and_normed_back(None, grad_normed, total, weight, epsilon), grad)
            and _agree(kernels.added_and_normed_back(grad_total, grad_normed, total, weight, epsilon),
                       grad + grad_total))


def _gates_agree(some) -> bool:
    both, slope = some(3, 2 * 8192), some(3, 8192)
    wide = both.float().requires_grad_()
    gate, up = wide.chunk(2, -1)
    expected = functional.silu(gate) * up
    grad, = torch.autograd.grad(expected, wide, slope.float())
    return _agree(kernels.gated(both), expected) and _agree(kernels.gated_back(slope, both), grad)


def _turned_plainly(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, half: int, sign: float) -> torch.Tensor:
    x, cos, sin = x.float(), cos.float(), sin.float()
    partners = torch.cat([x[..., half:2 * half], x[..., :half], x[..., 2 * half:]], -1)
    return x * cos + sign * partners * sin


def _turns_agree(some) -> bool:
    qkv, cos, sin = some(3, 96, 96), some(3, 1, 96), some(3, 1, 96)
    turning, values = qkv.split((64, 32), dim=1)
    back = torch.cat([_turned_plainly(turning, cos, sin, 48, -1.0), values.float()], 1)
    return (_agree(kernels.turned(turning, cos, sin, 48, 1.0), _turned_plainly(turning, cos, sin, 48, 1.0))
            and _agree(kernels.turned_with_rest(turning, values, cos, sin, 48), back))


def _drops_agree(some) -> bool:
    """Of 18,432 numbers a quarter: 0.02 is six standard deviations."""
    x, target = some(6, 3072), some(6, 3072)
    seeds = torch.tensor([3, -(2 ** 40)], device=x.device)
    made = kernels.dropped(x, 0.25, seeds, 1)
    expected = target.float() + made.float()
    share = float((made == 0).float().mean())
    return (abs(share - 0.25) < 0.02 and torch.equal(made, torch.where(made == 0, made, x))
            and _agree(kernels.add_dropped(target, x, 0.25, seeds, 1), expected)
            and not torch.equal(made, kernels.dropped(x, 0.25, seeds, 0)))


def _cache_agrees(some) -> bool:
    qkv, cos, sin, (keys, values) = some(2, 9216), some(2, 1, 96), some(2, 1, 96), some(2, 3, 32, 5, 96)
    lengths, rows = torch.tensor([5, 1], device=qkv.device), torch.arange(2, device=qkv.device)
    wanted_keys, wanted_values = keys.float(), values.float()
    turning, new_values = qkv.view(2, 96, 96).split((64, 32), dim=1)
    queries, new_keys = _turned_plainly(turning, cos, sin, 48, 1.0).split((32, 32), dim=1)
    wanted_keys[rows, :, lengths - 1], wanted_values[rows, :, lengths - 1] = new_keys, new_values.float()
    return (_agree(kernels.turned_into_cache(qkv, cos, sin, lengths, keys, values, 48), queries)
            and _agree(keys, wanted_keys) and torch.equal(values.float(), wanted_values))


def _sides_agree(some) -> bool:
    inputs, a, b, outputs = some(2, 3072), some(2, 16, 3072), some(2, 16, 9216), some(2, 9216)
    slots = torch.tensor([1, 0], device=inputs.device)
    narrow = (a[1].float() @ inputs[0].float()) * 0.5
    expected = torch.stack([outputs[0].float() + narrow @ b[1].float(), outputs[1].float()])
    parts, strengths = kernels.beside_down(inputs, a, slots), torch.full((2,), 0.5, device=inputs.device)
    return _agree(kernels.beside_up(parts, b, slots, strengths, outputs), expected)
