"""What comparisons and losses come to, in one honest sentence of our own words and numbers; pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, median

from training.measures import JUDGE, Comparison

Points = Sequence[tuple[int, float]]
# Fewer rows say more about themselves than about the adapter.
FEWEST_ROWS = 8
# A held-out loss that rose by less than this share of its lowest may have done so by chance.
LEAST_RISE = 0.03
# From fewer second differences noise isn't read.
FEWEST_BENDS = 5
# Loss on general rows that rose by less (in nats, and as a share of the base's) is no forgetting that anybody sees.
LEAST_FORGOTTEN, LEAST_FORGOTTEN_SHARE = 0.1, 0.1
# Standard deviations of a normal variable: the median's distance, and of a second difference for its terms' one.
MEDIAN_DISTANCE, SECOND_DIFFERENCE = 0.6745, math.sqrt(6)


@dataclass(frozen=True)
class Losses:
    """(step, loss) while training and on held-out rows, in the order of the steps."""

    train: Points = ()
    held_out: Points = ()


@dataclass(frozen=True)
class Overfit:
    """Held-out loss was lowest at `step`, and has risen since."""

    step: int
    lowest: float
    last: float


def verdict(comparisons: Sequence[Comparison], losses: Losses | None = None, general: Comparison | None = None,
            continued: bool = False, unseen: bool = True) -> str:
    """Better by how much, no difference that the data can show, or worse; then whether it overfits or forgot.

    `general` compares losses (nats for each token) on rows that have nothing to do with the data. What it is compared
    with is the base, or where it was `continued`, the adapter that it was made from. The answers are to prompts that it
    never saw, or where they aren't known to be `unseen`, maybe to some that it was trained on.
    """
    parts = [_judged(comparisons, made_from(continued), " it never saw" if unseen else
                     ", which it may have learned from")]
    risen = overfit(losses) if losses else None
    if risen:
        parts.append(f"it overfits since step {risen.step:,}: its held-out loss rose from {risen.lowest:.2f} to "
                     f"{risen.last:.2f} while its training loss fell")
    if general is not None and forgot(general):
        # A manner that it took on everywhere looks the same in a loss.
        parts.append(f"on {general.count} general questions its loss rose from {general.before:.2f} to "
                     f"{general.adapter:.2f}: it forgot, or it answers everything in its new manner")
    return "; ".join(parts) + "."


def made_from(continued: bool) -> str:
    """What an adapter is compared with, in words."""
    return "the adapter it was made from" if continued else "the base"


def overfit(losses: Losses) -> Overfit | None:
    """Where held-out loss has risen since its lowest by more than noise while training loss fell; None elsewhere.

    The noise of a curve is read from its second differences, which a smooth course leaves small; of those since its
    lowest, where there are enough.
    """
    held = losses.held_out
    if len(held) < 3:
        return None
    place = min(range(len(held)), key=lambda index: held[index][1])
    (step, lowest), last = held[place], held[-1][1]
    bends = [abs(before[1] - 2 * here[1] + after[1])
             for (before, here), (_, after) in pairwise(list(pairwise(held)))]
    # The steep fall at a run's beginning bends without being noise.
    since = bends[max(0, place - 1):]
    noise = median(since if len(since) >= FEWEST_BENDS else bends) / MEDIAN_DISTANCE / SECOND_DIFFERENCE
    if last - lowest <= max(LEAST_RISE * lowest, 4 * noise) or not _fell_since(losses.train, step):
        return None
    return Overfit(step, lowest, last)


def lowest_of(losses: Points) -> tuple[int, float] | None:
    """(step, held-out loss) of the lowest after the first step, the earliest of equals; None before there is one."""
    return min((one for one in losses if one[0]), key=lambda one: one[1], default=None)


def on_schedule(losses: Points, every: int) -> list[tuple[int, float]]:
    """Without what was measured where somebody stopped the run: the uninterrupted one, which it is still to become, has
    none there.
    """
    return [one for one in losses if one[0] % every == 0]


def since_lowest(losses: Points) -> int:
    """How many evaluations there were since the lowest."""
    lowest = lowest_of(losses)
    return sum(step > lowest[0] for step, _ in losses) if lowest else 0


def forgot(general: Comparison) -> bool:
    """Whether loss on general rows rose clearly: beyond chance, and by enough to be seen."""
    least = max(LEAST_FORGOTTEN, LEAST_FORGOTTEN_SHARE * general.before)
    return general.low > 0 and general.difference > least


def _judged(comparisons: Sequence[Comparison], other: str, which: str) -> str:
    one = next(one for one in comparisons if one.measure == JUDGE)
    if one.count < FEWEST_ROWS:
        rows = f"{one.count} conversations are" if one.count > 1 else "1 conversation is"
        return f"{rows} too few to judge its answers by"
    said = f"{one.measure} {one.adapter:.1f} against {one.before:.1f}"
    within = f"95 % interval {one.low:+.1f} to {one.high:+.1f}"
    if one.low > 0 or one.high < 0:
        word = "Better" if one.low > 0 else "Worse"
        return (f"{word} than {other} on {one.count} conversations{which}: {said}, a difference of "
                f"{one.difference:+.1f} ({within})")
    return f"No difference to {other} that {one.count} conversations can show: {said}, {one.difference:+.1f} ({within})"


def _fell_since(train: Points, step: int) -> bool:
    """Whether training loss is lower at the end than it was around that step."""
    after = [loss for when, loss in train if when > step]
    before = [loss for when, loss in train if when <= step]
    if not before or not after:
        return False
    span = max(1, min(len(before), len(after), 10))
    return fmean(after[-span:]) < fmean(before[-span:])
