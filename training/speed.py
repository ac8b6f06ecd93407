"""What runs really took on this machine, kept for the next plan: its prices for work, its loading, its speaking."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from adapters.files import write_whole
from phi3.machine import Machine
from phi3.shape import WIDTHS, Shape
from training.config import RunConfig
from training.memory import width_of
from training.work import Speed, guessed_speed

FILE = "speeds.json"
# So many runs of a machine are kept, and each newer one counts more: a machine's load and its libraries change.
KEPT = 16
FADING = 0.9
# How unwilling the single prices are to leave their common scale: with one run they hardly do, with several they
# follow what tells them apart (ridge regression; Hoerl and Kennard, 1970).
STIFFNESS = 0.01
# No price falls below this share of its scaled guess.
LEAST = 0.05


@dataclass(frozen=True)
class Outcome:
    """What one run did and took; seconds. `load` is all that was neither a step nor a look at the model, and `speaking`
    the `reading` of prompts as well (a `Work`).
    """

    base: str
    method: str
    work: tuple[float, float, float]
    training: float
    spoken: int
    speaking: float
    load: float
    reading: tuple[float, float, float] = (0.0, 0.0, 0.0)


def measured(home: Path, machine: Machine, config: RunConfig, base: Mapping[str, Any]) -> Speed | None:
    """How fast this machine is by what its runs took; None where none was finished here that computed in the same type.

    Its prices are shared by all such runs; loading and speaking are those of the same base and method, where there were
    such. `base` is the base's config.json.
    """
    width = width_of(config, base, machine)
    outcomes = _outcomes(home, _name(machine, width))
    if not outcomes:
        return None
    alike = [one for one in outcomes if (one.base, one.method) == (config.base, config.method)] or outcomes
    guess = guessed_speed(machine, Shape.of(base), width)
    found = prices(outcomes, guess.prices)
    words = [max(one.speaking - _dot(found, one.reading), LEAST * one.speaking) / one.spoken
             for one in alike if one.spoken]
    return Speed(found, statistics.median(one.load for one in alike), statistics.median(words) if words else guess.word)


def keep(home: Path, machine: Machine, width: int, outcome: Outcome) -> None:
    """Note it for the next plan, among the runs whose numbers had so many bytes; whole or not at all."""
    path, name = home / FILE, _name(machine, width)
    newest = [asdict(one) for one in (*_outcomes(home, name), outcome)][-KEPT:]
    noted = {**_read(path), name: newest}
    write_whole(path, json.dumps(noted, indent=1) + "\n")


def prices(outcomes: Sequence[Outcome], guess: Sequence[float]) -> tuple[float, float, float]:
    """The three prices of work (see `Speed`) that explain best what these runs took, oldest first.

    First the guess is scaled by the middle of what the runs took against it; then each price may leave that scale, by
    the share d for which sum(weight · (predicted / taken - 1)²) + STIFFNESS · |d|² is least.
    """
    scale = statistics.median(one.training / _dot(guess, one.work) for one in outcomes)
    scaled = [price * scale for price in guess]
    rows = [[price * part / one.training for price, part in zip(scaled, one.work, strict=True)] for one in outcomes]
    weights = [FADING ** age for age in reversed(range(len(rows)))]
    places = range(len(scaled))
    matrix = [[sum(weight * row[i] * row[j] for weight, row in zip(weights, rows, strict=True))
               + (STIFFNESS if i == j else 0.0) for j in places] for i in places]
    missing = [sum(weight * row[i] * (1 - sum(row)) for weight, row in zip(weights, rows, strict=True)) for i in places]
    shares = _solved(matrix, missing)
    start, operation, byte = (price * max(LEAST, 1 + share) for price, share in zip(scaled, shares, strict=True))
    return start, operation, byte


def _solved(matrix: list[list[float]], right: list[float]) -> list[float]:
    """Gauss's elimination; the matrix is symmetric and, by its stiffness, never singular."""
    rows = [[*row, value] for row, value in zip(matrix, right, strict=True)]
    for place, pivot in enumerate(rows):
        for below in rows[place + 1:]:
            times = below[place] / pivot[place]
            below[:] = [value - times * above for value, above in zip(below, pivot, strict=True)]
    found = [0.0] * len(rows)
    for place in reversed(range(len(rows))):
        known = sum(rows[place][later] * found[later] for later in range(place + 1, len(rows)))
        found[place] = (rows[place][-1] - known) / rows[place][place]
    return found


def _dot(prices: Iterable[float], work: Iterable[float]) -> float:
    return sum(price * part for price, part in zip(prices, work, strict=True))


def _outcomes(home: Path, name: str) -> list[Outcome]:
    """The runs that were noted under this name, oldest first; what is damaged among them is left out."""
    noted = _read(home / FILE).get(name)
    found = (_outcome(one) for one in noted) if isinstance(noted, list) else ()
    return [one for one in found if one is not None][-KEPT:]


def _outcome(plain: Any) -> Outcome | None:
    """An outcome from plain values, None where they are none of ours."""
    try:
        # A run of an earlier version doesn't say what it read.
        work, reading = (tuple(float(part) for part in some) for some in (plain["work"], plain.get("reading", [0] * 3)))
        seconds = {name: float(plain[name]) for name in ("training", "speaking", "load")}
        one = Outcome(str(plain["base"]), str(plain["method"]), work, spoken=int(plain["spoken"]), reading=reading,
                      **seconds)
    except (KeyError, TypeError, ValueError):
        return None
    numbers = (*work, *reading, *seconds.values(), one.spoken)
    is_sound = all(math.isfinite(number) and number >= 0 for number in numbers) and min(work, default=0) > 0
    # A run of an earlier version had four parts, and another step.
    return one if len(work) == len(reading) == 3 and is_sound and one.training > 0 else None


def _name(machine: Machine, width: int) -> str:
    """A processor has other prices for other types; a card is hardly ever asked for float32."""
    name = f"{machine.name}, {machine.threads} threads"
    return f"{name}, bf16" if machine.kind == "cpu" and width == WIDTHS["bf16"] else name


def _read(path: Path) -> dict[str, Any]:
    """What was noted; a file that is missing or damaged only costs the correction."""
    try:
        noted = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return noted if isinstance(noted, dict) else {}
