"""What a part says: a figure, beside it the goal that it is held to and the check that makes it worth something."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.goals import Goal

if TYPE_CHECKING:
    from benchmarks.card.bench import Bench


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
