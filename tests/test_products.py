"""A layer's product for the few rows of a decoding step: whichever way it goes, it is the layer's."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional

from phi3 import products
from phi3.machine import multiplies_bf16, this_machine
from phi3.products import FEW_ROWS, MANY_ROWS, Packed, is_small, product_of
from phi3.shape import SMALL_BASE, Shape
from phi3.slots import Beside
from phi3.trusted import own_kernels

ROWS = (1, 2, 3, 5, FEW_ROWS, FEW_ROWS + 1, 40)


@pytest.fixture(params=[1, 2], ids=["one thread", "two threads"])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def layer(inputs, outputs, **options):
    torch.manual_seed(inputs + outputs)
    return nn.Linear(inputs, outputs, bias=False, **options).requires_grad_(False)


@pytest.mark.parametrize("small", [True, False], ids=["small base", "large base"])
@pytest.mark.parametrize("outputs", [192, 2000, 17, 31], ids=str)
def test_it_is_the_layers_own_product(threads, small, outputs):
    of = layer(48, outputs)
    product = product_of(of, small)
    for rows in ROWS:
        inputs = torch.randn(rows, 48)
        made = product(inputs)
        assert made.shape == (rows, outputs)
        torch.testing.assert_close(made, of(inputs), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("by_itself", [True, False], ids=["bf16 processor", "any processor"])
def test_bf16_is_multiplied_as_the_processor_can(threads, monkeypatch, by_itself):
    """In float32 no sum is less exact, so what comes out lies as near to the product of the same numbers."""
    monkeypatch.setattr(products, "multiplies_bf16", lambda: by_itself)
    of = layer(48, 96).bfloat16()
    for shape in ((1, 48), (8, 48), (MANY_ROWS, 48), (2, MANY_ROWS, 48)):
        inputs = torch.randn(shape).bfloat16()
        made, exact = product_of(of, False)(inputs), inputs.double() @ of.weight.double().t()
        assert made.dtype is torch.bfloat16
        torch.testing.assert_close(made.double(), exact, rtol=2 ** -7, atol=2 ** -7)


def test_a_second_layout_multiplies_as_the_first_does(threads):
    """The same two operators in float32, which every processor has."""
    of = layer(64, 96)
    for shape in ((1, 64), (2, 64), (FEW_ROWS, 64), (40, 64), (2, 5, 64)):
        inputs = torch.randn(shape)
        torch.testing.assert_close(Packed.of(of.weight)(inputs), of(inputs), rtol=1e-5, atol=1e-5)


def test_in_bf16_it_gives_the_same_bits_and_is_made_nowhere_else(threads):
    """A processor without bf16 can't have it, and is never asked for it."""
    of = layer(64, 96).bfloat16()
    if not multiplies_bf16():
        assert not Shape(32, 3072, 32, 32, 8192, 32064, False).lies_twice(replace(this_machine(), memory=1000.0))
        assert not isinstance(product_of(of, False), Packed)
        return
    product = product_of(of, False, has_room=True)
    assert isinstance(product, Packed) and product_of(of, False, has_room=True) is product
    for shape in ((2, 64), (FEW_ROWS, 64), (40, 64), (2, 5, 64)):
        inputs = torch.randn(shape).bfloat16()
        assert torch.equal(product(inputs), of(inputs))
    one = torch.randn(1, 64).bfloat16()
    torch.testing.assert_close(product(one), of(one), rtol=2 ** -7, atol=2 ** -7)


def test_a_small_base_and_a_large_one_read_prompts_as_the_layer_does(threads):
    of, inputs = layer(48, 96), torch.randn(2, 3, 48)
    for small in (True, False):
        torch.testing.assert_close(product_of(of, small)(inputs), of(inputs), rtol=1e-5, atol=1e-5)


def test_rows_that_lie_apart_in_memory_are_taken_too(threads):
    of, wide = layer(48, 96), torch.randn(4, 96)
    for small in (True, False):
        torch.testing.assert_close(product_of(of, small)(wide[:, ::2]), of(wide[:, ::2]), rtol=1e-5, atol=1e-5)


def test_what_is_added_to_its_outputs_changes_nothing_else(threads):
    """Adapters add to the outputs in place."""
    of = layer(48, 96)
    product, inputs = product_of(of, True), torch.randn(3, 48)
    first = product(inputs)
    first.add_(1)
    torch.testing.assert_close(product(inputs), of(inputs), rtol=1e-5, atol=1e-5)


def test_only_plain_layers_have_another_way():
    assert product_of(nn.Embedding(8, 4), True) is None
    assert product_of(nn.Linear(4, 32), True) is None, "it has a bias"
    assert product_of(layer(4, 32, device="meta"), True) is None
    assert product_of(layer(4, 61), True) is None, "it has no blocks"
    apart = layer(4, 32)
    apart.weight = nn.Parameter(torch.randn(4, 32).t(), requires_grad=False)
    assert product_of(apart, False) is None, "its weights lie the other way round"


def test_a_base_is_small_as_long_as_caches_may_hold_it():
    a_megabyte = 1 << 18
    assert is_small(layer(a_megabyte, 1))
    assert not is_small(layer(a_megabyte, SMALL_BASE // (1 << 20) + 1))
    assert not is_small(layer(4, 4, device="meta"))


class Skinny:
    """Stands in for the products of few rows on a card."""

    MOST_ROWS = 8

    def __init__(self, most):
        self.most, self.calls = most, []

    def is_suited(self, weight, is_gated=False):
        return self.most > 0

    def most_rows(self, weight, is_gated=False):
        return self.most

    def few_rows(self, x, weight):
        self.calls.append(len(x))
        return functional.linear(x, weight)

    def gated_rows(self, x, weight):
        self.calls.append(len(x))
        return functional.linear(x, weight)[:, ::2]


@pytest.fixture
def elsewhere():
    """A layer that is on no processor."""
    return nn.Linear(4, 6, bias=False, device="meta")


def test_few_rows_of_a_captured_step_go_by_a_cards_own_product(elsewhere, monkeypatch):
    skinny = Skinny(most=2)
    monkeypatch.setattr(products, "skinny_on", lambda device: skinny)
    product = products.product_of(elsewhere, False, captures=True)
    shapes = [(1, 4), (2, 4), (3, 4), (1, 2, 4)]
    assert [product(torch.empty(shape, device="meta")).shape[-1] for shape in shapes] == [6] * 4 and not skinny.calls
    with own_kernels():
        assert [product(torch.empty(shape, device="meta")).shape[-1] for shape in shapes] == [6] * 4
    assert skinny.calls == [1, 2]
    assert products.product_of(elsewhere, False) is None, "nothing will be captured"


def test_where_a_cards_own_products_win_nothing_or_can_not_be_trusted_there_is_none(elsewhere, monkeypatch):
    for found in (None, Skinny(most=0)):
        monkeypatch.setattr(products, "skinny_on", lambda device, found=found: found)
        assert products.product_of(elsewhere, False, captures=True) is None


def test_gates_are_computed_with_their_product_where_only_the_base_speaks(monkeypatch):
    skinny = Skinny(most=1)
    monkeypatch.setattr(products, "skinny_on", lambda device: skinny)
    layer = nn.Linear(4, 6, bias=False, device="meta")
    assert products.gate_of(nn.Linear(4, 6, bias=False)) is None, "a processor has none"
    gate = products.gate_of(layer)
    assert gate(torch.empty(1, 4, device="meta")).shape == (1, 3) and gate(torch.empty(2, 4, device="meta")) is None
    beside = Beside(layer, 2, None, gate)
    kernels = SimpleNamespace(gated=lambda both: both[:, :3])
    for rows in (1, 2):
        assert beside.gated(torch.empty(rows, 4, device="meta"), kernels).shape == (rows, 3)
    beside.put(1, (torch.empty(2, 4), torch.empty(6, 2)), 1.0)
    beside.share(1, 1.0)
    assert beside.gated(torch.empty(1, 4, device="meta"), kernels).shape == (1, 3)
    assert skinny.calls == [1, 1], "an adapter's part comes before the gates"
