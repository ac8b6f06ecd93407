"""The chat's base and a run share one card: both fit, and where only 4 bits make room, those are what answers have."""

from dataclasses import replace

import pytest

from phi3.machine import GIBIBYTE, Machine
from phi3.models import EMBEDDED, base_facts
from phi3.room import answers_precision, beside_answers
from phi3.shape import Shape
from tests.test_presets import MINI
from training import train
from training.config import RunConfig
from training.plan import make_plan
from training.presets import Task, preset_of, sides_of
from training.sharing import KEPT_FOR_ANSWERS

CARD = Machine("cuda", "a card", 8, 64.0, card_memory=24.0)
SHAPE = Shape.of(MINI)
# Of a kind of card, what CUDA says of its memory, what the chat's base is held in there, and which presets need all of
# it, rather than shorter conversations or a coarser base.
CARDS = {"8 GB": (7.8, "nf4", ["balanced", "thorough"]), "12 GB": (11.7, "nf4", []),
         "16 GB": (15.6, "bf16", ["quick", "balanced", "thorough"]), "24 GB": (23.5, "bf16", []),
         "80 GB": (79.2, "bf16", [])}


def on(memory):
    return replace(CARD, card_memory=memory)


@pytest.mark.parametrize(("memory", "precision", "alone"), CARDS.values(), ids=CARDS)
def test_what_suits_a_card_fits_beside_the_chats_base_or_in_its_place(memory, precision, alone):
    assert answers_precision(SHAPE, on(memory)) == precision
    machine = beside_answers(on(memory), SHAPE)
    base = 7.1 if precision == "bf16" else 2.1
    assert base + 1 < machine.card_taken < base + 2
    for preset in ("quick", "balanced", "thorough"):
        task = Task(MINI, machine, list(range(300, 2500, 10)))
        config = RunConfig(**preset_of(preset, task).values)
        plan = make_plan(config, MINI, *sides_of(task, config), machine)
        assert plan.fits and plan.alone == (preset in alone)
        assert plan.peak / GIBIBYTE < memory - (0 if plan.alone else machine.card_taken)
        assert config.max_length >= (512 if preset == "quick" else 2490)


def test_a_run_has_the_whole_card_only_where_it_fits_no_other_way():
    machine = beside_answers(on(15.6), SHAPE)
    alone = make_plan(RunConfig(bf16=True, gradient_checkpointing=True), MINI, [300] * 40, [], machine)
    beside = make_plan(RunConfig(method="qlora", gradient_checkpointing=True), MINI, [300] * 40, [], machine)
    assert alone.fits and alone.alone and alone.as_json()["alone"]
    assert beside.fits and not beside.alone
    assert not make_plan(RunConfig(bf16=True), MINI, [300] * 40, [], on(15.6)).alone


def test_a_card_of_80_gb_computes_nothing_twice_where_it_needn_t():
    """CUDA tells of 79 of its gibibytes, and the page's answers take 9."""
    machine = beside_answers(on(79.2), SHAPE)
    task = Task(MINI, machine, list(range(100, 1000, 3)))
    config = RunConfig(**preset_of("balanced", task).values)
    plan = make_plan(config, MINI, *sides_of(task, config), machine)
    assert plan.recomputed == 0 and plan.fits


def test_only_a_card_of_ones_own_is_shared():
    for kind in ("cpu", "zerogpu"):
        machine = replace(CARD, kind=kind, card_memory=8.0)
        assert beside_answers(machine, SHAPE) == machine and answers_precision(SHAPE, machine) == "bf16"
    assert answers_precision(Shape.of(base_facts(EMBEDDED).config), on(8.0)) == "bf16"


def test_a_card_that_others_use_too_says_so():
    assert "kept for answers" not in CARD.sentence()
    assert "24 GB; 8.7 GB of them are kept for answers" in beside_answers(CARD, SHAPE).sentence()


def test_a_trainer_plans_with_what_others_leave_of_the_card(monkeypatch):
    """Of 24 gibibytes 9 are free, and the trainer has 7 and its context of 0.6: others hold 7.4."""
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda: (9 * GIBIBYTE, 24 * GIBIBYTE))
    monkeypatch.setattr("torch.cuda.memory_reserved", lambda: 7 * GIBIBYTE)
    assert train._as_it_is_now(CARD).card_left == pytest.approx(16.6)
    monkeypatch.setenv(KEPT_FOR_ANSWERS, "8.5")
    there = train._as_it_is_now(CARD)
    assert (there.card_memory, there.card_taken) == (24.0, 8.5)
    assert train._as_it_is_now(replace(CARD, kind="cpu")).card_taken == 0
