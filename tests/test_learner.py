"""Training's forward and backward pass: whatever the base and the rows, what stock PEFT and transformers compute."""

import logging
import random
import sys
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from torch.nn import functional

from phi3 import on_card, trusted
from phi3.fused import LoraLinear
from phi3.learner import Learner, linear
from phi3.models import expanded, load_base, quantised, shell_of
from phi3.on_card import Chance
from phi3.packed import Packed
from tests import plain_kernels
from tests.phi3_folder import make_phi3_folder
from training.config import RunConfig
from training.packing import packed, packs_of

BASES = {
    "plain": {},
    "grouped heads": {"num_key_value_heads": 2},
    "a short window": {"sliding_window": 24},
    "half a rotation": {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0,
                                            "partial_rotary_factor": 0.5}},
    "long turns": {"original_max_position_embeddings": 64, "rope_parameters": {
        "rope_type": "longrope", "rope_theta": 10000.0, "short_factor": [1.0] * 8, "long_factor": [2.0] * 8,
        "original_max_position_embeddings": 64, "partial_rotary_factor": 1.0}},
}


@pytest.fixture(scope="module", params=BASES)
def base(request, tmp_path_factory):
    folder = make_phi3_folder(tmp_path_factory.mktemp("base") / "phi3", **BASES[request.param])
    return load_base(str(folder), "fp32", "cpu")


@pytest.fixture(scope="module")
def usual(small_base):
    return load_base(str(small_base), "fp32", "cpu")


def rows(lengths, seed=0):
    rng = random.Random(seed)
    made = [[rng.randrange(260) for _ in range(length)] for length in lengths]
    return [(ids, [-100 if place < len(ids) // 3 else one for place, one in enumerate(ids)]) for ids in made]


def trained(base, **changes):
    """A model with LoRA that does something already."""
    config = replace(RunConfig(lora_dropout=0.0, r=4), **changes)
    torch.manual_seed(1)
    model = get_peft_model(shell_of(base), LoraConfig(**config.peft_config()))
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.05)
    return model.train()


def stock(model, some):
    """Loss and gradients by transformers' own forward, row by row, so that nothing is padded either."""
    model.zero_grad()
    total = torch.zeros(())
    for ids, labels in some:
        logits = model(input_ids=torch.tensor([ids])).logits[0, :-1]
        total = total + functional.cross_entropy(logits, torch.tensor(labels[1:]), reduction="sum", ignore_index=-100)
    total.backward()
    return total.item(), gradients(model)


def ours(model, some, recomputed=0):
    model.zero_grad()
    loss = Learner(model, recomputed).loss(Packed.of(some))
    loss.backward()
    return loss.item(), gradients(model)


def gradients(model):
    return {name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None}


def assert_same(one, other, tolerance=2e-5):
    assert one[0] == pytest.approx(other[0], rel=1e-5)
    assert one[1].keys() == other[1].keys() and one[1]
    for name, grad in one[1].items():
        torch.testing.assert_close(grad, other[1][name], rtol=1e-3, atol=tolerance * other[1][name].abs().max().item())


@pytest.fixture(params=["as on a processor", "by a card's kernels"])
def way(request, monkeypatch):
    """With what a block's parts are computed; a card's own kernels are plain here."""
    if request.param == "by a card's kernels":
        monkeypatch.setattr(trusted, "kernels_on", lambda device: plain_kernels)
    return request.param


@pytest.mark.parametrize("lengths", [[40], [90, 90, 90], [90, 33, 33, 12, 3, 2]])
def test_it_computes_what_transformers_computes(base, way, lengths):
    model, some = trained(base), rows(lengths)
    assert_same(ours(model, some), stock(model, some))


@pytest.mark.parametrize("changes", [{"target_modules": "qkv_proj"}, {"target_modules": "down_proj, o_proj"},
                                     {"use_rslora": True, "r": 16}])
def test_layers_without_an_adapter_and_other_scalings_are_the_same(usual, way, changes):
    model, some = trained(usual, **changes), rows([50, 20])
    assert_same(ours(model, some), stock(model, some))


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_every_way_to_attend_is_the_same(usual, attention):
    model, some = trained(usual), rows([300, 31, 20])  # longer than the window
    wanted = stock(model, some)
    model.get_base_model().config._attn_implementation = attention
    assert_same(ours(model, some), wanted)


@pytest.mark.parametrize("recomputed", [1, 2])
def test_what_is_computed_again_changes_nothing_dropout_included(usual, way, recomputed):
    model, some = trained(usual, lora_dropout=0.3), rows([50, 20])
    torch.manual_seed(5)
    plain = ours(model, some)
    torch.manual_seed(5)
    again = ours(model, some, recomputed)
    assert again[0] == pytest.approx(plain[0], rel=0 if way == "as on a processor" else 1e-6)
    for name, grad in plain[1].items():
        torch.testing.assert_close(again[1][name], grad, rtol=0 if way == "as on a processor" else 1e-3,
                                   atol=0 if way == "as on a processor" else 1e-5)


def test_a_base_in_four_bits_is_the_same_as_made_whole(usual):
    four, some = quantised(usual), rows([50, 20])
    assert_same(ours(trained(four), some), ours(trained(expanded(four)), some))


def test_what_is_no_plain_lora_goes_through_peft(usual, way):
    config = LoraConfig(r=4, use_dora=True, target_modules="all-linear", task_type="CAUSAL_LM")
    model, some = get_peft_model(shell_of(usual), config).train(), rows([50, 20])
    assert linear(model.get_base_model().model.layers[0].mlp.down_proj, Chance()) is \
        model.get_base_model().model.layers[0].mlp.down_proj
    assert_same(ours(model, some), stock(model, some))


def test_dropout_leaves_as_many_as_it_should_and_counts_them_for_the_rest():
    x, a, b = torch.ones(400, 300), torch.ones(1, 300), torch.ones(1, 1)
    weight = torch.zeros(1, 300)
    for dropout in (0.05, 0.5):
        out = LoraLinear.apply(x, a, b, lambda: weight, 1.0, dropout)
        assert out.mean().item() == pytest.approx(300, rel=0.01) and out.std().item() > 1


def test_gradients_pass_dropout_where_the_numbers_did():
    torch.manual_seed(0)
    x = torch.randn(64, 32, requires_grad=True)
    a, b = torch.eye(32, requires_grad=True), torch.eye(32, requires_grad=True)
    out = LoraLinear.apply(x, a, b, lambda: torch.zeros(32, 32), 1.0, 0.25)
    out.sum().backward()
    kept = out != 0
    torch.testing.assert_close(x.grad, kept / 0.75)
    torch.testing.assert_close(b.grad, out.sum(0).expand(32, 32))


def test_a_card_drops_the_same_numbers_forward_and_backward(monkeypatch):
    """They are drawn twice, and kept nowhere."""
    torch.manual_seed(0)
    x = torch.randn(64, 32, requires_grad=True)
    a, b, seeds = torch.eye(32, requires_grad=True), torch.eye(32, requires_grad=True), torch.tensor([5, 7])
    out = on_card.LoraLinear.apply(x, a, b, lambda: torch.zeros(32, 32), 1.0, 0.25, (seeds, 1), plain_kernels)
    out.sum().backward()
    kept = out != 0
    assert 0.7 < kept.float().mean() < 0.8
    torch.testing.assert_close(x.grad, kept / 0.75)
    torch.testing.assert_close(b.grad, out.sum(0).expand(32, 32))
    torch.testing.assert_close(a.grad, (kept * x / 0.75).sum(0).expand(32, 32).detach())


def test_each_forward_pass_has_seeds_of_its_own(usual, monkeypatch):
    monkeypatch.setattr(trusted, "kernels_on", lambda device: plain_kernels)
    model, some = trained(usual, lora_dropout=0.3), rows([50, 20])
    learner, pack = Learner(model), Packed.of(some)
    losses = [learner.loss(pack).item() for _ in range(4)]
    assert len(set(losses)) == 4 and len(learner._chance.seeds) == learner._chance.places == 8


@pytest.mark.parametrize("said", ["wrong", "broken"])
def test_kernels_that_can_not_be_trusted_are_not_used_and_the_reason_is_said(monkeypatch, caplog, said):
    """Here there is no card, so there is none to be believed."""
    broken = SimpleNamespace(is_right=lambda device: False if said == "wrong" else 1 / 0)
    for name in ("phi3.kernels", "phi3.kernels_check"):
        monkeypatch.setitem(sys.modules, name, broken)
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    trusted.kernels_on.cache_clear()
    with caplog.at_level(logging.WARNING, "studio"):
        assert [trusted.kernels_on(torch.device("cuda")) for _ in range(2)] == [None, None]
    trusted.kernels_on.cache_clear()
    assert [("something else" if said == "wrong" else "division by zero") in one.message for one in caplog.records] == \
        [True]
    assert trusted.kernels_on(torch.device("cpu")) is None


@settings(max_examples=200)
@given(st.lists(st.integers(1, 50), max_size=60), st.integers(1, 120))
def test_packing_loses_no_row_and_keeps_to_its_budget(lengths, budget):
    bins = packed(lengths, budget)
    assert sorted(place for some in bins for place in some) == list(range(len(lengths)))
    sizes = [sum(lengths[place] for place in some) for some in bins]
    assert all(size <= budget or len(some) == 1 for size, some in zip(sizes, bins, strict=True))
    # Two bins that would fit into one are never left.
    smallest = sorted(sizes)[:2]
    assert len(bins) < 2 or sum(smallest) > budget


def test_however_a_step_is_packed_it_is_the_same_step(usual):
    model, some = trained(usual), rows([60, 50, 40, 30, 20, 10])
    wanted = ours(model, some)
    packs = packs_of(some, 100)
    assert len(packs) == 3
    model.zero_grad()
    learner = Learner(model)
    losses = [learner.loss(pack) for pack in packs]
    sum(losses).backward()
    assert_same((sum(losses).item(), gradients(model)), wanted)


def test_what_is_judged_is_the_loss_without_a_gradient(usual):
    model, some = trained(usual).eval(), rows([50, 20])
    learner, pack = Learner(model), Packed.of(some)
    loss, right = learner.judged(pack)
    assert loss.item() == pytest.approx(learner.loss(pack).item(), rel=1e-6) and not loss.requires_grad
    likeliest = sum(int((model(input_ids=torch.tensor([ids])).logits[0, :-1].argmax(-1)
                         == torch.tensor(labels[1:])).sum()) for ids, labels in some)
    assert right.item() == likeliest
