"""How a layer of the base is multiplied on a CPU when only a row or a few come: the steps of an answer."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

from phi3.shape import SMALL_BASE

Call = Callable[[torch.Tensor], torch.Tensor]
FEW_ROWS = 16
# Outputs of a layer that are computed together; with fewer than the least there would be too many calls.
BLOCK, LEAST_BLOCK = 32, 16


def is_small(model: nn.Module) -> bool:
    """Whether the model computes on a CPU whose caches may hold all of it."""
    values = list(model.parameters())
    return values[0].device.type == "cpu" and sum(value.nbytes for value in values) <= SMALL_BASE


def product_of(layer: nn.Module, in_small_base: bool) -> Call | None:
    """A faster way from a layer's inputs (rows, inputs) to its outputs (rows, outputs); None where there is none.

    A layer of a small base is laid out a second time, in blocks.
    """
    if type(layer) is not nn.Linear or layer.bias is not None or \
            layer.weight.device.type != "cpu" or layer.weight.dtype is not torch.float32 or \
            not layer.weight.is_contiguous():
        return None
    weight = layer.weight.detach()
    width = max(size for size in range(1, BLOCK + 1) if weight.shape[0] % size == 0)
    if width < LEAST_BLOCK:
        return None
    return _in_blocks(weight, width) if in_small_base else _as_it_lies(weight, width)


def _in_blocks(weight: torch.Tensor, width: int) -> Call:
    """A batch of products, each for so many outputs: threads share them, and each reads its own from end to end.

    For 4 rows that takes three quarters of the time that they take as columns, and for one row whose weights no cache
    kept half of a plain product's.
    """
    blocks = weight.view(-1, width, weight.shape[1]).transpose(1, 2).contiguous()

    def product(inputs: torch.Tensor) -> torch.Tensor:
        rows = inputs.shape[0]
        if rows > FEW_ROWS:
            return functional.linear(inputs, weight)
        made = torch.bmm(inputs.expand(len(blocks), -1, -1), blocks)
        return made.transpose(0, 1).reshape(rows, -1)

    return product


def _as_it_lies(weight: torch.Tensor, width: int) -> Call:
    """No second copy. One row goes as such a batch too, each over rows of the weights: a plain product keeps to one
    thread, and takes twice as long. Of a few rows the outputs are made as columns: with several threads MKL takes a
    third less time for them.
    """
    blocks = weight.view(-1, width, weight.shape[1])

    def product(inputs: torch.Tensor) -> torch.Tensor:
        rows = inputs.shape[0]
        if rows == 1:
            return torch.bmm(blocks, inputs.t().expand(len(blocks), -1, -1)).view(1, -1)
        if rows <= FEW_ROWS and torch.get_num_threads() > 1:
            return torch.mm(weight, inputs.t()).t().contiguous()
        return functional.linear(inputs, weight)

    return product
