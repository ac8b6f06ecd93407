"""What can be asked: a task draws values, words a question with them, and knows the right answer."""
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from phi3.tiny.phrases import Wordings, capitalised, worded

Values = dict[str, str]
HELD_OUT_OF = 12  # one combination of values in twelve is kept away from training
TRIES = 1000  # draws before a side of the partition counts as empty


@dataclass(frozen=True)
class Turn:
    """One question and what a right answer says."""

    kind: str
    question: str
    answer: str
    short: str  # the answer without a sentence around it
    content: tuple[str, ...]
    values: Values
    leans: bool = False  # whether it can only be understood with the turns before it


@dataclass(frozen=True)
class Task:
    """A kind of question.

    `draw` gives the values for the texts' {places}. Where combinations of values can be held out (sums, say, but not
    capitals: a fact that was never told can't be known) it also gives `key`, which names the combination.
    `follow_up` words a second question that leans on the first; `follow_draw` gives its values from the earlier ones,
    or None where there is nothing to ask. `its` asks as well about what an earlier turn was `about` ("it"), with the
    values that `of` gives for its name.
    """

    kind: str
    wordings: Wordings
    draw: Callable[[Random], Values]
    answer: str
    short: str = "{value}"
    content: tuple[str, ...] = ("{value}",)
    weight: float = 1.0
    follow_up: Wordings | None = None
    follow_draw: Callable[[Random, Values], Values | None] | None = None
    follow_answer: str | None = None
    follow_short: str | None = None
    follow_content: tuple[str, ...] | None = None
    its: Wordings | None = None
    about: str = ""
    of: Callable[[str], Values | None] | None = None

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
        question = worded(self.follow_up, values, rng, unseen, framed=False)
        return self.turn(values, question, self.follow_answer or self.answer, self.follow_short, self.follow_content,
                         True)

    def follow_with_it(self, earlier: Turn, rng: Random, unseen: bool) -> Turn | None:
        """This task asked about what the earlier turn was about, or None where it knows nothing of that."""
        values = self.of(earlier.values.get("name", "")) if self.its and self.of else None
        if values is None:
            return None
        return self.turn(values, worded(self.its, values, rng, unseen, framed=False), self.answer, leans=True)

    def values_for(self, draw: Callable[[], Values | None], unseen: bool) -> Values | None:
        """Values from this side of the partition, if some turn up."""
        drawn = (draw() for _ in range(TRIES))
        return next((values for values in drawn
                     if values is not None and ("key" not in values or held_out(self.kind, values["key"]) == unseen)),
                    None)

    def turn(self, values: Values, question: str, answer: str, short: str | None = None,
             content: tuple[str, ...] | None = None, leans: bool = False) -> Turn:
        return Turn(self.kind, question, capitalised(answer.format(**values)), (short or self.short).format(**values),
                    tuple(text.format(**values) for text in content or self.content), values, leans)


def held_out(kind: str, key: str) -> bool:
    """Whether this combination of values is kept away from training."""
    return zlib.crc32(f"{kind} {key}".encode()) % HELD_OUT_OF == 0
