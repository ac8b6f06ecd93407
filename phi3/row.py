"""A lane as a row of a batch: what it was asked as tokens, as much of it as fits, and what it has answered so far."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

import torch

from phi3.bounds import USUAL, Bounds
from phi3.lane import Answer, Lane
from phi3.template import Message, encode_prompt

if TYPE_CHECKING:
    from phi3.models import Base

# Questions, and their answers, that are read at once to see whether a whole conversation fits.
TURNS_AT_FIRST = 16
# In UTF-8, at most; and what stands for those that are none.
BYTES_OF_A_CHARACTER, UNREADABLE = 4, "\ufffd"
NO_NUMBERS = ("What it computes are no numbers any more (NaN or infinite). Where an adapter speaks, let it speak less "
              "strongly, or train it again with a lower learning rate.")


@dataclass
class Row:
    """A lane that is being answered: its prompt, the tokens so far, how many there may be, and how it ended.

    `place` is for whoever asked: which lane of whose request it is.
    """

    lane: Lane
    prompt: list[int]
    room: int
    note: str
    chance: torch.Generator
    ends_at: frozenset[int]
    tokens: list[int] = field(default_factory=list)
    slot: int = 0
    began: float = 0.0  # by time.monotonic
    seconds: float = 0.0
    end: str = ""
    cut: str | None = None  # what is left of the text where a stop text ended it
    place: Any = None

    @property
    def most(self) -> int:
        """Tokens that it has at most when it is over, question and answer."""
        return len(self.prompt) + self.room

    def add(self, token: int | None, base: Base, asked: bool) -> None:
        """The next token, and whether it is the last; None where none could be found."""
        if token is None:
            self.end, self.note = "error", " ".join(filter(None, (self.note, NO_NUMBERS)))
            return
        if token in self.ends_at:
            self.end = "stop"
            return
        self.tokens.append(token)
        self.cut = self._before_a_stop_text(base)
        if self.cut is not None:
            self.end = "stop"
        elif asked:
            self.end = "asked"
        elif len(self.tokens) >= self.room:
            self.end = "length"

    def answer(self, base: Base) -> Answer:
        """What there is of the answer; nothing is shown that the next tokens may take back."""
        text = _decoded(base, self.tokens) if self.cut is None else self.cut
        if self.end:
            return Answer(text.strip(), len(self.tokens), self.seconds, self.end, self.note)
        # A character of several bytes may still be on its way, and so may a stop text.
        text = text.rstrip(UNREADABLE)
        held = max((size for stop in self.lane.sampling.stop_texts
                    for size in range(1, min(len(stop), len(text) + 1)) if text.endswith(stop[:size])), default=0)
        return Answer(text[:len(text) - held].lstrip(), len(self.tokens), self.seconds, "", self.note)

    def _before_a_stop_text(self, base: Base) -> str | None:
        stops = [stop for stop in self.lane.sampling.stop_texts if stop]
        if not stops:
            return None
        text = base.tokenizer.decode(self.tokens, skip_special_tokens=True)
        found = [text.index(stop) for stop in stops if stop in text]
        return text[:min(found)] if found else None


def _decoded(base: Base, tokens: Sequence[int]) -> str:
    """The tokens' text. SentencePiece's tokenizers, as Phi-3's, find no byte readable in a row of bytes whose last
    character isn't whole yet: what comes before that character is read without it.
    """
    texts = (base.tokenizer.decode(tokens[:len(tokens) - left_out], skip_special_tokens=True)
             for left_out in range(BYTES_OF_A_CHARACTER))
    text = next(texts)
    if not text.endswith(UNREADABLE):
        return text
    whole = next((one for one in texts if not one.endswith(UNREADABLE)), "")
    return text if text.startswith(whole) else whole + UNREADABLE


def row_of(base: Base, lane: Lane, bounds: Bounds = USUAL) -> Row | Answer:
    """The lane as a row; an Answer where the conversation can't be read, or can't fit the base's context or the
    machine's memory.
    """
    context = min(base.facts.context, bounds.alone)
    is_all = context == base.facts.context
    wanted = min(lane.sampling.max_new_tokens, context // 2)
    characters = sum(len(turn["content"].lstrip()) for turn in lane.messages[-1:])
    if characters > context and characters > context * max(map(len, base.tokenizer.get_vocab())):
        # It isn't read to know how much too long: all others wait meanwhile.
        return _too_long(f"This message is {characters:,} characters", f"{context:,} tokens", is_all)
    try:
        prompt, dropped = _newest_that_fit(base, lane.messages, context - wanted)
    except ValueError as problem:
        return Answer(end="error", note=str(problem))
    room = min(lane.sampling.max_new_tokens, context - len(prompt))
    if room < 1:
        beside = " with the system message" if any(turn["role"] == "system" for turn in lane.messages) else ""
        return _too_long(f"This message{beside} is {len(prompt):,} tokens", f"{context:,}", is_all)
    turns = "turn" if dropped == 1 else "turns"
    note = f"The oldest {dropped} {turns} no longer fit and were left out." if dropped else ""
    chance = torch.Generator().manual_seed(lane.sampling.seed)
    return Row(lane, prompt, room, note, chance, _ends(base, lane.sampling.stop_texts))


def _ends(base: Base, stop_texts: Sequence[str]) -> frozenset[int]:
    """The tokens that end an answer: the base's, and those whose names are stop texts, which no answer's text shows."""
    control = base.tokenizer.get_added_vocab() if stop_texts else {}
    return frozenset(base.stop_tokens).union(control[stop] for stop in stop_texts if stop in control)


def _too_long(told: str, most: str, is_all_that_the_base_reads: bool) -> Answer:
    limit = "the base reads at most" if is_all_that_the_base_reads else "this machine's memory holds at most"
    return Answer(end="error", note=f"{told} long; {limit} {most}. Shorten it.")


def _newest_that_fit(base: Base, messages: Sequence[Message], most: int) -> tuple[list[int], int]:
    """The prompt of the newest questions and their answers that together have at most so many tokens, and how many
    older ones were dropped for it. The last question always stays.

    It is looked for from the newest back: the rest of a long conversation isn't read, since all others wait meanwhile.
    """
    questions = [place for place, turn in enumerate(messages) if turn["role"] == "user"]
    whole = max(1, len(questions))

    @cache
    def prompt(kept: int) -> list[int]:
        return encode_prompt(base.tokenizer, messages if kept == whole else _since(messages, questions[-kept]))

    tried = min(TURNS_AT_FIRST, whole)
    while tried < whole and len(prompt(tried)) <= most:
        tried = min(2 * tried, whole)
    fits = len(prompt(tried)) <= most
    kept = tried if fits else max(1, bisect(range(1, tried), most, key=lambda count: len(prompt(count))))
    return prompt(kept), whole - kept


def _since(messages: Sequence[Message], place: int) -> list[Message]:
    """The messages from a place on, after the system's before it."""
    return [*(turn for turn in messages[:place] if turn["role"] == "system"), *messages[place:]]
