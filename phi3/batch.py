"""Rows that are answered together, a token at a time: each with its own prompt, adapter, sampling and end."""

from __future__ import annotations

from bisect import bisect
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

import torch

from phi3.bounds import USUAL, Bounds
from phi3.captured import Capture
from phi3.decoder import Decoder
from phi3.lane import Answer, Lane
from phi3.sampling import Draw, drawn
from phi3.slots import Mix, Slots
from phi3.template import Message, encode_prompt

if TYPE_CHECKING:
    from phi3.models import Base

# Questions, and their answers, that are read at once to see whether a whole conversation fits.
TURNS_AT_FIRST = 16
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
    tokens: list[int] = field(default_factory=list)
    slot: int = 0
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
        if token in base.stop_tokens:
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
        text = base.tokenizer.decode(self.tokens, skip_special_tokens=True) if self.cut is None else self.cut
        if self.end:
            return Answer(text.strip(), len(self.tokens), self.seconds, self.end, self.note)
        # A character of several bytes may still be on its way, and so may a stop text.
        text = text.rstrip("\ufffd")
        held = max((size for stop in self.lane.sampling.stop_texts for size in range(1, len(stop))
                    if text.endswith(stop[:size])), default=0)
        return Answer(text[:len(text) - held].lstrip(), len(self.tokens), self.seconds, "", self.note)

    def _before_a_stop_text(self, base: Base) -> str | None:
        stops = [stop for stop in self.lane.sampling.stop_texts if stop]
        if not stops:
            return None
        text = base.tokenizer.decode(self.tokens, skip_special_tokens=True)
        found = [text.index(stop) for stop in stops if stop in text]
        return text[:min(found)] if found else None


class Batch:
    """Rows in one forward pass of one model. With `slots` each row has its own adapter, without the model's."""

    def __init__(self, model: Any, slots: Slots | None = None, capture: Capture | None = None) -> None:
        """`capture` makes steps one call each, where rows have slots."""
        self.rows: list[Row] = []
        self._slots, self._decoder = slots, Decoder(model, capture)
        self._kind, self._mixed_type = self._decoder.device.type, _mixed_type(model)

    def join(self, rows: Sequence[Row]) -> list[int | None]:
        """Read new rows, and what each had said before; the next token of each of them, None where there is none."""
        with self._computing(rows):
            logits = self._decoder.read([row.prompt + row.tokens for row in rows])
            self.rows += rows
            return self._drawn(rows, logits)

    def step(self) -> list[int | None]:
        """The next token of every row."""
        again = [place for place, row in enumerate(self.rows) if self._is_turned_anew(row)]
        if again:
            # Stock generation forgets its cache here as well, and reads all that there is anew.
            rows = [self.rows[place] for place in again]
            self.keep([place for place in range(len(self.rows)) if place not in again])
            rest = self.step() if self.rows else []
            return [*rest, *self.join(rows)]
        with self._computing(self.rows, self._decoder.captures_steps_of(len(self.rows))):
            form = None if self._slots is None else self._slots.form
            return self._drawn(self.rows, self._decoder.step([row.tokens[-1] for row in self.rows], form))

    def keep(self, places: Sequence[int]) -> None:
        """Go on with these rows only, given in rising order."""
        if len(places) < len(self.rows):
            self.rows = [self.rows[place] for place in places]
            with torch.inference_mode():
                self._decoder.cache.keep(places)

    def _is_turned_anew(self, row: Row) -> bool:
        return bool(self._decoder.longest_short) and \
            len(row.prompt) + len(row.tokens) == self._decoder.longest_short + 1

    def _drawn(self, rows: Sequence[Row], logits: torch.Tensor) -> list[int | None]:
        return drawn([Draw(row.lane.sampling, row.prompt + row.tokens if row.lane.sampling.temperature else (),
                           row.chance) for row in rows], logits)

    def _computing(self, rows: Sequence[Row], adapters_stay: bool = False) -> ExitStack:
        """The modes of a forward pass over these rows. Entered anew each time: they belong to a thread."""
        stack = ExitStack()
        stack.enter_context(torch.inference_mode())
        if self._mixed_type is not None:
            stack.enter_context(torch.autocast(self._kind, self._mixed_type))
        if self._slots is not None:
            self._slots.use(Mix(tuple(row.slot for row in rows), tuple(row.lane.strength for row in rows)),
                            adapters_stay)
        return stack


def _mixed_type(model: Any) -> torch.dtype | None:
    """What a model computes in whose trained weights are more exact than the base's, as while it is trained."""
    finer = any(value.requires_grad and value.dtype is torch.float32 for value in model.parameters())
    return model.dtype if finer and model.dtype is not torch.float32 else None


def row_of(base: Base, lane: Lane, bounds: Bounds = USUAL) -> Row | Answer:
    """The lane as a row; an Answer where the conversation can't be read, or can't fit the base's context or the
    machine's memory.
    """
    context = min(base.facts.context, bounds.alone)
    wanted = min(lane.sampling.max_new_tokens, context // 2)
    try:
        prompt, dropped = _newest_that_fit(base, lane.messages, context - wanted)
    except ValueError as problem:
        return Answer(end="error", note=str(problem))
    room = min(lane.sampling.max_new_tokens, context - len(prompt))
    if room < 1:
        limit = "the base reads at most" if context == base.facts.context else "this machine's memory holds at most"
        told = f"This message is {len(prompt):,} tokens long; {limit} {context:,}. Shorten it."
        return Answer(end="error", note=told)
    turns = "turn" if dropped == 1 else "turns"
    note = f"The oldest {dropped} {turns} no longer fit and were left out." if dropped else ""
    return Row(lane, prompt, room, note, torch.Generator().manual_seed(lane.sampling.seed))


def all_answered(batch: Batch, base: Base, lanes: Sequence[Lane], bounds: Bounds) -> list[Answer]:
    """Whole answers to several conversations, in the order of the lanes; as many at once as the bounds hold."""
    made = [row_of(base, lane, bounds) for lane in lanes]
    # The longest first: so rows that are answered together are about as long as each other.
    waiting = deque(sorted((row for row in made if isinstance(row, Row)), key=lambda row: -row.most))
    while waiting or batch.rows:
        new = _taken_in(waiting, batch.rows, bounds)
        tokens = batch.join(new) if new else batch.step()
        for row, token in zip(new or batch.rows, tokens, strict=True):  # a step may have put them in another order
            row.add(token, base, asked=False)
        batch.keep([place for place, row in enumerate(batch.rows) if not row.end])
    return [one.answer(base) if isinstance(one, Row) else one for one in made]


def _taken_in(waiting: deque[Row], rows: Sequence[Row], bounds: Bounds) -> list[Row]:
    """Those that come in now, beside rows that are there; they wait no more."""
    new: list[Row] = []
    while waiting and bounds.hold([one.most for one in (*rows, *new, waiting[0])]) \
            and bounds.read_at_once([len(one.prompt) for one in (*new, waiting[0])]):
        new.append(waiting.popleft())
    return new


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
