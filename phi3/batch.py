"""Rows that are answered together, a token at a time: each with its own prompt, adapter, sampling and end."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import torch

from phi3.bounds import Bounds
from phi3.captured import Capture
from phi3.decoder import Decoder
from phi3.lane import Answer, Lane
from phi3.row import Row, row_of
from phi3.sampling import Draw, drawn
from phi3.slots import Mix, Slots

if TYPE_CHECKING:
    from phi3.models import Base


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
        """The next token of every row. Where that goes wrong, as for want of memory, all are as they were."""
        before = self._decoder.cache.lengths
        try:
            with self._computing(self.rows, self._decoder.captures_steps_of(len(self.rows))):
                form = None if self._slots is None else self._slots.form
                return self._drawn(self.rows, self._decoder.step([row.tokens[-1] for row in self.rows], form))
        except (MemoryError, RuntimeError):
            self._decoder.cache.lengths = before
            raise

    def turned_anew(self) -> list[Row]:
        """Rows whose positions are turned by other angles from here on, taken out: they join again to go on.

        Stock generation forgets its cache here as well, and reads all that there is anew.
        """
        rows = [row for row in self.rows if self._is_turned_anew(row)]
        self.keep([place for place, row in enumerate(self.rows) if not self._is_turned_anew(row)])
        return rows

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
        return drawn([Draw(row.lane.sampling, () if row.lane.sampling.is_likeliest else row.prompt + row.tokens,
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


def all_answered(batch: Batch, base: Base, lanes: Sequence[Lane], bounds: Bounds) -> list[Answer]:
    """Whole answers to several conversations, in the order of the lanes; as many at once as the bounds hold."""
    made = [row_of(base, lane, bounds) for lane in lanes]
    # The longest first: so rows that are answered together are about as long as each other.
    waiting = deque(sorted((row for row in made if isinstance(row, Row)), key=lambda row: -row.most))
    while waiting or batch.rows:
        new = _taken_in(waiting, batch.rows, bounds) or batch.turned_anew()
        tokens = batch.join(new) if new else batch.step()
        for row, token in zip(new or batch.rows, tokens, strict=True):
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
