"""What a run takes of a GPU that is lent by the day: turns, what they count as, and what they leave to a visitor."""

from __future__ import annotations

import math
from dataclasses import dataclass

from phi3.generate import Lane, Sampling
from phi3.lending import seconds_for
from training.describe import LONGEST_ANSWER, QUESTIONS_AT_ONCE
from training.lease import MARGIN_SECONDS

# Hugging Face's documentation of ZeroGPU Spaces, read in August 2026: seconds of GPU in a day.
QUOTA_SECONDS = {"anonymous": 120, "free": 300, "pro": 2400}
# A second on the usual half card ("large") is sent, and so counted, as this many: spaces 0.51, Blackwell.
COUNTED_AS = 1.5
# How long a turn is, unless whoever runs the Space says otherwise; counted as 90, it fits an anonymous visitor's day.
TURN_SECONDS = 60
# A trainer ends its turn this long before the lease's own end, besides what a step and a checkpoint take.
TRAINER_MARGIN_SECONDS = 2
# What a comparison asks: the base and one adapter, answering once each at the Chat tab's usual length.
COMPARED_ADAPTER = "adapter"


@dataclass(frozen=True)
class Visit:
    """What else is known of a visit: the seconds of a turn, and how many questions "describe it" asks the base."""

    turn_seconds: int = TURN_SECONDS
    questions: int = 0


@dataclass(frozen=True)
class Turns:
    """A run on a GPU that is lent: how many turns of how many seconds; the rest is in seconds as they are counted.

    `described` is spent on the questions before the run, `comparison` on one answer of base and adapter after it, and
    `quota` is what a visitor without a sign-in has in a day: what is left of it can't be asked for.
    """

    count: int
    seconds: int
    asked: int
    described: int
    comparison: int
    quota: int

    @property
    def left(self) -> int:
        """Of an anonymous visitor's day, for the chat; below zero where the day is not enough."""
        return self.quota - self.asked - self.described

    @property
    def leaves_a_comparison(self) -> bool:
        """Whether base and adapter can still answer once, side by side."""
        return self.left >= self.comparison

    @property
    def tier(self) -> str:
        """The least that is enough for it all in one day: anonymous, free, pro, or nothing."""
        needed = self.asked + self.described + self.comparison
        return next((name for name, seconds in QUOTA_SECONDS.items() if seconds >= needed), "")


def turns_of(total: float, load: float, longest: float, visit: Visit) -> Turns:
    """The turns of a run of `total` seconds. Each begins with `load` (the cold start), and ends early enough for the
    `longest` of what can't be interrupted: a step, a look and a checkpoint.
    """
    useful = visit.turn_seconds - MARGIN_SECONDS - TRAINER_MARGIN_SECONDS - load - longest
    count = max(1, math.ceil((total - load) / max(useful, longest, 1e-3)))
    return Turns(count, visit.turn_seconds, count * counted(visit.turn_seconds), described(visit.questions),
                 counted(seconds_for(_compared())), QUOTA_SECONDS["anonymous"])


def counted(seconds: float) -> int:
    """Seconds as the service counts them."""
    return math.ceil(seconds * COUNTED_AS)


def described(questions: int) -> int:
    """What "describe it" is counted as: each batch of questions is asked with the manner and without, in a turn of its
    own (training/describe.py).
    """
    full, rest = divmod(questions, QUESTIONS_AT_ONCE)
    batches = [QUESTIONS_AT_ONCE] * full + ([rest] if rest else [])
    return sum(counted(seconds_for([Lane((), sampling=Sampling(max_new_tokens=LONGEST_ANSWER))] * 2 * size))
               for size in batches)


def _compared() -> list[Lane]:
    return [Lane(()), Lane((), COMPARED_ADAPTER)]
