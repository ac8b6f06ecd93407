"""Conversations as a text that a browser keeps."""

import dataclasses
import json

import pytest

from chat import memory
from chat.conversation import NO_ANSWER, Talk, Turn
from phi3.lane import Answer

SAID = (Talk("base", (Turn(1, "Hi <b>", "base", Answer("Hello.", 2, 0.1, "stop")),
                      Turn(2, "And now?", "pirate", Answer("Årr\n!", 3, 0.25, "length", "Cut."), 0.5, "Be brief."))),
        Talk("pirate", (Turn(1, "Hi <b>", "pirate", Answer("Ahoy!", 2, 0.1, "stop")),), 1.5, True))


def test_what_was_said_comes_back_as_it_was():
    assert memory.talks_from(memory.as_text(SAID)) == SAID


def test_nothing_said_is_nothing_kept():
    assert memory.as_text((Talk(), Talk("pirate"))) == ""
    assert memory.talks_from("") == ()


def test_an_answer_that_was_still_to_come_is_given_up_with_what_came_of_it():
    waits = (Talk(turns=(Turn(1, "Hi", "base", Answer("Hel", 1)),)),)
    (talk,) = memory.talks_from(memory.as_text(waits))
    assert talk.turns[0].question == "Hi"
    assert talk.turns[0].answer == Answer("Hel", 1, end="error", note=NO_ANSWER)


def test_the_oldest_messages_go_where_it_would_be_too_much(monkeypatch):
    turns = tuple(Turn(number, "word " * 20, "base", Answer("more " * 20, 20, 1.0, "stop")) for number in range(1, 9))
    monkeypatch.setattr(memory, "MOST_CHARACTERS", 1500)
    text = memory.as_text((Talk(turns=turns), Talk("pirate", turns[:2])))
    assert len(text) <= 1500
    base, pirate = memory.talks_from(text)
    assert base.turns and base.turns == turns[-len(base.turns):]
    assert pirate == Talk("pirate")


def _changed(**lane):
    return json.dumps([{**dataclasses.asdict(SAID[0]), **lane}])


def _turn(**values):
    return _changed(turns=[{**dataclasses.asdict(SAID[0].turns[0]), **values}])


@pytest.mark.parametrize("text", [
    "{", "null", "[]", "[1]", "[" * 100_000, json.dumps([dataclasses.asdict(SAID[0])] * 5), "x" * 1_000_001,
    _changed(adapter=""), _changed(adapter="x" * 301), _changed(strength=3), _changed(strength="1"),
    _changed(is_unnamed=1), _changed(turns={}), _changed(turns=[dataclasses.asdict(SAID[0].turns[0])] * 2),
    _turn(sent=0), _turn(sent=True), _turn(question=7), _turn(answer=None), _turn(by=None),
    _turn(answer={"text": "x", "tokens": 1, "seconds": float("nan"), "end": "stop", "note": ""}),
    _turn(answer={"text": "x", "tokens": 1, "seconds": 1, "end": "boom", "note": ""})])
def test_whatever_is_no_conversation_is_none(text):
    assert memory.talks_from(text) == ()


def test_a_text_that_is_none_is_no_conversation():
    assert memory.talks_from(None) == ()
