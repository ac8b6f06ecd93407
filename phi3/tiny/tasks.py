"""What can be asked: a task draws values, words a question with them, and knows the right answer."""
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from phi3.tiny.phrases import Wordings, capitalised, worded

Values = dict[str, str]
HELD_OUT_OF = 12   # one combination of values in twelve is kept away from training
TRIES = 100           # draws before a side of the partition counts as empty


@dataclass(frozen=True)
class Turn:
    """One question and what a right answer says."""

    kind: str
    question: str
    answer: str
    short: str                  # the answer without a sentence around it
    content: tuple[str, ...]
    values: Values


@dataclass(frozen=True)
class Task:
    """A kind of question.

    `draw` gives the values for the texts' {places}. Where combinations of values can be held out (sums, say, but not
    capitals: a fact that was never told can't be known) it also gives `key`, which names the combination.
    `follow_up` words a second question that leans on the first; `follow_draw` gives its values from the earlier ones.
    """

    kind: str
    wordings: Wordings
    draw: Callable[[Random], Values]
    answer: str
    short: str = "{value}"
    content: tuple[str, ...] = ("{value}",)
    weight: float = 1.0
    follow_up: Wordings | None = None
    follow_draw: Callable[[Random, Values], Values] | None = None
    follow_answer: str | None = None

    def ask(self, rng: Random, unseen: bool) -> Turn:
        values = self.values_for(lambda: self.draw(rng), unseen)
        if values is None:
            raise ValueError(f"The task {self.kind!r} draws no values on this side of the partition. Give it more.")
        return self.turn(values, worded(self.wordings, values, rng, unseen), self.answer)

    def follow(self, earlier: Turn, rng: Random, unseen: bool) -> Turn | None:
        """A second question about the same, or None where this side of the partition has no values for one."""
        if self.follow_up is None:
            return None
        draw = self.follow_draw or (lambda rng, _: self.draw(rng))
        values = self.values_for(lambda: draw(rng, earlier.values), unseen)
        if values is None:
            return None
        question = worded(self.follow_up, values, rng, unseen)
        return self.turn(values, question, self.follow_answer or self.answer)

    def values_for(self, draw: Callable[[], Values], unseen: bool) -> Values | None:
        """Values from this side of the partition, if some turn up."""
        drawn = (draw() for _ in range(TRIES))
        return next((values for values in drawn
                     if "key" not in values or held_out(self.kind, values["key"]) == unseen), None)

    def turn(self, values: Values, question: str, answer: str) -> Turn:
        return Turn(self.kind, question, capitalised(answer.format(**values)), self.short.format(**values),
                    tuple(text.format(**values) for text in self.content), values)


def held_out(kind: str, key: str) -> bool:
    """Whether this combination of values is kept away from training."""
    return zlib.crc32(f"{kind} {key}".encode()) % HELD_OUT_OF == 0
