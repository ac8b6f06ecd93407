"""What a part says: a figure, beside it the goal that it is held to and the check that makes it worth something."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.card.bench import Bench


@dataclass(frozen=True)
class Goal:
    """A number to be reached: at least, or where `more` is not better, at most."""

    name: str
    wanted: float
    more: bool = True

    def __str__(self) -> str:
        return f"{self.name}: {'≥' if self.more else '≤'} {self.wanted:g}"

    def is_reached(self, value: float) -> bool:
        """Whether this number is good enough."""
        return value >= self.wanted if self.more else value <= self.wanted


# The goals for a card, by the names that the project's measurements have for them.
ROOFLINE = Goal("T1, share of the roofline at 2047 tokens", 0.68)
AGAINST_DEFAULTS = Goal("T2, times TRL's defaults", 4.0)
AGAINST_TUNED = Goal("T3, times the best-tuned TRL", 1.6)
AGAINST_UNSLOTH = Goal("T3, times Unsloth", 1.5)
QLORA_SPEED = Goal("T4, of LoRA's speed", 0.97)
PLAN_OFF = Goal("T5, off the plan by", 0.10, more=False)
ONE_STREAM = Goal("I1, share of the bandwidth roofline", 0.80)
FOUR_LANES = Goal("I2, four lanes ÷ one lane", 1.25, more=False)
AGAINST_MIXED = Goal("I3, times faster than PEFT mixed (a goal for CPUs)", 2.5)
SWITCH = Goal("I4, milliseconds to switch", 1.0, more=False)
LOAD = Goal("I4, milliseconds for 50 MB", 25.0, more=False)
UNMERGED = Goal("I5, base ÷ one unmerged adapter", 0.97)
FIVE_MINUTES = Goal("Z1, million tokens in five minutes (half a Blackwell)", 2.0)
GRADIENTS = Goal("cosine to plain float32 PEFT's gradients", 0.9999)


@dataclass(frozen=True)
class Check:
    """What was looked at so that a figure may be believed, and whether it was so."""

    words: str
    passed: bool


@dataclass(frozen=True)
class Figure:
    """One line of a part. `value` is a number or a few words, `note` what a reader should see beside it, and `details`
    are plain values for the JSON alone.
    """

    name: str
    value: float | str
    unit: str = ""
    note: str = ""
    goal: Goal | None = None
    check: Check | None = None
    details: Any = None

    def as_json(self, counts: bool) -> dict[str, Any]:
        """Plain values. `counts`: goals are meant for such a machine and such a size."""
        number = not isinstance(self.value, str)
        reached = self.goal.is_reached(self.value) if self.goal and counts and number else None
        more = {} if self.details is None else {"details": self.details}
        return {"name": self.name, "value": self.value, "unit": self.unit, "note": self.note,
                "goal": str(self.goal or ""), "reached": reached,
                "check": self.check.words if self.check else "",
                "passed": self.check.passed if self.check else None, **more}


@dataclass(frozen=True)
class Section:
    """A stretch of a part that fails alone. `needs` are the packages without which it can't be run."""

    name: str
    measure: Callable[[Bench], Iterator[Figure]]
    needs: tuple[str, ...] = ()


# By the names under which they are imported: what everything needs, and what a training needs besides.
CORE = ("torch", "transformers", "peft", "accelerate")
TRAINING = ("trl", "datasets", "pyarrow", "orjson", "yaml")
FOUR_BITS = ("bitsandbytes",)
EVALUATION = ("rouge_score", "sacrebleu")
