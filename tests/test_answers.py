"""What a run's answers take, by hand: prompts that are read, and how many are answered at once."""

from dataclasses import replace

import pytest

from phi3.bounds import MOST_TOKENS
from phi3.shape import Shape
from tests.test_plan import CPU, H200, LENT, MINI
from training.answers import PROMPTS_AT_THE_END, SHOWN_PROMPTS, SPOKEN_TOKENS
from training.config import RunConfig
from training.plan import make_plan

CACHE_BYTES = 2 * 32 * 3072 * 2


def plan_of(held, machine=CPU, length=400, **settings):
    return make_plan(RunConfig(bf16=True, max_steps=10, **settings), MINI, [length] * 80, [length] * held, machine)


def test_the_prompts_that_are_read_are_counted():
    short, long = (plan_of(40, length=length) for length in (200, 400))
    assert long.reading.operations > 1.6 * short.reading.operations and long.spoken == short.spoken
    # Two looks, and both sides once; two operations for each weight that a token passes.
    prompts = (2 * SHOWN_PROMPTS + 2 * PROMPTS_AT_THE_END) * 200
    assert long.reading.operations > 2 * 3.7 * prompts
    assert long.seconds["speaking"] > short.seconds["speaking"]
    none_held = plan_of(0)
    assert none_held.reading.operations < long.reading.operations / 4
    lent = plan_of(40, LENT)
    # Where time is lent, the last answers are given only if some is left.
    assert lent.reading.operations == none_held.reading.operations


def test_answers_take_no_more_memory_than_is_free_between_steps():
    for memory in (12.0, 16.0, 24.0):
        plan = plan_of(40, replace(CPU, memory=memory))
        stays = plan.peak - plan.memory["activations"] - plan.memory["logits"]
        assert stays + 2 * plan.bounds.tokens * CACHE_BYTES <= max(plan.available, stays)
    assert plan_of(40, H200).bounds.tokens == MOST_TOKENS
    assert Shape.of(MINI).cache_bytes(2) == CACHE_BYTES


def test_where_fewer_are_answered_at_once_more_words_are_said_one_after_another():
    roomy, tight = (plan_of(40, replace(CPU, memory=memory)) for memory in (64.0, 13.0))
    once = roomy.spoken / (2 + 2)
    at_once = tight.bounds.tokens // (200 + SPOKEN_TOKENS)
    assert 1 < at_once < PROMPTS_AT_THE_END
    waves = 2 * -(-SHOWN_PROMPTS // at_once) + 2 * -(-PROMPTS_AT_THE_END // at_once)
    assert tight.spoken == pytest.approx(waves * once)
