"""What other programs may ask the base and adapters: one answer, or up to eight side by side, streamed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, fields
from typing import Any, get_type_hints

import gradio as gr

from adapters.fetch import LONGEST_NAME, is_on_a_hub
from adapters.library import in_use
from chat.conversation import BASE
from chat.drawing import SAMPLING_LABELS, is_strength, sampling_of
from phi3.lane import STRONGEST, Answer, Lane, Sampling
from phi3.template import Message
from tabs.hub import Reach
from tabs.parameters import Told, spelled_out, told
from tabs.plainly import plainly
from tabs.studio import Studio
from tabs.visitor import token_of, visitor_of
from training.owners import LOCAL, owner_by_key, owner_by_name

MOST_COMPARED = 8
# They share the answerer's batches, and each holds a thread for as long as it is answered.
ANSWERING = {"concurrency_limit": 16, "concurrency_id": "asked by programs"}
# Of one conversation; somewhat more than the longest context of the family holds.
MOST_CHARACTERS = 600_000
# A key that somebody made up, and others could guess, would open to them what was fetched with it.
SHORTEST_KEY = 20


def build(studio: Studio) -> None:
    """Add the endpoints to the page that is being built."""
    calls = _Calls(studio)
    for name in ("chat", "compare"):
        gr.api(plainly(with_sampling(getattr(calls, name))), api_name=name, **ANSWERING)


def with_sampling(call: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
    """The call as programs see it: instead of `**sampling` a parameter for each field of Sampling, with its type, its
    default and what it does.
    """
    kinds = get_type_hints(Sampling)
    return spelled_out(call, [
        Told(one.name, _plain(one.default), list[str] if isinstance(one.default, tuple) else kinds[one.name],
             SAMPLING_LABELS[one.name][1]) for one in fields(Sampling)])


def _plain(default: Any) -> Any:
    return list(default) if isinstance(default, tuple) else default


@dataclass(frozen=True)
class _Speaker:
    """An adapter of any name, or the base, and how strongly it speaks."""

    name: str
    strength: float = 1.0


_MESSAGE = "What to answer."
_HISTORY = 'What was said before, oldest first: {"role": "user" or "assistant", "content": text}.'


@dataclass(frozen=True)
class ToOne:
    """What /chat is asked."""

    message: str = told(_MESSAGE)
    adapter: str = told("base, an adapter's name in the Chat tab, or one on the Hub: owner/name or its page's address.",
                        BASE)
    history: list[dict] | None = told(_HISTORY, None)
    system: str | None = told("A system message. Empty: none.", "")
    strength: float = told("How strongly the adapter speaks, from 0 (the base) to 2; 1 is as it was trained.", 1.0)
    key: str | None = told("Where many visitors come: the key that /train returned, so that its adapter is found.", "")
    notes: bool = told("Whether the whole answer ends with what should be known of it, where there is something, in "
                       "square brackets on a line of its own: that the oldest turns were left out, for one.", False)


@dataclass(frozen=True)
class ToMany:
    """What /compare is asked."""

    message: str = told(_MESSAGE)
    adapters: list[str] = told("Who answers: base, adapters' names, or adapters on the Hub, as for /chat.")
    strengths: list[float] | None = told("How strongly each of them speaks, from 0 to 2. Left out: 1.", None)
    history: list[dict] | None = told(_HISTORY, None)
    system: str | None = told("A system message for all of them. Empty: none.", "")
    keys: list[str] | None = told("Where many visitors come: the keys that /train returned, so that their adapters are "
                                  "found.", None)


class _Calls:
    """The endpoints; their docstrings and types are what the API page and a list of tools show."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio

    def chat(self, request: gr.Request, asked: ToOne, **sampling: Any) -> Iterator[str]:
        """Answer a message with the base or one adapter. Streams the text so far; the last is the whole answer."""
        talk = _conversation(asked.message, asked.history, asked.system)
        drawn = sampling_of(sampling)
        speaker = _Speaker(_text("An adapter", asked.adapter), _strength(asked.strength))
        key = "" if asked.key is None else asked.key
        for (answer,) in self._answers(self._reach(request, key), [speaker], talk, drawn):
            if answer.end == "error":
                raise ValueError(answer.note)
            is_told = asked.notes and answer.done and answer.note
            yield f"{answer.text}\n\n[{answer.note}]".lstrip() if is_told else answer.text

    def compare(self, request: gr.Request, asked: ToMany, **sampling: Any) -> Iterator[list[dict]]:
        """Answer a message with up to eight adapters side by side, in one batch. Streams a list with adapter, text,
        tokens, seconds, done and note for each; the last has all of them done. A note says what is the matter.
        """
        talk = _conversation(asked.message, asked.history, asked.system)
        drawn = sampling_of(sampling)
        speakers = _speakers(asked.adapters, asked.strengths)
        for answers in self._answers(self._reach(request, *_list("keys", asked.keys)), speakers, talk, drawn):
            yield [_told(speaker, answer) for speaker, answer in zip(speakers, answers, strict=True)]

    def _answers(self, reach: Reach, speakers: Sequence[_Speaker], talk: tuple[Message, ...],
                 sampling: Sampling) -> Iterator[list[Answer]]:
        """Snapshots of all; who can't be had gets the reason as its answer. Closing this frees their places."""
        answers, lanes = [Answer() for _ in speakers], {}
        for place, speaker in enumerate(speakers):
            try:
                lanes[place] = Lane(talk, _folder(reach, speaker.name), sampling, speaker.strength)
            except ValueError as problem:
                answers[place] = Answer(end="error", note=str(problem))
        yield list(answers)
        if not lanes:
            return
        with closing(self.studio.answerer.result().answer(list(lanes.values()))) as snapshots:
            for snapshot in snapshots:
                for place, answer in zip(lanes, snapshot, strict=True):
                    answers[place] = answer
                yield list(answers)

    def _reach(self, request: gr.Request, *keys: str) -> Reach:
        """Whose adapters are seen, and to whom belongs what is fetched: a name, else the first of the keys."""
        wrong = [key for key in keys if not isinstance(key, str)]
        if wrong:
            raise ValueError(f"A key is {wrong[0]!r:.60}, and must be a text. Give what /train returned.")
        visitor = visitor_of(self.studio, request, given=keys)
        long = [key for key in keys if len(key) >= SHORTEST_KEY]
        owner = LOCAL if not self.studio.many_visitors else \
            owner_by_name(visitor.name) if visitor.name else owner_by_key(long[0]) if long else ""
        return Reach(visitor, owner, token_of(self.studio, request))


def _folder(reach: Reach, name: str) -> str | None:
    """Where the adapter of this name is, fetched if need be; None for the base."""
    if name == BASE:
        return None
    if is_on_a_hub(name) and not reach.owner and not reach.has(name):
        raise ValueError(f"{name[:LONGEST_NAME]} is fetched for whoever has a key. Give the one that /train returned, "
                         f"or make one up that nobody can guess, of {SHORTEST_KEY} characters or more.")
    return str(in_use(reach.bring(name)).folder)


def _told(speaker: _Speaker, answer: Answer) -> dict[str, Any]:
    return {"adapter": speaker.name, "text": answer.text, "tokens": answer.tokens,
            "seconds": round(answer.seconds, 4), "done": answer.done, "note": answer.note}


def _speakers(adapters: Any, strengths: Any) -> list[_Speaker]:
    if not isinstance(adapters, list) or not 1 <= len(adapters) <= MOST_COMPARED:
        count = len(adapters) if isinstance(adapters, list) else 0
        raise ValueError(f"{count} adapters were named, and 1 to {MOST_COMPARED} answer at once. Give a list of names; "
                         f"{BASE} is the model without an adapter.")
    given = [1.0] * len(adapters) if strengths is None else strengths
    if not isinstance(given, list) or len(given) != len(adapters):
        raise ValueError(f"strengths is {given!r:.60}, and must have one number for each of the {len(adapters)} "
                         "adapters.")
    return [_Speaker(_text("An adapter", name), _strength(strength))
            for name, strength in zip(adapters, given, strict=True)]


def _strength(value: Any) -> float:
    if not is_strength(value):
        raise ValueError(f"strength is {value!r:.60}, and must be a number between 0 and {STRONGEST}.")
    return float(value)


def _conversation(message: Any, history: Any, system: Any) -> tuple[Message, ...]:
    """What the model reads; ValueError says what of it is none."""
    if not _text("message", message).strip():
        raise ValueError("message is empty. Write what shall be answered.")
    said = [_turn(number, turn) for number, turn in enumerate(_list("history", history), 1)]
    first = [Message(role="system", content=system)] if system is not None and _text("system", system).strip() else []
    messages = (*first, *said, Message(role="user", content=message))
    length = sum(len(one["content"]) for one in messages)
    if length > MOST_CHARACTERS:
        raise ValueError(f"The conversation has {length:,} characters, and {MOST_CHARACTERS:,} can be read. Leave out "
                         "what is oldest.")
    return messages


def _turn(number: int, turn: Any) -> Message:
    if not isinstance(turn, dict) or turn.get("role") not in ("user", "assistant") \
            or not isinstance(turn.get("content"), str):
        raise ValueError(f"Turn {number} of history is {turn!r:.80}, and must have a role, user or assistant, and its "
                         "content, a text.")
    return Message(role=turn["role"], content=turn["content"])


def _list(name: str, value: Any) -> list[Any]:
    if not isinstance(value, list | None):
        raise ValueError(f"{name} is {value!r:.60}, and must be a list.")
    return value or []


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{name} is {value!r:.60}, and must be a text.")
    return value
