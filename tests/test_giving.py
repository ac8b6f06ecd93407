"""Answers on a card that a run may need for itself: they stop, are refused meanwhile, and come back."""

import gc
import weakref

import pytest

from phi3.generate import Answerer, Lane, Sampling
from phi3.giving import LOADS_AGAIN, TAKEN, GivingAnswerer
from phi3.models import load_base

ASKED = Lane(({"role": "user", "content": "Hello?"},), None, Sampling(max_new_tokens=40, stop_texts=()))


class Card:
    """Whether a run has it, and each base that was loaded onto it."""

    def __init__(self, small_base):
        self.is_taken, self.bases, self._source = False, [], str(small_base)

    def load(self):
        base = load_base(self._source)
        self.bases.append(weakref.ref(base.model))
        return Answerer(base)

    def has_a_base(self):
        gc.collect()
        return any(base() is not None for base in self.bases)


@pytest.fixture
def card(small_base):
    return Card(small_base)


@pytest.fixture
def answerer(card):
    return GivingAnswerer(card.load, lambda: card.is_taken)


def test_what_was_given_up_is_held_by_nobody_and_loaded_again_for_who_asks(card, answerer):
    *_, [before] = answerer.answer([ASKED])
    card.is_taken = True
    answerer.give_up()
    assert not card.has_a_base()
    with pytest.raises(ValueError, match=TAKEN):
        next(answerer.answer([ASKED]))
    card.is_taken = False
    first, *_, [after] = answerer.answer([ASKED])
    assert first[0].note == LOADS_AGAIN and not first[0].done
    assert after.text == before.text and after.end == before.end and not after.note
    assert len(card.bases) == 2 and answerer._loaded() is answerer._loaded()


def test_an_answer_that_is_being_given_ends_with_the_reason_and_holds_the_base_no_longer(card, answerer):
    snapshots = answerer.answer([ASKED, ASKED])
    next(snapshots)
    card.is_taken = True
    answerer.give_up()
    *_, ends = snapshots
    assert [(one.end, one.note) for one in ends] == [("asked", TAKEN)] * 2 and ends[0].tokens < 40
    assert not card.has_a_base()


def test_what_somebody_stopped_is_not_said_to_have_been_cut_short(answerer):
    snapshots = answerer.answer([ASKED], lambda: True)
    *_, [end] = snapshots
    assert end.end == "asked" and not end.note


def test_nothing_is_loaded_beside_a_run_that_has_the_card_when_the_app_starts(card):
    card.is_taken = True
    answerer = GivingAnswerer(card.load, lambda: card.is_taken)
    assert not card.bases
    card.is_taken = False
    assert list(answerer.answer([ASKED]))[-1][0].done and len(card.bases) == 1
