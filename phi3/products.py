"""How a layer of the base is multiplied: for the few rows of an answer's step, and on a CPU in bf16."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import ClassVar
from weakref import WeakValueDictionary

import torch
from torch import nn
from torch.nn import functional

from phi3.machine import multiplies_bf16
from phi3.shape import SMALL_BASE
from phi3.trusted import are_own, skinny_on

Call = Callable[[torch.Tensor], torch.Tensor]
FEW_ROWS = 16
# Outputs of a layer that are computed together; with fewer than the least there would be too many calls.
BLOCK, LEAST_BLOCK = 32, 16
# From so many rows on a layer's weights are made float32 for the product where the processor has none of bf16: 512 rows
# then take 185 ms and not 480, 128 take 82 and not 120, and 64 are as fast either way (3,072 in, 9,216 out).
MANY_ROWS = 96


def is_small(model: nn.Module) -> bool:
    """Whether the model computes on a CPU whose caches may hold all of it."""
    values = list(model.parameters())
    return values[0].device.type == "cpu" and sum(value.nbytes for value in values) <= SMALL_BASE


def is_on_a_card(weight: torch.Tensor) -> bool:
    """Whether it isn't the processor that multiplies these."""
    return weight.device.type != "cpu"


def product(inputs: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """(..., inputs) times (inputs, outputs), in whatever way is the fastest for their type, here."""
    if inputs.dtype is not torch.bfloat16 or inputs.device.type != "cpu" or multiplies_bf16() or \
            inputs.numel() < MANY_ROWS * weight.shape[0]:
        return inputs @ weight
    return (inputs.float() @ weight.float()).to(inputs.dtype)


def product_of(layer: nn.Module, in_small_base: bool, has_room: bool = False, captures: bool = False) -> Call | None:
    """A faster way from a layer's inputs (…, inputs) to its outputs (…, outputs); None where there is none.

    A layer of a small base is laid out a second time, in blocks, and one in bf16 where `has_room` says that it may be.
    On a card it is for steps that are captured, where `captures` says that they will be.
    """
    if type(layer) is not nn.Linear or layer.bias is not None or not layer.weight.is_contiguous():
        return None
    weight = layer.weight.detach()
    if is_on_a_card(weight):
        return _few_on_a_card(weight) if captures else None
    if weight.dtype is torch.bfloat16 and has_room and _can_pack():
        return Packed.of(weight)
    if weight.dtype is not torch.float32:
        return partial(product, weight=weight.t())
    width = max(size for size in range(1, BLOCK + 1) if weight.shape[0] % size == 0)
    if width < LEAST_BLOCK:
        return None
    return _in_blocks(weight, width) if in_small_base else _as_it_lies(weight, width)


def gate_of(layer: nn.Module) -> Callable[[torch.Tensor], torch.Tensor | None] | None:
    """Of a layer that makes gate and up: the fastest way from few rows to silu(gate) · up on a card. It gives None for
    more rows, and is None where there is no such way.
    """
    if type(layer) is not nn.Linear or layer.bias is not None or not is_on_a_card(layer.weight):
        return None
    weight = layer.weight.detach()
    skinny = skinny_on(weight.device)
    if skinny is None or not skinny.is_suited(weight, is_gated=True):
        return None
    most = skinny.most_rows(weight, is_gated=True)
    return lambda inputs: skinny.gated_rows(inputs, weight) if inputs.dim() == 2 and len(inputs) <= most else None


def _few_on_a_card(weight: torch.Tensor) -> Call | None:
    """Few rows by the card's own kernel, which reads the weights faster than cuBLAS does; None where it can't."""
    skinny = skinny_on(weight.device)
    if skinny is None or not skinny.is_suited(weight):
        return None
    most = skinny.most_rows(weight)

    def computed(inputs: torch.Tensor) -> torch.Tensor:
        if not are_own() or inputs.dim() != 2 or inputs.shape[0] > most:
            return functional.linear(inputs, weight)
        return skinny.few_rows(inputs.contiguous(), weight)

    return computed


class Packed:
    """A bf16 layer a second time, in the order in which oneDNN multiplies it, with the same bits as outcome.

    Of weights as they are published oneDNN reads 29 GB/s, and in its own order 40 to 50 (two cores, AVX512): so one row
    takes two thirds of the time, and four hardly longer than one.
    """

    # By where the weights lie, so that there is one for all who use the same base; it ends with the last of them.
    _known: ClassVar[WeakValueDictionary[int, Packed]] = WeakValueDictionary()

    def __init__(self, weight: torch.Tensor) -> None:
        self._weight = weight  # kept, so that no other weights come to lie in its place
        self._packed = torch.ops.mkldnn._reorder_linear_weight(weight, FEW_ROWS)

    @classmethod
    def of(cls, weight: torch.Tensor) -> Packed:
        """The one of these weights, which is made where it isn't there yet."""
        known = cls._known.get(weight.data_ptr())
        if known is None:
            known = cls._known[weight.data_ptr()] = cls(weight)
        return known

    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        """(…, outputs) of (…, inputs)."""
        return torch.ops.mkldnn._linear_pointwise(inputs, self._packed, None, "none", [], "")


def _can_pack() -> bool:
    """Whether torch has the two operators with which its own compiler packs linear layers."""
    return torch.backends.mkldnn.is_available() and \
        all(hasattr(torch.ops.mkldnn, name) for name in ("_reorder_linear_weight", "_linear_pointwise"))


def _in_blocks(weight: torch.Tensor, width: int) -> Call:
    """A batch of products, each for so many outputs: threads share them, and each reads its own from end to end.

    For 4 rows that takes three quarters of the time that they take as columns, and for one row whose weights no cache
    kept half of a plain product's.
    """
    blocks = weight.view(-1, width, weight.shape[1]).transpose(1, 2).contiguous()

    def computed(inputs: torch.Tensor) -> torch.Tensor:
        rows = inputs.shape[0]
        if inputs.dim() > 2 or rows > FEW_ROWS:
            return functional.linear(inputs, weight)
        made = torch.bmm(inputs.expand(len(blocks), -1, -1), blocks)
        return made.transpose(0, 1).reshape(rows, -1)

    return computed


def _as_it_lies(weight: torch.Tensor, width: int) -> Call:
    """No second copy. One row goes as such a batch too, each over rows of the weights: a plain product keeps to one
    thread, and takes twice as long. Of a few rows the outputs are made as columns: with several threads MKL takes a
    third less time for them.
    """
    blocks = weight.view(-1, width, weight.shape[1])

    def computed(inputs: torch.Tensor) -> torch.Tensor:
        rows = inputs.shape[0]
        if inputs.dim() > 2:
            return functional.linear(inputs, weight)
        if rows == 1:
            return torch.bmm(blocks, inputs.t().expand(len(blocks), -1, -1)).view(1, -1)
        if rows <= FEW_ROWS and torch.get_num_threads() > 1:
            return torch.mm(weight, inputs.t()).t().contiguous()
        return functional.linear(inputs, weight)

    return computed
