"""Runs beside each other: in which settings they differ, what each reached, and which won on held-out rows."""

from __future__ import annotations

import math
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from phi3.machine import GIBIBYTE
from training.evaluate import losses_of, read_evaluation
from training.group import MOST_RUNS, group_of
from training.measured import Measured, Yardsticks
from training.measures import Comparison
from training.run import BUSY, Event, Run
from training.verdict import FEWEST_ROWS, LEAST_RISE, Losses, made_from

FEWEST, MOST = 2, 6
# One for each run that can stand beside others: a whole group is the most.
LETTERS = string.ascii_uppercase[:MOST_RUNS]
# What marks the winner in its cell.
LOWEST = "(lowest)"


@dataclass(frozen=True)
class Result:
    """What one run was asked for and has reached. `loss` is on held-out rows at step `loss_at`: of the adapter for a
    run that is over, the newest for one that goes on; None before there is one, or where it is no number.
    `loss_before` is the same before training. Losses are in nats for each token of the answers.
    """

    run: str
    name: str
    state: str
    settings: Mapping[str, Any]
    data: Mapping[str, Any]
    losses: Losses
    step: int = 0
    steps: int = 0
    seconds: float | None = None
    tokens_per_second: float | None = None
    loss_before: float | None = None
    loss: float | None = None
    loss_at: int = 0
    peak_bytes: int | None = None
    verdict: str = ""
    measures: tuple[Comparison, ...] = ()
    tried: Mapping[str, Any] | None = None

    @property
    def is_over(self) -> bool:
        """Whether its loss will stay as it is, unless somebody resumes it."""
        return self.state not in BUSY

    def as_json(self) -> dict[str, Any]:
        """Plain values, without settings and curves; unknown bounds of an interval are None."""
        measures = [{"measure": one.measure, "before": one.before, "adapter": one.adapter,
                     "difference": round(one.difference, 4), "low": _finite(one.low), "high": _finite(one.high),
                     "count": one.count} for one in self.measures]
        plain = {name: getattr(self, name) for name in (
            "run", "name", "state", "step", "steps", "seconds", "tokens_per_second", "loss_before", "loss", "loss_at",
            "peak_bytes", "verdict")}
        return {**plain, "held_out": self.data["held_out"], "measures": measures}


@dataclass(frozen=True)
class Ranking:
    """Which run has the lowest loss on held-out rows, by its id, where that can be said; and what can be said."""

    best: str
    sentence: str


@dataclass(frozen=True)
class Compared:
    """Runs beside each other. `differing` holds a value for each run, in their order, for each setting that differs;
    the key "data" stands for what they learned from.
    """

    results: tuple[Result, ...]
    differing: Mapping[str, Sequence[Any]]
    ranking: Ranking

    def as_json(self) -> dict[str, Any]:
        """One object, as `--json` prints it."""
        return {"type": "compared", "runs": [one.as_json() for one in self.results],
                "differing": {name: list(values) for name, values in self.differing.items()},
                "best": self.ranking.best or None, "sentence": self.ranking.sentence}


def compared(runs: Sequence[Run], yardsticks: Yardsticks) -> Compared:
    """These runs as they are now; ValueError where they are too few or too many to be compared."""
    check_count(runs)
    results = tuple(map(result_of, runs))
    measured = [(one, run) for one, run in zip(results, runs, strict=True) if _counts(one)]
    rows = yardsticks.of([run for _, run in measured])
    on = {one.run: which for (one, _), which in zip(measured, rows, strict=True)}
    return Compared(results, differing(results), ranking(results, on))


def check_count(runs: Sequence[Run]) -> None:
    """ValueError where so many can't be compared; a group may be larger than what is picked by hand."""
    if len({run.id for run in runs}) != len(runs):
        raise ValueError("A run can't be compared with itself. Name each run once.")
    groups = {group.id if (group := group_of(run)) else "" for run in runs}
    most = MOST_RUNS if len(groups) == 1 and "" not in groups else MOST
    if not FEWEST <= len(runs) <= most:
        raise ValueError(f"{len(runs)} {'run is' if len(runs) == 1 else 'runs are'} named, and {FEWEST} to {MOST} can "
                         "be compared.")


def result_of(run: Run) -> Result:
    """One run, read from its folder."""
    state, course, evaluation, group = run.state(), run.course(), read_evaluation(run.folder), group_of(run)
    ending = course[-1].values if course and course[-1].type in ("finished", "stopped") else {}
    began = next((one.values for one in reversed(course) if one.type in ("started", "resumed")), {})
    last = next((one for one in reversed(course) if one.type == "step"), None)
    losses = losses_of(course)
    first, (loss_at, loss) = _before(losses), _after(losses, ending, course)
    return Result(
        run.id, run.config.name, state, run.config.settings(), run.about_data, losses,
        step=ending.get("steps", last.step if last else 0), steps=began.get("steps", 0),
        seconds=ending.get("seconds", last.values["seconds"] if last else None),
        tokens_per_second=last.values.get("tokens_per_second") if last else None,
        loss_before=_finite(ending.get("loss_before", first)), loss=loss, loss_at=loss_at,
        peak_bytes=ending.get("peak_bytes"), verdict=evaluation.verdict if evaluation and ending else "",
        measures=evaluation.comparisons if evaluation and ending else (), tried=group.tried if group else None)


def differing(results: Sequence[Result]) -> dict[str, list[Any]]:
    """The settings in which these runs differ, and no other, with each one's value."""
    found = {}
    about = [f"{one.data['name']}: {one.data['train']:,} and {one.data['held_out']:,} held out" for one in results]
    if len(set(about)) > 1:
        found["data"] = about
    for name in results[0].settings:
        values = [one.settings[name] for one in results]
        if name != "name" and any(value != values[0] for value in values):
            found[name] = values
    return found


def ranking(results: Sequence[Result], measured: Mapping[str, Measured]) -> Ranking:
    """Who won on held-out rows, from what each was `measured` on; nobody where these were not the same."""
    able = [one for one in results if _counts(one)]
    if len(able) < FEWEST:
        return Ranking("", _too_few(results, able))
    if len({measured[one.run].tokens for one in able}) > 1:
        return Ranking("", _why_not(able, measured))
    best = min(able, key=lambda one: one.loss)
    is_alone = sum(one.loss == best.loss for one in able) == 1
    said = (_won(best, able, results), _near(best, able), _too_few_rows(best), _without(results, able))
    return Ranking(best.run if is_alone else "", " ".join(filter(None, said)))


def rows_of(whole: Compared) -> list[tuple[str, list[str]]]:
    """What each run reached, as a table in words: a row's name, and a cell for each run, empty where it has none."""
    results = whole.results
    rows = [("Steps", [f"{one.step:,} of {one.steps:,}" if one.steps else "" for one in results]),
            ("Time", [_in_words(one.seconds, ",.1f", " s") for one in results]),
            ("Tokens per second", [_in_words(one.tokens_per_second, ",.0f") for one in results]),
            ("Held-out loss", [_loss(one, whole.ranking.best) for one in results]),
            ("Peak memory", [_in_words(one.peak_bytes and one.peak_bytes / GIBIBYTE, ".2f", " GB")
                             for one in results])]
    names = dict.fromkeys(one.measure for result in results for one in result.measures)
    rows += [(name, [_measure(result, name) for result in results]) for name in names]
    return [(name, cells) for name, cells in rows if any(cells)]


def _before(losses: Losses) -> float | None:
    return next((loss for step, loss in losses.held_out if step == 0), None)


def _after(losses: Losses, ending: Mapping[str, Any], course: Sequence[Event]) -> tuple[int, float | None]:
    """(step, held-out loss): the adapter's where there is one, else the newest after the first step."""
    if ending.get("loss") is not None:
        return ending.get("went_back_to", course[-1].step), _finite(ending["loss"])
    step, loss = next((one for one in reversed(losses.held_out) if one[0]), (0, None))
    return step, _finite(loss)


def _counts(one: Result) -> bool:
    """Whether it can win: it was measured on something, and there is an adapter or will be."""
    return one.loss is not None and one.data["held_out"] > 0 and one.state != "failed"


def _too_few(results: Sequence[Result], able: Sequence[Result]) -> str:
    if not any(one.data["held_out"] for one in results):
        return "None of these runs held conversations out, so nothing says which of them is better."
    many = f"{len(able)} of {len(results)} runs"
    if any(not one.is_over for one in results):
        return f"Held-out loss was measured in {many} so far. As soon as there are two, this says which is ahead."
    return f"Held-out loss was measured in {many}, so there is nothing to compare it with."


def _why_not(able: Sequence[Result], measured: Mapping[str, Measured]) -> str:
    """Why these runs can't be compared by loss."""
    if len({measured[one.run].rows for one in able}) > 1:
        sets: dict[str, list[Result]] = {}
        for one in able:
            sets.setdefault(measured[one.run].rows, []).append(one)
        parts = "; ".join(f"{_listed(some)} on {some[0].data['held_out']:,}" for some in sets.values())
        return ("These runs can't be compared by loss: they were measured on different held-out conversations "
                f"({parts}).")
    if len({one.settings["base"] for one in able}) > 1:
        why = "their bases divide the held-out conversations into different tokens"
    else:
        why = "their longest conversation (max_length) cuts the held-out ones in different places"
    return f"These runs can't be compared by loss: {why}."


def _won(best: Result, able: Sequence[Result], results: Sequence[Result]) -> str:
    on = f"on the same {best.data['held_out']:,} held-out conversations"
    over = sum(one.is_over for one in results)
    so_far = "" if over == len(results) else f"So far, with {over} of {len(results)} runs over, "
    at = "" if over == len(results) else f" at step {best.loss_at:,}"
    same = [one for one in able if one.loss == best.loss]
    if best.loss_before is not None and best.loss >= best.loss_before:
        none = "none of them does" if so_far else "None of them does"
        first = made_from(bool(best.settings["start_from"]))
        return (f"{so_far}{none} better than {first} {on}: the lowest loss is {best.name}'s, {best.loss:.4f}{at} "
                f"against {best.loss_before:.4f}.")
    verb = "has" if len(same) == 1 else "have"
    return f"{so_far}{_listed(same)} {verb} the lowest loss {on}: {best.loss:.4f}{at}."


def _near(best: Result, able: Sequence[Result]) -> str:
    """Whose loss is as good but for chance: `LEAST_RISE` is what the verdicts take for it."""
    near = [one for one in able if 0 < one.loss - best.loss <= LEAST_RISE * abs(best.loss)]
    if not near:
        return ""
    verb = "is" if len(near) == 1 else "are"
    return f"{_listed(near)} {verb} within {100 * LEAST_RISE:.0f} % of it, which may be chance."


def _too_few_rows(best: Result) -> str:
    """So few conversations say more about themselves than about the runs."""
    rows = best.data["held_out"]
    if rows >= FEWEST_ROWS:
        return ""
    return f"{rows} {'conversation is' if rows == 1 else 'conversations are'} too few to choose by."


def _without(results: Sequence[Result], able: Sequence[Result]) -> str:
    """Which runs that are over have nothing to compare."""
    counted = {one.run for one in able}
    rest = [one for one in results if one.run not in counted and one.is_over]
    if not rest:
        return ""
    verb = "has" if len(rest) == 1 else "have"
    return f"{_listed(rest)} {verb} no held-out loss to compare."


def _listed(some: Sequence[Result]) -> str:
    names = [one.name for one in some]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _loss(one: Result, best: str) -> str:
    if one.loss is None:
        return ""
    before = f"{one.loss_before:.4f} → " if one.loss_before is not None else ""
    at = "" if one.is_over and one.loss_at == one.step else f", step {one.loss_at:,}"
    return f"{before}{one.loss:.4f}{at}{f' {LOWEST}' if one.run == best else ''}"


def _measure(result: Result, name: str) -> str:
    one = next((one for one in result.measures if one.measure == name), None)
    if one is None:
        return ""
    return f"{one.before:.2f} → {one.adapter:.2f}, {one.difference:+.2f}{one.interval}"


def _in_words(value: float | None, form: str, unit: str = "") -> str:
    return "" if value is None else f"{value:{form}}{unit}"


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
