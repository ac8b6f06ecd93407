"""How much is answered at once: memory holds it, and nobody's answer depends on it."""

import random
import weakref
from dataclasses import replace

import pytest

from phi3.bounds import MOST_TOKENS, Bounds, bounds_on
from phi3.generate import Lane, Sampling, answer_all
from phi3.machine import Machine
from phi3.models import EMBEDDED, base_facts, load_base
from phi3.shape import Shape
from tests.test_plan import H200, MINI, T4

LAPTOP = Machine("cpu", "CPU", 8, 16.0)


@pytest.fixture(scope="module")
def base(small_base):
    return load_base(str(small_base))


def held_at_most(counts):
    """The largest cache that a batch with these lengths, round by round, asked for."""
    return max(len(lengths) * max(lengths) for lengths in counts if lengths)


@pytest.fixture
def watched(monkeypatch):
    """The lengths of all rows in each round of every batch."""
    from phi3.batch import Batch

    seen = []

    class Watched(Batch):
        def keep(self, places):
            seen.append([len(row.prompt) + len(row.tokens) for row in self.rows])
            super().keep(places)

    monkeypatch.setattr("phi3.batch.Batch", Watched)
    return seen


@pytest.mark.parametrize(("machine", "tokens", "alone"), [
    (LAPTOP, 10_922, 16_383), (T4, 10_240, 15_360), (H200, 16_384, 142_335), (replace(LAPTOP, memory=1.0), 682, 2048)])
def test_the_cache_takes_a_quarter_of_the_memory_at_most(machine, tokens, alone):
    assert bounds_on(machine, Shape.of(MINI), 2) == Bounds(tokens, alone=alone)
    assert bounds_on(machine, Shape.of(base_facts(EMBEDDED).config), 4).tokens == MOST_TOKENS


def test_what_the_machines_memory_cannot_hold_is_cut_or_refused_in_a_sentence(base):
    turns = [{"role": role, "content": "a b c d e f g h"} for role in ("user", "assistant") * 3]
    lanes = [Lane((*turns, {"role": "user", "content": last}), None, Sampling(max_new_tokens=4))
             for last in ("a", "a b c " * 40)]
    cut, refused = answer_all(base.model, base, lanes, Bounds(alone=60))
    assert cut.end != "error" and "no longer fit" in cut.note
    assert refused.end == "error" and "this machine's memory holds at most 60. Shorten it." in refused.note


def test_many_long_questions_are_answered_in_turn_and_say_what_they_say_alone(base, watched):
    rng = random.Random(4)
    lanes = [Lane(({"role": "user", "content": " ".join(rng.choices("abcdefgh", k=rng.randint(1, 40)))},), None,
                  Sampling(max_new_tokens=rng.randint(1, 12))) for _ in range(14)]
    alone = [answer_all(base.model, base, [lane])[0].text for lane in lanes]
    watched.clear()
    together = answer_all(base.model, base, lanes)
    assert max(map(len, watched)) == len(lanes)
    bounds = Bounds(tokens=held_at_most(watched) // 4, read=held_at_most(watched) // 6)
    watched.clear()
    in_turn = answer_all(base.model, base, lanes, bounds)
    assert alone == [one.text for one in together] == [one.text for one in in_turn]
    assert held_at_most(watched) <= bounds.tokens and max(map(len, watched)) > 1


def test_a_question_that_is_larger_than_all_bounds_is_answered_alone(base, watched):
    lanes = [Lane(({"role": "user", "content": "a b c"},), None, Sampling(max_new_tokens=3)) for _ in range(3)]
    assert all(one.end in ("stop", "length") for one in answer_all(base.model, base, lanes, Bounds(1, 64, 1)))
    assert max(map(len, watched)) == 1


class Scarce:
    """Memory that is over after so many blocks, as torch sees it."""

    def __init__(self, like, blocks):
        self.like, self.blocks, self.dtype = like, blocks, like.dtype

    def new_zeros(self, *size):
        import torch

        self.blocks -= 1
        if self.blocks == 0:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return self.like.new_zeros(*size)


class Counting:
    """Memory that knows how many of its blocks lay there at once."""

    def __init__(self, like):
        self.like, self.dtype, self.alive, self.most = like, like.dtype, weakref.WeakSet(), 0

    def new_zeros(self, *size):
        block = self.like.new_zeros(*size)
        self.alive.add(block)
        self.most = max(self.most, len(self.alive))
        return block


def test_no_more_than_one_layer_lies_there_twice_while_a_cache_grows():
    import torch

    from phi3.cache import Cache

    cache, memory = Cache(5, 2, 4), Counting(torch.ones(()))
    cache.reserve(2, 100, memory)
    cache.lengths += [100, 60]
    cache.reserve(3, 500, memory)
    assert memory.most == 2 * 5 + 1


@pytest.mark.parametrize("blocks", [1, 2, 4, 5, 6])
def test_a_cache_that_finds_no_memory_to_grow_keeps_what_it_has(blocks):
    import torch

    from phi3.cache import Cache

    cache, like = Cache(3, 2, 4), torch.ones(())
    cache.reserve(2, 100, like)
    for layer in range(3):
        cache.put(layer, torch.full((2, 2, 100, 4), layer + 1.0), torch.full((2, 2, 100, 4), -layer - 1.0))
    cache.lengths += [100, 60]
    with pytest.raises(torch.OutOfMemoryError):
        cache.reserve(3, 500, Scarce(like, blocks))
    assert cache.room == 128
    for layer in range(3):
        keys, values = cache.held(layer)
        assert keys.shape == values.shape == (2, 2, 128, 4) and keys.is_contiguous()
        assert bool((keys[:, :, :100] == layer + 1).all()) and bool((values[:, :, :100] == -layer - 1).all())
    cache.reserve(3, 500, like)
    assert cache.held(2)[0].shape == (5, 2, 512, 4) and bool((cache.held(2)[0][:2, :, :100] == 3).all())


def test_a_first_row_that_finds_no_memory_leaves_an_empty_cache():
    import torch

    from phi3.cache import Cache

    cache, like = Cache(3, 2, 4), torch.ones(())
    with pytest.raises(torch.OutOfMemoryError):
        cache.reserve(1, 10, Scarce(like, 5))
    cache.reserve(1, 10, like)
    assert cache.held(2)[1].shape == (1, 2, 128, 4) and cache.room == 128
