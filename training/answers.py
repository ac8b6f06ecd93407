"""What a run's answers take, those in between and those at its end: reading, words, and how many at once; pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from phi3.bounds import Bounds, bounds_within
from phi3.shape import Shape
from training.config import RunConfig
from training.work import Work, looking_work

# At each look at the model it answers so many prompts, in so many tokens at most.
SHOWN_PROMPTS, SPOKEN_TOKENS = 3, 64
# At the end of a run: prompts asked of each side, fewer where time is lent, and tokens of an answer.
PROMPTS_AT_THE_END, PROMPTS_WHERE_LENT, TOKENS_AT_THE_END = 24, 8, SPOKEN_TOKENS
# General questions whose loss is measured at each look and at the end, and how long one is with its answer.
GENERAL_ROWS, GENERAL_TOKENS = 24, 32
# Of a conversation's tokens so many come before its last answer, as a rule.
ASKED_SHARE = 0.5
# What is free between steps is the cache's up to this share; the rest is for what reading computes.
CACHE_SHARE = 0.5


@dataclass(frozen=True)
class Answers:
    """All answers of a run: `reading` of their prompts, and `times` that a batch says SPOKEN_TOKENS, since no more
    prompts are answered at once than the `bounds` hold.
    """

    bounds: Bounds
    reading: Work
    times: int


def answers_of(config: RunConfig, shape: Shape, rows: Sequence[int], looks: int, bounds: Bounds,
               kept: float, at_the_end: bool) -> Answers:
    """Of a run over rows of so many tokens, which is looked at so often; base and adapter answer once more each
    `at_the_end`. `kept`: bytes that one block keeps for a token.
    """
    asked = max(1, round(ASKED_SHARE * sum(rows) / len(rows)))
    shown, last = min(SHOWN_PROMPTS, len(rows)), min(PROMPTS_AT_THE_END, len(rows))

    def reads(count: int, length: int) -> Work:
        return looking_work(config, shape, [length] * count, kept, bounds.read)

    reading = reads(shown, asked).times(looks)
    times = looks * _waves(shown, asked, bounds)
    if at_the_end:
        # The general rows pass one by one, but a pass alone costs little: a price is of those of training, in which
        # whatever a step takes besides is counted as well.
        both = reads(last, asked).plus(reads(GENERAL_ROWS, GENERAL_TOKENS))
        reading = reading.plus(both.times(2))
        times += 2 * _waves(last, asked, bounds)
    return Answers(bounds, reading, times)


def bounds_between_steps(memory: dict[str, int], available: int, shape: Shape, width: int) -> Bounds:
    """What answers may take while a run is trained, by its memory's terms: a step's own are free then."""
    stays = sum(size for name, size in memory.items() if name not in ("activations", "logits"))
    return bounds_within(CACHE_SHARE * (available - stays), shape, width)


def _waves(count: int, asked: int, bounds: Bounds) -> int:
    """How many times a batch is answered until so many are."""
    at_once = max(1, min(bounds.rows, bounds.tokens // (asked + SPOKEN_TOKENS)))
    return math.ceil(count / at_once)
