"""The few rows' products in Triton, on a card where there is one, or else as Triton's interpreter computes them."""

import importlib

import pytest
import torch
from torch.nn import functional

pytest.importorskip("triton")  # there is none for a Mac
skinny = importlib.import_module("phi3.skinny")
Way, few_rows, gated_rows, way_of = skinny.Way, skinny.few_rows, skinny.gated_rows, skinny.way_of

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
# The interpreter takes seconds for one.
LONG = pytest.mark.slow
WAYS = [None, Way(True, 16, 16, 4, 2, slices=4),
        *(pytest.param(way, marks=LONG) for way in (
            Way(False, 4, 256, 4, 1), Way(False, 8, 128, 4, 3), Way(False, 4, 128, 4, 2), Way(True, 16, 32, 4, 3),
            Way(True, 8, 32, 4, 2, slices=8), Way(True, 64, 64, 4, 3)))]
# Multiples of 16 that no block or chunk divides, and one that each does.
SHAPES = [(48, 80), pytest.param(32, 512, marks=LONG), pytest.param(16, 16, marks=LONG)]


def dots_in_bf16(way: Way | None, rows: int, dtype: torch.dtype) -> bool:
    """Whether tensor cores would multiply bf16, which the interpreter can't: it takes their bits for whole numbers."""
    return DEVICE == "cpu" and dtype is torch.bfloat16 and (way or way_of(0, 16, rows, False)).has_dots


def close(ours: torch.Tensor, wanted: torch.Tensor) -> bool:
    error = (ours.double() - wanted).norm() / wanted.norm()
    # The interpreter cuts bf16 off where a card rounds.
    return ours.isfinite().all() and error < (6e-3 if ours.dtype is torch.bfloat16 else 1e-5)


def drawn(rows: int, outputs: int, inputs: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(rows + outputs + inputs)
    return tuple((torch.randn(count, inputs) / scale).to(DEVICE, dtype)
                 for count, scale in ((rows, 1), (outputs, inputs ** 0.5)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("outputs", "inputs"), SHAPES)
def test_a_product_of_few_rows_is_what_linear_makes(outputs, inputs, way, dtype):
    for rows in (1, 3, 8):
        if dots_in_bf16(way, rows, dtype):
            continue
        x, weight = drawn(rows, outputs, inputs, dtype)
        wanted = functional.linear(x.double(), weight.double())
        assert close(few_rows(x, weight, way), wanted)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("outputs", "inputs"), SHAPES)
def test_a_gated_product_is_silu_of_the_gates_times_the_ups(outputs, inputs, way, dtype):
    for rows in (1, 3):
        if dots_in_bf16(way, rows, dtype):
            continue
        x, weight = drawn(rows, outputs, inputs, dtype)
        gate, up = functional.linear(x.double(), weight.double()).chunk(2, dim=-1)
        assert close(gated_rows(x, weight, way), functional.silu(gate) * up)


def test_more_rows_than_a_step_has_are_refused():
    x, weight = drawn(9, 16, 16, torch.bfloat16)
    with pytest.raises(ValueError, match="9 rows"):
        few_rows(x, weight)
