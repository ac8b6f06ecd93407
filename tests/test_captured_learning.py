"""Captured steps of training learn what plain ones do, whatever the packs; and where they can't, plain ones go on."""

import logging

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from phi3 import captured_learning, learner, packed
from phi3.captured_learning import CapturedLearning, Size, filled, rounded
from phi3.learner import Learner
from phi3.machine import Machine
from phi3.models import load_base
from phi3.packed import Packed
from tests.phi3_folder import make_phi3_folder
from tests.replayed import Replays
from tests.test_learner import BASES, gradients, rows, trained
from training import trainer as trainers
from training.config import RunConfig
from training.methods import method_of
from training.plan import make_plan
from training.trainer import Lesson, trainer_of

MOST_ROWS, LONGEST = 6, 48


def varlen_attn(query, key, value, ends, kept_ends, longest, kept_longest, *, scale, window_size, enable_gqa=False):
    """The kernel in plain products; it reads nothing from the device, and knows rows without a token."""
    tokens = torch.arange(query.shape[0])
    rows_of = torch.searchsorted(ends[1:].long(), tokens, right=True)
    back, (left, right) = tokens[:, None] - tokens, window_size
    seen = (rows_of[:, None] == rows_of) & (back >= -right) & ((back <= left) if left >= 0 else True)
    parts = [part.transpose(0, 1)[None] for part in (query, key, value)]
    return functional.scaled_dot_product_attention(*parts, seen, scale=scale, enable_gqa=enable_gqa)[0].transpose(0, 1)


@pytest.fixture(autouse=True)
def one_call(monkeypatch):
    """As on a card; and small packs have as few sizes as large ones."""
    for place in (packed, learner):
        monkeypatch.setattr(place, "is_one_call", lambda dtype, device, way: True)
    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", varlen_attn)
    monkeypatch.setattr(captured_learning, "LEAST_PART", 8)


@pytest.fixture(scope="module")
def base(small_base):
    return load_base(str(small_base), "fp32", "cpu")


def capturing(model, replays):
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    return CapturedLearning(Learner(model), weights, replays, MOST_ROWS, LONGEST)


def learned(captured, model, packs, scale):
    """Losses of a step's packs, each one captured if it can be, as `Trainer.training_step` goes through them."""
    model.zero_grad()
    losses = []
    for pack in packs:
        loss = captured.learned(pack, torch.tensor(scale))
        if loss is None:
            loss = Learner(model).loss(pack)
            (loss * scale).backward()
        losses.append(loss.item())
    return losses, gradients(model)


def plainly(model, packs, scale):
    model.zero_grad()
    losses = [Learner(model).loss(pack) for pack in packs]
    (sum(losses) * scale).backward()
    return [loss.item() for loss in losses], gradients(model)


def assert_alike(one, other):
    assert one[0] == pytest.approx(other[0], rel=1e-4)
    for name, grad in one[1].items():
        torch.testing.assert_close(grad, other[1][name], rtol=1e-3, atol=5e-5 * other[1][name].abs().max().item())


def pack(lengths, seed=0):
    return Packed.of(rows(lengths, seed))


def test_packs_of_a_size_that_was_seen_are_replayed_and_learn_the_same(base):
    model, replays = trained(base), Replays()
    captured = capturing(model, replays)
    for seed, lengths in enumerate([(40, 20), (30, 29), (21, 20, 19), (40, 18)]):
        some = [pack(lengths, seed)]
        assert_alike(learned(captured, model, some, 0.25), plainly(model, some, 0.25))
    assert (replays.made, replays.replayed, len(captured)) == (1, 4, 1) and not replays.reads()


@settings(max_examples=4, deadline=None)
@given(st.lists(st.lists(st.lists(st.integers(3, LONGEST), min_size=1, max_size=MOST_ROWS + 1), min_size=1, max_size=2),
                min_size=1, max_size=2))
def test_whatever_a_step_is_divided_into_its_gradients_are_those_of_plain_steps(base, steps):
    model, replays = trained(base), Replays()
    captured = capturing(model, replays)
    for step in (*steps, *steps):
        packs = [pack(lengths, seed) for seed, lengths in enumerate(step)]
        assert_alike(learned(captured, model, packs, 0.5), plainly(model, packs, 0.5))
    assert (replays.replayed and not replays.reads()) or all(len(some) > MOST_ROWS for step in steps for some in step)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, LONGEST), min_size=1, max_size=MOST_ROWS))
def test_what_fills_a_pack_up_are_rows_that_are_not_too_long_and_train_nothing(lengths):
    some = pack(lengths)
    size = Size(rounded(len(some.ids)), rounded(len(some.ids)), MOST_ROWS + 8)
    ids, places, targets, learns, ends = filled(some, size, LONGEST).split(size.numbers())
    assert torch.equal(ids[:len(some.ids)], some.ids) and torch.equal(places[:len(some.ids)], some.places)
    assert ends[0] == 0 and ends[-1] == size.tokens and ends.diff().min() >= 0 and ends.diff().max() <= LONGEST
    assert torch.equal(ends[:len(some.ends) - 1], some.ends[:-1].long())
    assert (targets[learns] != -100).sum() == len(some.trained)
    assert torch.equal(learns[:len(some.trained)], some.trained)


def test_a_pack_is_filled_up_wherever_it_lies():
    """A loader may have put it onto the card already; nothing is read from there."""
    some = pack((40, 20)).to("meta")
    size = Size(64, 64, MOST_ROWS + 1)
    assert filled(some, size, LONGEST).shape == (sum(size.numbers()),)


@pytest.mark.parametrize("kind", [kind for kind in BASES if kind != "plain"])
def test_every_kind_of_base_learns_the_same(tmp_path, kind):
    base = load_base(str(make_phi3_folder(tmp_path / "phi3", **BASES[kind])), "fp32", "cpu")
    model, replays = trained(base), Replays()
    captured = capturing(model, replays)
    for seed in range(3):
        some = [pack((44, 30, 4), seed)]
        assert_alike(learned(captured, model, some, 1.0), plainly(model, some, 1.0))
    assert replays.made == 1


def test_dropout_differs_from_step_to_step(base):
    model, replays = trained(base, lora_dropout=0.5), Replays()
    captured = capturing(model, replays)
    losses = [learned(captured, model, [pack((40, 20))], 1.0)[0] for _ in range(5)]
    assert replays.made == 1 and len({tuple(one) for one in losses}) == 5


@pytest.mark.parametrize(("changes", "recomputed", "longest"), [
    ({"use_dora": True}, 0, LONGEST), ({}, 1, LONGEST), ({}, 0, 10**9)])
def test_what_may_change_from_step_to_step_is_not_captured(tmp_path, changes, recomputed, longest):
    """DoRA is PEFT's own layer, blocks that compute twice keep the chance they had, and a row may be so long that its
    places are turned by other angles.
    """
    folder = make_phi3_folder(tmp_path / "phi3", **BASES["long turns"])
    model, replays = trained(load_base(str(folder), "fp32", "cpu"), **changes), Replays()
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    captured = CapturedLearning(Learner(model, recomputed), weights, replays, MOST_ROWS, longest)
    assert captured.is_given_up
    assert all(captured.learned(pack((40,)), torch.tensor(1.0)) is None for _ in range(3)) and not replays.made


def test_a_pack_that_is_too_large_is_computed_as_it_comes(base, monkeypatch):
    monkeypatch.setattr(captured_learning, "MOST_TOKENS", 50)
    model, replays = trained(base), Replays()
    captured = capturing(model, replays)
    for _ in range(3):
        assert_alike(learned(captured, model, [pack((40, 20))], 1.0), plainly(model, [pack((40, 20))], 1.0))
    assert not replays.made and not captured.is_given_up


def failing(problem):
    def capture(body):
        raise problem
    return capture


def astray(body):
    """A replay that doesn't do what was captured."""
    made = body().clone()
    return lambda: None, made.mul_(2)


@pytest.mark.parametrize(("capture", "said"), [
    (failing(torch.OutOfMemoryError()), "no memory left to capture"), (failing(RuntimeError("not so")), "Why: not so"),
    (astray, "learns something else")])
def test_where_a_capture_fails_or_is_wrong_steps_are_plain_and_the_reason_is_said_once(base, capture, said, caplog):
    model = trained(base)
    captured = capturing(model, capture)
    with caplog.at_level(logging.WARNING, "studio"):
        for seed in range(4):
            some = [pack((40, 20), seed), pack((40, 20), seed + 9)]
            assert_alike(learned(captured, model, some, 0.5), plainly(model, some, 0.5))
    assert captured.is_given_up and not len(captured)
    assert [said in record.getMessage() for record in caplog.records] == [True]


def trained_run(base, folder, capture, monkeypatch, steps=6):
    """Losses of a short run, its weights, and what was captured of it."""
    monkeypatch.setattr(trainers, "capture_on", lambda device: capture)
    lengths = [30, 31, 28, 12, 33, 29, 30, 27]
    some = [{"input_ids": ids, "labels": labels} for ids, labels in rows(lengths)]
    config = RunConfig(lora_dropout=0.0, r=4, max_steps=steps, max_length=64, held_out=0.0, learning_rate=1e-2,
                       per_device_train_batch_size=2, gradient_accumulation_steps=2, save_steps=10**6,
                       logging_steps=1)
    plan = make_plan(config, base.facts.config, lengths, [], Machine("cpu", "CPU", 2, 16.0))
    trainer = trainer_of(config, method_of(config, base), plan, Lesson(some), folder, base.tokenizer, captures=True)
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    weights = {name: one.detach() for name, one in trainer.model.named_parameters() if one.requires_grad}
    return losses, weights, trainer.captured


def test_a_run_with_captured_steps_is_the_run_without(base, tmp_path, monkeypatch):
    replays = Replays()
    losses, weights, captured = trained_run(base, tmp_path / "captured", replays, monkeypatch)
    expected, plain, none = trained_run(base, tmp_path / "plain", None, monkeypatch)
    assert captured is not None and replays.replayed > replays.made > 0 and none is None
    assert losses == pytest.approx(expected, rel=1e-3)
    for name, weight in weights.items():
        torch.testing.assert_close(weight, plain[name], rtol=2e-2, atol=2e-4)
