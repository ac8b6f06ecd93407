"""The numbers that measurements are held to, each said once."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Goal:
    """A number to be reached: at least, or where `more` is not better, at most."""

    name: str
    wanted: float
    more: bool = True

    def __str__(self) -> str:
        return f"{self.name}: {self.side} {self.wanted:g}"

    @property
    def side(self) -> str:
        """On which side of the number it is reached."""
        return "≥" if self.more else "≤"

    @property
    def number(self) -> str:
        """What its name begins with, as I2."""
        return self.name.split(",")[0]

    def is_reached(self, value: float) -> bool:
        """Whether this number is good enough."""
        return value >= self.wanted if self.more else value <= self.wanted


# By the names that the project's measurements have for them; for a card where nothing else is said.
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
UNMERGED_ON_A_CPU = Goal("I5, base ÷ one unmerged adapter, on a CPU", 0.95)
FIVE_MINUTES = Goal("Z1, million tokens in five minutes (half a Blackwell)", 2.0)
GRADIENTS = Goal("cosine to plain float32 PEFT's gradients", 0.9999)
