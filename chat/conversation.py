"""Conversations side by side as plain values: ask, answer, edit, undo, switch adapters; no Gradio, no model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from adapters.fetch import here
from adapters.library import Library, in_use
from chat.drawing import checked_strength
from chat.vote import Said, Verdict, Vote, shuffled
from phi3.generate import Answer, Answerer, Lane, Sampling
from phi3.template import Message, with_whole_characters

BASE = "base"
LETTERS = "ABCD"
MOST_LANES = len(LETTERS)
NO_ANSWER = "No answer came. Try again."
MESSAGE_GONE = "That message is no longer there."


@dataclass(frozen=True)
class Turn:
    """A question, and the answer of whoever the lane answered with then. `sent` numbers the visitor's messages, and
    `system` is the system message under which the answer was given; None before that.
    """

    sent: int
    question: str
    by: str
    answer: Answer = field(default_factory=Answer)
    strength: float = 1.0
    system: str | None = None

    @property
    def author(self) -> str:
        """Who answered, and how strongly where that isn't as it was trained."""
        return self.by if self.by == BASE or self.strength == 1 else f"{self.by} at {self.strength:g}"


@dataclass(frozen=True)
class Talk:
    """One lane: whom it answers with and how strongly, and its own conversation. `is_unnamed` while it is not to be
    known who it is.
    """

    adapter: str = BASE
    turns: tuple[Turn, ...] = ()
    strength: float = 1.0
    is_unnamed: bool = False

    def asking(self, sent: int, question: str) -> Talk:
        """With one more question, which waits for an answer of whom the lane answers with now."""
        asked = Turn(sent, with_whole_characters(question), self.adapter, strength=self.strength)
        return replace(self, turns=(*self.turns, asked))

    def messages(self, system: str, sent: int | None = None) -> tuple[Message, ...]:
        """What the model reads: everything that was said, and the question that waits, or that of message `sent`, with
        the system message of then where it was answered. Failed answers are left out.
        """
        turns = [turn for turn in self.turns if sent is None or turn.sent <= sent]
        if sent is not None and turns and turns[-1].system is not None:
            system = turns[-1].system
        said: list[Message] = [Message(role="system", content=system)] if system.strip() else []
        for turn in turns:
            is_last = turn is turns[-1]
            if turn.answer.text or is_last:
                said.append(Message(role="user", content=turn.question))
            if turn.answer.text and not is_last:
                said.append(Message(role="assistant", content=turn.answer.text))
        return tuple(said)


Talks = tuple[Talk, ...]


@dataclass(frozen=True)
class Asking:
    """What holds for all lanes of one message."""

    system: str = ""
    sampling: Sampling = field(default_factory=Sampling)


def who_can_answer(library: Library) -> list[str]:
    """What a lane's picker offers."""
    return [BASE, *library.names()]


def first_lanes(library: Library) -> Talks:
    """The base, beside the first adapter that ships (or any that was made for this base, or the base alone)."""
    adapters = library.suited()
    named = next((one.name for one in adapters if one.shipped), adapters[0].name if adapters else None)
    return (Talk(),) if named is None else (Talk(), Talk(named))


def added(talks: Talks, library: Library) -> Talks:
    """One lane more, with an adapter that no lane has yet where there is one."""
    used = {talk.adapter for talk in talks}
    free = next((one.name for one in library.suited() if one.name not in used), BASE)
    return (*talks, Talk(free))[:MOST_LANES]


def joined(talks: Talks, adapter: str) -> Talks:
    """With a lane for this adapter: one more, or the last one where there is no room; none where it has one."""
    if any(talk.adapter == adapter for talk in talks):
        return talks
    if len(talks) < MOST_LANES:
        return (*talks, Talk(adapter))
    return (*talks[:-1], replace(talks[-1], adapter=adapter))


def named(adapters: Sequence[str]) -> Talks:
    """The lanes that an address asks for; one alone stands beside the base."""
    asked = tuple(map(Talk, adapters[:MOST_LANES]))
    return (Talk(), *asked) if len(asked) == 1 and asked[0] != Talk() else asked


def are_answering(talks: Talks) -> bool:
    """Whether an answer is still to come."""
    return any(talk.turns and not talk.turns[-1].answer.done for talk in talks)


def without_answer(talks: Talks, place: int, why: str) -> Talks:
    """Where a lane waits for an answer, it gets this sentence instead."""
    waits = talks[place].turns and not talks[place].turns[-1].answer.done
    return _with_answer(talks, place, Answer(end="error", note=why)) if waits else talks


def removed(talks: Talks, place: int) -> Talks:
    """One lane less; the last one stays."""
    return talks if len(talks) == 1 else (*talks[:place], *talks[place + 1:])


def with_question(talks: Talks, question: str) -> Talks:
    """Every lane is asked; its answer is still empty. One that was still answering stops with what it has said."""
    sent = last_sent(talks) + 1
    return tuple(talk.asking(sent, question) for talk in stopped(talks))


def told(talks: Talks, question: str, answers: Sequence[Answer], system: str = "") -> Talks:
    """A question that every lane has answered, in their order, under this system message; nobody is asked."""
    asked = with_question(talks, question)
    for place, answer in enumerate(answers):
        asked = _with_answer(asked, place, answer, system=system)
    return asked


def asked_again(talks: Talks, place: int | None = None) -> Talks:
    """The last message once more, to the lanes that had it (or to this one), with whom they answer now."""
    last = last_sent(talks)
    return tuple(replace(talk, turns=talk.turns[:-1]).asking(last, talk.turns[-1].question)
                 if talk.turns and talk.turns[-1].sent == last and place in (None, number) else talk
                 for number, talk in enumerate(talks))


def edited(talks: Talks, sent: int, question: str) -> Talks:
    """A message as it should have been: whoever had it answers it anew, and what came after it is gone."""
    def without_the_rest(talk: Talk) -> Talk:
        before = replace(talk, turns=tuple(turn for turn in talk.turns if turn.sent < sent))
        return before.asking(sent, question) if any(turn.sent == sent for turn in talk.turns) else before

    return tuple(map(without_the_rest, talks))


def undone(talks: Talks) -> tuple[Talks, str]:
    """Without the last message and its answers; the message itself, to be written anew. Where nothing is left to vote
    on, nobody stays unnamed.
    """
    last = last_sent(talks)
    question = next((talk.turns[-1].question for talk in talks if talk.turns and talk.turns[-1].sent == last), "")
    before = tuple(replace(talk, turns=tuple(turn for turn in talk.turns if turn.sent != last)) for talk in talks)
    return (before if has_answers(before) else named_again(before)), question


def cleared(talks: Talks) -> Talks:
    """The same lanes, nothing said, and so nothing to vote on."""
    return tuple(replace(talk, turns=(), is_unnamed=False) for talk in talks)


def picked(talks: Talks, given: Mapping[str, Any]) -> Talks:
    """Other adapters and strengths from the next answer on, `picked_A`, `strength_A` and so on; what isn't given, and
    the conversations, stay.
    """
    return tuple(replace(talk, adapter=given.get(f"picked_{letter}", talk.adapter) or BASE,
                         strength=_given_strength(given.get(f"strength_{letter}", talk.strength)))
                 for talk, letter in zip(talks, LETTERS, strict=False))


def _given_strength(value: float | None) -> float:
    """An emptied field is as the adapter was trained."""
    return 1.0 if value is None else checked_strength(value)


def answered(talks: Talks, answerer: Answerer, library: Library, asking: Asking,
             stop: Callable[[], bool]) -> Iterator[Talks]:
    """Snapshots of all lanes while those whose last question waits are answered in one batch."""
    waiting: dict[int, Lane] = {}
    for place, talk in enumerate(talks):
        if talk.turns and not talk.turns[-1].answer.done:
            try:
                folder = _folder_of(talk.adapter, library)
            except ValueError as problem:
                talks = without_answer(talks, place, str(problem))
            else:
                waiting[place] = Lane(talk.messages(asking.system), folder, asking.sampling, talk.strength)
                talks = _with_answer(talks, place, talk.turns[-1].answer, system=asking.system)
    yield talks
    if not waiting:
        return
    for answers in answerer.answer(list(waiting.values()), stop):
        for place, answer in zip(waiting, answers, strict=True):
            talks = _with_answer(talks, place, answer)
        yield talks


def stopped(talks: Talks) -> Talks:
    """Whoever was still answering stops with what they have said."""
    return _ended(talks, end="asked")


def given_up(talks: Talks) -> Talks:
    """Whatever still waits will get no more of an answer: asking the base broke off."""
    return _ended(talks, end="error", note=NO_ANSWER)


def _ended(talks: Talks, **how: str) -> Talks:
    """Whoever was still answering says no more."""
    for place, talk in enumerate(talks):
        if talk.turns and not talk.turns[-1].answer.done:
            talks = _with_answer(talks, place, replace(talk.turns[-1].answer, **how))
    return talks


def has_answers(talks: Talks) -> bool:
    """Whether anything was said yet."""
    return any(talk.turns for talk in talks)


def _folder_of(adapter: str, library: Library) -> str | None:
    return None if adapter == BASE else str(in_use(here(adapter, library)).folder)


def _with_answer(talks: Talks, place: int, answer: Answer, **more: str) -> Talks:
    talk = talks[place]
    turns = (*talk.turns[:-1], replace(talk.turns[-1], answer=answer, **more))
    return (*talks[:place], replace(talk, turns=turns), *talks[place + 1:])


def last_sent(talks: Talks) -> int:
    """The number of the visitor's last message; 0 before the first."""
    return max((turn.sent for talk in talks for turn in talk.turns), default=0)


def unnamed(talks: Talks, seed: int) -> Talks:
    """The lanes in an order that nobody knows, without their names and without what was said: a blind comparison
    begins anew, so that all answer the very same words.
    """
    order = shuffled(len(talks), seed)
    return tuple(replace(talks[place], turns=(), is_unnamed=True) for place in order)


def named_again(talks: Talks) -> Talks:
    """Who answered is no secret any more."""
    return tuple(replace(talk, is_unnamed=False) for talk in talks)


def can_be_voted_on(talks: Talks) -> bool:
    """Whether at least two unnamed lanes have answered the same message to its end, and none of them failed: that says
    nothing of who answers better.
    """
    return len(talks) > 1 and all(talk.is_unnamed and talk.turns and talk.turns[-1].answer.end not in ("", "error")
                                  for talk in talks)


def voted(talks: Talks, verdict: Verdict, best: int | None, system: str) -> Vote:
    """What a vote was about: each lane's last answer; `system` where it isn't known under which it was given."""
    last = last_sent(talks)
    return Vote(tuple(Said(talk.turns[-1].author, talk.messages(system, last), talk.turns[-1].answer.text)
                      for talk in talks), verdict, best)


def turn_of(talks: Talks, place: int, sent: int) -> Turn:
    """One lane's part of one message; ValueError where it is gone."""
    found = [turn for turn in (talks[place].turns if 0 <= place < len(talks) else ()) if turn.sent == sent]
    if not found:
        raise ValueError(MESSAGE_GONE)
    return found[0]


def with_message(talks: Talks, was: Turn) -> list[tuple[Talk, Turn]]:
    """(lane, turn) of whoever still has the message of this turn, wherever they stand by now; ValueError where it is
    gone. Its number alone doesn't tell: once all were cleared, the next message is the first one again.
    """
    found = [(talk, turn) for talk in talks for turn in talk.turns
             if (turn.sent, turn.question) == (was.sent, was.question)]
    if not found:
        raise ValueError(MESSAGE_GONE)
    return found


def with_answer_of(talks: Talks, was: Turn) -> tuple[Talk, Turn]:
    """The same of whoever gave this turn's answer, even if they answered again since."""
    found = [one for one in with_message(talks, was) if one[1].by == was.by]
    if not found:
        raise ValueError(MESSAGE_GONE)
    return max(found, key=lambda one: one[1] == was)
