"""How answers are drawn: each setting with its name, what it does and its range, and how strongly an adapter speaks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from phi3.lane import STRONGEST, Sampling

MOST_STOP_TEXTS = 8
# As people read them: a name, and what it does.
SAMPLING_LABELS = {
    "temperature": ("Temperature", "0 always takes the likeliest word; higher is more varied."),
    "top_p": ("Top-p", "Only the likeliest words that together reach this share."),
    "top_k": ("Top-k", "Only this many of the likeliest words; 0 is no limit."),
    "min_p": ("Min-p", "No word that is less likely than this share of the likeliest; 0 is no limit."),
    "repetition_penalty": ("Repetition penalty", "Above 1 makes words that were used less likely."),
    "seed": ("Seed", "The same seed draws the same answers."),
    "max_new_tokens": ("Longest answer (tokens)", "An answer that gets longer is cut here."),
    "stop_texts": ("Stop texts", "An answer ends before any of these, one a line."),
}

# Every value's lowest, highest and kind; what the model makes of them is phi3/sampling.py's.
LIMITS = {"temperature": (0, 5, float), "top_p": (0.01, 1, float), "top_k": (0, 1_000_000, int),
          "min_p": (0, 1, float), "repetition_penalty": (0.1, 10, float), "seed": (0, 2**32 - 1, int),
          "max_new_tokens": (1, 100_000, int)}


def sampling_of(values: Mapping[str, float | str | Sequence[str] | None]) -> Sampling:
    """What the form holds or a program sends, stop texts one a line or as a list; ValueError names the value that is
    out of its range. Emptied fields take the default.
    """
    given: dict[str, Any] = {}
    for name, value in values.items():
        if name == "stop_texts":
            given[name] = _stop_texts(value or "")
            continue
        if value is not None:
            given[name] = in_range(name, value, SAMPLING_LABELS[name][0])
    return Sampling(**given)


def in_range(name: str, value: Any, label: str) -> float | int:
    """The value of a setting, as its own kind of number; ValueError names it by its label where it is out of range."""
    low, high, kind = LIMITS[name]
    is_number = _is_number(value)
    if not is_number or not low <= value <= high or value != kind(value):
        whole = "a whole number " if kind is int else ""
        shown = f"{value:g}" if is_number else f"{value!r:.60}"
        raise ValueError(f"{label} is {shown}, and must be {whole}between {low:g} and {high:,}.")
    return kind(value)


def is_strength(value: Any) -> bool:
    """Whether an adapter can speak so strongly."""
    return _is_number(value) and 0 <= value <= STRONGEST


def checked_strength(value: float) -> float:
    """The strength itself; ValueError where it is out of its range."""
    if not is_strength(value):
        raise ValueError(f"strength is {value:g}, and must be between 0 and {STRONGEST}.")
    return float(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _stop_texts(written: Any) -> tuple[str, ...]:
    label = SAMPLING_LABELS["stop_texts"][0]
    lines = [line for line in written.splitlines() if line.strip()] if isinstance(written, str) else written
    if not isinstance(lines, list | tuple) or not all(isinstance(one, str) for one in lines):
        raise ValueError(f"{label} are {lines!r:.60}, and must be texts.")
    found = tuple(filter(None, lines))
    if len(found) > MOST_STOP_TEXTS:
        raise ValueError(f"{label} are {len(found)}, and can be {MOST_STOP_TEXTS} at most. Leave some out.")
    return found
