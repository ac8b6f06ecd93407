"""Conversations as one text that a browser keeps, and out of it again: a reload or a lost connection loses none."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

from adapters.fetch import LONGEST_NAME
from chat.conversation import MOST_LANES, Talk, Talks, Turn, given_up, has_answers
from chat.drawing import is_strength
from phi3.lane import ENDS, Answer

# A browser keeps about five million characters for a page (WHATWG's HTML standard, web storage, suggests 5 MB).
MOST_CHARACTERS = 1_000_000


def as_text(talks: Talks) -> str:
    """Every lane and what was said in it, without the oldest messages where it would be too much to keep; empty where
    nothing was said.
    """
    while has_answers(talks):
        text = json.dumps([dataclasses.asdict(talk) for talk in talks], ensure_ascii=False)
        if len(text) <= MOST_CHARACTERS:
            return text
        oldest = min(turn.sent for talk in talks for turn in talk.turns)
        talks = tuple(dataclasses.replace(talk, turns=tuple(turn for turn in talk.turns if turn.sent != oldest))
                      for talk in talks)
    return ""


def talks_from(text: str) -> Talks:
    """The lanes of such a text. An answer that was still to come won't come any more. None where the text was damaged
    or says what no conversation can be: a browser sends whatever somebody wrote there.
    """
    if not isinstance(text, str) or len(text) > MOST_CHARACTERS:
        return ()
    try:
        lanes = _made(json.loads(text), list)
        return given_up(tuple(map(_talk, lanes))) if 0 < len(lanes) <= MOST_LANES else ()
    except (ValueError, KeyError, TypeError, RecursionError):
        return ()


def _talk(plain: dict[str, Any]) -> Talk:
    turns = tuple(map(_turn, _made(plain["turns"], list)))
    if [turn.sent for turn in turns] != sorted({turn.sent for turn in turns}):
        raise ValueError("Messages come in the order of their numbers.")
    return Talk(_name(plain["adapter"]), turns, _strength(plain["strength"]), _made(plain["is_unnamed"], bool))


def _turn(plain: dict[str, Any]) -> Turn:
    return Turn(_made(plain["sent"], int, lambda number: number > 0), _made(plain["question"], str),
                _name(plain["by"]), _answer(plain["answer"]), _strength(plain["strength"]),
                _made(plain.get("system"), str | None))


def _answer(plain: dict[str, Any]) -> Answer:
    return Answer(_made(plain["text"], str), _made(plain["tokens"], int, lambda number: number >= 0),
                  float(_made(plain["seconds"], int | float, lambda number: 0 <= number < 1e9)),
                  _made(plain["end"], str, lambda end: not end or end in ENDS), _made(plain["note"], str))


def _name(value: Any) -> str:
    return _made(value, str, lambda name: 0 < len(name) <= LONGEST_NAME)


def _strength(value: Any) -> float:
    return float(_made(value, int | float, is_strength))


def _made(value: Any, kind: Any, is_right: Callable[[Any], bool] = lambda value: True) -> Any:
    """The value itself; ValueError where it is no such thing."""
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool) or not is_right(value):
        raise ValueError("That is no conversation.")
    return value
