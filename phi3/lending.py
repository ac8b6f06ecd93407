"""A GPU that is lent for seconds, as on a ZeroGPU: what a refusal says, how long answers need it, and answers on it."""

from __future__ import annotations

import math
import re
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from phi3.generate import Answer, Answerer, Lane, as_it_is, never

if TYPE_CHECKING:
    from phi3.models import Base

# What answers take on the card that is lent, guessed high: a refused second is cheaper than an answer that is cut.
SECONDS_TO_BEGIN = 3.0
SECONDS_PER_TOKEN = 0.03
SECONDS_PER_TOKEN_AND_ADAPTER = 0.002
SECONDS_PER_ADAPTER = 0.5
LONGEST_TURN = 60
# Answers end by themselves so long before the GPU is taken back.
MARGIN_SECONDS = 2.0
TIME_IS_OVER = "The GPU was lent for no longer than this. Ask for the rest, or let fewer lanes answer."
# There is no back-pressure between the worker and the page.
SECONDS_BETWEEN_SNAPSHOTS = 0.1

_SPENT = re.compile(r"\((\d+)s requested vs\. (-?\d+)s left\)")
_AGAIN = re.compile(r"Try again in ((?:\d+ days?, )?\d+:\d\d:\d\d)")
_TOO_LONG = re.compile(r"duration \((\d+)s\)")


@dataclass(frozen=True)
class Refusal:
    """Why no GPU was lent, or why it was taken back.

    `reason` is quota, token, aborted or refused. `requested` and `left` are seconds as the service counts them, which
    may be more than were asked for; `again_in` is its own "3:22:11".
    """

    reason: str
    message: str
    advice: str
    requested: int | None = None
    left: int | None = None
    again_in: str = ""


class Refused(ValueError):
    """No GPU was lent; what it says is a sentence for the visitor, and `refusal` is for those who can wait."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(f"{refusal.message} {refusal.advice}")
        self.refusal = refusal


_WORDS = (
    ("runs limit", "quota", "Your GPU turns of today are used up.", "Come back later, and it goes on from here."),
    ("reached its GPU limit", "quota", "This Space has used up the GPU time that it may lend without a sign-in.",
     "Open it on huggingface.co, signed in if you can, and try again."),
    ("credits allocated", "quota", "Your GPU credits are tied up by what you run elsewhere.",
     "Try again once that has ended."),
    ("Expired ZeroGPU proxy token", "token", "This page's pass to the GPU has run out.",
     "Reload the page and try again."),
    ("GPU task aborted", "aborted", "The GPU was taken back before the work was done.",
     "What was saved until then is kept. Try again."),
    ("No GPU was available", "refused", "No GPU was free.", "Try again in a few minutes."),
    ("Connection closed by visitor", "visitor left", "The page was closed while it waited for a GPU.",
     "Try again, and keep the page open."),
)


def refusal_of(said: str) -> Refusal:
    """What the `spaces` package says when it lends nothing, for a visitor and for whoever asks again."""
    spent, again, too_long = _SPENT.search(said), _AGAIN.search(said), _TOO_LONG.search(said)
    again_in = again[1] if again else ""
    if spent:
        requested, left = int(spent[1]), max(0, int(spent[2]))
        advice = f"Come back {f'in {again_in}' if again_in else 'later'}, or sign in for more."
        return Refusal("quota", f"Your GPU time is used up: {left} seconds are left of it, and this needs {requested}.",
                       advice, requested, left, again_in)
    if too_long:
        return Refusal("refused", f"A GPU is not lent for {too_long[1]} seconds at once.",
                       "Whoever runs this Space can set STUDIO_TURN_SECONDS lower.", int(too_long[1]))
    for words, reason, message, advice in _WORDS:
        if words in said:
            return Refusal(reason, message, advice, again_in=again_in)
    return Refusal("refused", "The GPU could not be had.", "Try again in a few minutes.", again_in=again_in)


def shorter_turn(asked: int, refusal: Refusal, shortest: int) -> int | None:
    """Seconds to ask for after a refusal that says what is left; None where that is less than `shortest`.

    The service may count a second that was asked for as more than one: what is left is counted likewise.
    """
    if refusal.left is None or not refusal.requested:
        return None
    left = math.floor(refusal.left * asked / refusal.requested)
    return left if shortest <= left < asked else None


def seconds_for(lanes: Sequence[Lane]) -> int:
    """Whole seconds of GPU that these answers need at their longest; all lanes are answered in one batch."""
    adapters = len({lane.adapter for lane in lanes if lane.adapter})
    tokens = max((lane.sampling.max_new_tokens for lane in lanes), default=0)
    each = SECONDS_PER_TOKEN + adapters * SECONDS_PER_TOKEN_AND_ADAPTER
    needed = SECONDS_TO_BEGIN + MARGIN_SECONDS + adapters * SECONDS_PER_ADAPTER + tokens * each
    return min(LONGEST_TURN, math.ceil(needed))


# Lanes, the file whose being there asks for a stop, and seconds: plain values, since they go to another process.
Lend = Callable[[Sequence[Lane], str, int], Iterator[list[Answer]]]


class LentAnswerer:
    """What an Answerer is to the page, where every answer has to borrow the GPU first; Refused where it gets none."""

    def __init__(self, lend: Lend, folder: Path) -> None:
        self._lend, self._folder = lend, folder

    def answer(self, lanes: Sequence[Lane], stop: Callable[[], bool] = never) -> Iterator[list[Answer]]:
        """Snapshots as an Answerer gives them. A stop crosses to the worker as a file."""
        self._folder.mkdir(parents=True, exist_ok=True)
        flag = self._folder / f".stop-{secrets.token_hex(8)}"
        try:
            with closing(self._lend(list(lanes), str(flag), seconds_for(lanes))) as snapshots:
                for snapshot in snapshots:
                    if stop():
                        flag.touch()
                    yield snapshot
        finally:
            flag.unlink(missing_ok=True)


def answered_within(base: Base, lanes: Sequence[Lane], flag: str, seconds: int,
                    ready: Callable[[Path], Path] = as_it_is) -> Iterator[list[Answer]]:
    """Answers on the resident base, in the process that has the GPU, until the flag is there or time is nearly up.

    The answerer is made anew: a process that serves the next visitor too keeps no adapter of this one.
    """
    ends, asked = time.monotonic() + seconds - MARGIN_SECONDS, Path(flag)
    yield [Answer() for _ in lanes]
    shown = 0.0
    for snapshot in Answerer(base, ready, captures=False).answer(
            lanes, lambda: time.monotonic() > ends or asked.exists()):
        if not asked.exists():
            snapshot = [answer.cut_short(TIME_IS_OVER) for answer in snapshot]
        if all(answer.done for answer in snapshot) or time.monotonic() - shown >= SECONDS_BETWEEN_SNAPSHOTS:
            shown = time.monotonic()
            yield snapshot
