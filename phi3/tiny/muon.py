"""Muon, the optimizer of the embedded Phi-3's matrices: it needs about half of AdamW's steps here."""
import math

import torch

STEPS = 5
COEFFICIENTS = (3.4445, -4.7750, 2.0315)


class Muon(torch.optim.Optimizer):
    """Momentum whose direction is made orthogonal, so that every direction of a matrix moves equally far.

    After K. Jordan and others, "Muon: an optimizer for hidden layers" (2024); the step's size is scaled as in
    "Muon is scalable for LLM training" (2025), so that AdamW's learning rates and weight decay fit. A group's `pieces`
    says how many matrices of one shape are stacked in its weights: 3 in `qkv_proj`, 2 in `gate_up_proj`.
    """

    def __init__(self, groups: list[dict], lr: float, weight_decay: float, momentum: float = 0.95) -> None:
        super().__init__(groups, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum, "pieces": 1})

    @torch.no_grad()
    def step(self) -> None:
        """Matrices of one shape, or of its transpose, are made orthogonal together: that halves the step's time."""
        directions = [(group, weight, self._direction(group, weight))
                      for group in self.param_groups for weight in group["params"]]
        for shape in sorted({tuple(sorted(wide.shape[1:])) for _, _, wide in directions}):
            some = [one for one in directions if tuple(sorted(one[2].shape[1:])) == shape]
            together = torch.cat([wide for _, _, wide in some])
            updates = orthogonal(together).split([wide.shape[0] for _, _, wide in some])
            for (group, weight, _), update in zip(some, updates, strict=True):
                tall = weight.shape[0] // group["pieces"] > weight.shape[1]
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                weight.add_((update.mT if tall else update).reshape(weight.shape),
                            alpha=-group["lr"] * 0.2 * math.sqrt(shape[1]))

    def _direction(self, group: dict, weight: torch.Tensor) -> torch.Tensor:
        """Where the momentum points, as matrices that are never taller than wide: (pieces, short side, long side)."""
        momentum = self.state[weight].setdefault("momentum", torch.zeros_like(weight))
        momentum.lerp_(weight.grad, 1 - group["momentum"])
        pieces = weight.grad.lerp(momentum, group["momentum"]).view(group["pieces"], -1, weight.shape[1])
        return pieces.mT if pieces.shape[1] > pieces.shape[2] else pieces


def orthogonal(wide: torch.Tensor) -> torch.Tensor:
    """Matrices (pieces, short side, long side) with their singular values brought near one, by Newton-Schulz steps."""
    a, b, c = COEFFICIENTS
    x = (wide / wide.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)).to(fast_dtype())
    for _ in range(STEPS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.float()


def fast_dtype() -> torch.dtype:
    """bf16 where the processor multiplies it by itself; elsewhere it is a hundred times slower than fp32."""
    return torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() else torch.float32
