"""Runs beside each other in the terminal: `compare`, and a group of runs that `run --try` trains one after another."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from phi3.machine import studio_home
from phi3.terminal import say
from training import group, lease
from training.compare import LETTERS, Compared, compared, rows_of
from training.config import value_in_words
from training.measured import Yardsticks
from training.run import Run
from training.runs import Beginning, Runs
from training.runs_terminal import in_words, tell_interrupted

if TYPE_CHECKING:
    from adapters.library import Adapter
    from training.data import ChatData

SECONDS_BETWEEN_LOOKS = 1.0


def add_command(commands: Any) -> None:
    """`compare` among the other commands."""
    one = commands.add_parser("compare", help="runs beside each other: what differs, what each reached, which won")
    one.add_argument("runs", nargs="+", metavar="RUN", help="two to six ids, as `list` shows them, or one of a group's "
                     "runs for all of that group")
    one.add_argument("--json", action="store_true", help="print one object")
    one.set_defaults(do=_compare)


def add_try(run: argparse.ArgumentParser) -> None:
    """`--try` among the options of `run`."""
    run.add_argument("--try", dest="tries", action="append", metavar="SETTING=VALUE,VALUE", help="train one run for "
                     "each of these values, one after another, and compare them; twice: for each combination, "
                     f"{group.MOST_RUNS} runs at most; values that hold commas are separated by semicolons")


def tried_of(tries: Sequence[str]) -> dict[str, tuple[Any, ...]]:
    """The values of each setting that is to be tried; ValueError where one says something else."""
    tried: dict[str, tuple[Any, ...]] = {}
    for said in tries:
        name, is_said, values = said.partition("=")
        if not is_said:
            raise ValueError(f"--try {said} names no values. Write it as --try learning_rate=1e-4,3e-4.")
        if name.strip() in tried:
            raise ValueError(f"--try names {name.strip()} twice. Give all its values at once.")
        tried[name.strip()] = group.values_of(name.strip(), values)
    return tried


def train_group(members: Sequence[group.Member], rows: ChatData, start: Adapter | None, as_json: bool) -> int:
    """Train a run for each member, one after another, each in a process of its own, so that one that fails takes no
    other with it and each one's memory is measured by itself. Ctrl-C stops the run after its step and begins no more.

    ValueError before any is begun where a name is taken or another run is going; 2 where one of them didn't end well.
    """
    runs = Runs(studio_home())
    named = group.named(members, rows, runs, [])
    rows = group.on_one_side(rows, named[0].config)
    trained: list[Run] = []
    with _Interrupts() as interrupts:
        for one in named:
            _wait_for_others(runs, trained, interrupts, as_json)
            if interrupts.count:
                break
            goes = "beside others" if trained else "alone"
            run = runs.create(one.config, rows, beginning=Beginning(goes, start, asdict(one.group)))
            trained.append(run)
            _tell(f"{one.group.place} of {one.group.of}: {run.config.name}, {group.in_words(one.group.tried)}", as_json)
            _follow(run, interrupts, as_json)
            if interrupts.count:
                break
    return _told_at_the_end(trained, as_json)


class _Interrupts:
    """Ctrl-C while a group is trained: the first stops the run after its step, a second one at once."""

    def __init__(self) -> None:
        self.count = 0
        self.run: Run | None = None

    def __enter__(self) -> _Interrupts:
        self._usual = signal.signal(signal.SIGINT, self._interrupted)
        return self

    def __exit__(self, *problem: object) -> None:
        signal.signal(signal.SIGINT, self._usual)

    def _interrupted(self, number: int, frame: object) -> None:
        self.count += 1
        if self.count > 1 or self.run is None:
            raise KeyboardInterrupt
        self.run.ask_to_stop()
        print("Stopping after this step; what was learned is kept, and no other run begins. Ctrl-C again stops at "
              "once.", file=sys.stderr)


def _follow(run: Run, interrupts: _Interrupts, as_json: bool) -> None:
    """Train one run and tell what happens, until it rests."""
    interrupts.run, process = run, lease.start(run)
    try:
        if interrupts.count:  # it came while the run was made
            run.ask_to_stop()
        for event in run.follow():
            _tell(in_words(event), as_json)
    except BaseException:
        tell_interrupted(run)
        process.kill()
        process.wait()
        raise
    process.wait()
    if as_json:
        say(run.last_event().to_json())


def _told_at_the_end(trained: Sequence[Run], as_json: bool) -> int:
    """The comparison of what was trained, and in which status that ends."""
    if len(trained) > 1:
        if not as_json:
            print()
        _print(compared(trained, Yardsticks()), as_json)
    states = [(run, run.state()) for run in trained]
    for run, state in states:
        if state == "failed":
            print(f"{run.config.name}: {in_words(run.last_event())}", file=sys.stderr)
        elif state not in ("finished", "stopped"):
            print(f"{run.config.name} is {state}. To go on: python -m training resume {run.id}", file=sys.stderr)
    return 0 if all(state in ("finished", "stopped") for _, state in states) else 2


def _wait_for_others(runs: Runs, trained: Sequence[Run], interrupts: _Interrupts, as_json: bool) -> None:
    """The page may have begun a run between two of these."""
    if not trained:
        return
    if going := runs.going():
        _tell(f"Waiting until {going.id} has ended.", as_json)
    while runs.going() and not interrupts.count:
        time.sleep(SECONDS_BETWEEN_LOOKS)


def _compare(asked: argparse.Namespace) -> int:
    runs = Runs(studio_home())
    named = [runs.get(one) for one in asked.runs]
    whole = group.group_of(named[0]) if len(named) == 1 else None
    if whole:
        named = group.runs_of(whole.id, runs.all())
    _print(compared(named, Yardsticks()), asked.json)
    return 0


def _print(whole: Compared, as_json: bool) -> None:
    print(json.dumps(whole.as_json(), ensure_ascii=False) if as_json else "\n".join(told(whole)), flush=True)


def _tell(words: str, as_json: bool) -> None:
    if words and not as_json:
        say(words)


def told(whole: Compared) -> Iterator[str]:
    """Both tables, the verdicts and the winner, as lines."""
    heads = [f"{letter} {one.name}" for letter, one in zip(LETTERS, whole.results, strict=False)]
    differing = [(name, [value_in_words(value) for value in values]) for name, values in whole.differing.items()]
    yield from _table("What differs", heads, differing or [("Nothing: the settings are the same", [""] * len(heads))])
    yield ""
    yield from _table("What each reached", heads, [("State", [one.state for one in whole.results]), *rows_of(whole)])
    yield ""
    yield from (f"{letter}: {one.verdict}" for letter, one in zip(LETTERS, whole.results, strict=False) if one.verdict)
    yield whole.ranking.sentence


def _table(title: str, heads: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> Iterator[str]:
    """Columns as wide as they need to be."""
    lines = [(title, heads), *rows]
    first = max(len(name) for name, _ in lines)
    widths = [max(len(cells[place]) for _, cells in lines) for place in range(len(heads))]
    for name, cells in lines:
        yield "  ".join((f"{name:{first}}", *(f"{cell:{width}}" for cell, width in
                                              zip(cells, widths, strict=True)))).rstrip()
