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
        for group in self.param_groups:
            for weight in group["params"]:
                state = self.state[weight]
                momentum = state.setdefault("momentum", torch.zeros_like(weight))
                momentum.lerp_(weight.grad, 1 - group["momentum"])
                direction = weight.grad.lerp(momentum, group["momentum"])
                rows, columns = weight.shape[0] // group["pieces"], weight.shape[1]
                update = orthogonal(direction.view(group["pieces"], rows, columns)).reshape(weight.shape)
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                weight.add_(update, alpha=-group["lr"] * 0.2 * math.sqrt(max(rows, columns)))


def orthogonal(matrices: torch.Tensor) -> torch.Tensor:
    """Matrices (pieces, rows, columns) with their singular values brought near one, by Newton-Schulz steps."""
    a, b, c = COEFFICIENTS
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = (x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)).bfloat16()
    for _ in range(STEPS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.mT if tall else x).float()
