"""Parts one after another, most worth first, each in a process of its own, within the minutes that there are."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.card.bench import ROOT
from benchmarks.card.report import Report, Values, is_well

# A part may take so many times what it was thought to take, and this much more, before it is ended.
PATIENCE, GRACE_SECONDS = 2.0, 20.0
SECONDS_BETWEEN_LOOKS = 0.2
LAST_WORDS = 2000
# In the work's folder: what each part's process said, a line a figure, and printed.
SAID = "said"


@dataclass(frozen=True)
class Part:
    """`module` has SECTIONS; `seconds` is what it takes at full size on a large card, and `rehearsed` in a rehearsal
    on two processor cores. One that `shares` the card measures no speed, and runs beside the others that do so.
    """

    name: str
    module: str
    seconds: float
    rehearsed: float
    shares: bool = False

    def expected(self, small: bool) -> float:
        """Seconds that it will take, as far as is known."""
        return self.rehearsed if small else self.seconds


# What this machine can do at most; no part of the report's own, but what it begins with.
RATES = Part("rates", "benchmarks.card.rates", 60, 60)


@dataclass(frozen=True)
class Order:
    """What was asked for: how long, where the work lies, whether it is a rehearsal, and which parts (none named: all).
    """

    minutes: float
    work: Path
    small: bool = False
    only: tuple[str, ...] = ()


def proved(parts: Sequence[Part], order: Order, report: Report, machine: Values, rates: Part = RATES) -> bool:
    """Run what there is time for and the report hasn't as done, and write it after every figure; whether nothing
    failed. `machine` is what the report says of it, before its rates are measured.
    """
    ends = time.time() + 60 * order.minutes
    (order.work / SAID).mkdir(parents=True, exist_ok=True)
    measured = _Running(rates, order, min(ends, time.time() + rates.expected(order.small)))
    _until_done([measured], lambda running, found: None)
    report.begin({**machine, "minutes": order.minutes, "rates": measured.found().figures})
    wanted = [part for part in parts
              if (not order.only or part.name in order.only) and not report.is_done(part.name)]
    # A rehearsal's parts have one thread each, and two cores.
    shared = [] if order.small else [part for part in wanted if part.shares]
    for some in (shared, *([part] for part in wanted if part not in shared)):
        _run(some, order, ends, report)
    return is_well(report.parts())


@dataclass(frozen=True)
class _Found:
    """What a part has said. `seconds` since it began; `code` is its exit status, None where it was ended or goes on."""

    figures: list[Values]
    left_out: list[Values]
    tracebacks: list[Values]
    seconds: float
    code: int | None
    log: str = ""

    def values(self) -> Values:
        """As the report keeps it."""
        more = {"left_out": self.left_out, "tracebacks": self.tracebacks}
        return {"seconds": round(self.seconds, 1), "figures": self.figures,
                **{name: value for name, value in more.items() if value}}


def _run(parts: Sequence[Part], order: Order, ends: float, report: Report) -> None:
    """All of these at once, as far as there is time for each."""
    begun: list[_Running] = []
    for part in parts:
        expected, left = part.expected(order.small), ends - time.time()
        if expected > left:
            report.put(part.name, "not run", figures=[], reason=f"It takes about {expected:.0f} s, and "
                       f"{max(0.0, left):.0f} s were left. --resume runs it.")
            continue
        print(f"{part.name}: about {expected:.0f} s", flush=True)
        begun.append(_Running(part, order, time.time() + min(left, PATIENCE * expected + GRACE_SECONDS)))

    def told(running: _Running, found: _Found) -> None:
        if not running.is_over:
            report.put(running.part.name, "failed", reason="It was still running when this was written.",
                       **found.values())
            return
        status, reason = _judged(found, running.allowed)
        print(f"{running.part.name}: {status} after {found.seconds:.0f} s, {len(found.figures)} figures. "
              f"{reason}".strip(), flush=True)
        report.put(running.part.name, status, **({"reason": reason} if reason else {}), **found.values())

    _until_done(begun, told)


def _judged(found: _Found, allowed: float) -> tuple[str, str]:
    """(status, why it is so)."""
    if found.code is None:
        return "failed", (f"It was ended after {found.seconds:.0f} s: it could have {allowed:.0f} s. What it said "
                          "until then is kept.")
    if found.tracebacks:
        return "failed", f"It failed in: {', '.join(one['section'] for one in found.tracebacks)}."
    if found.code < 0:
        return "failed", f"It was ended by {_signal(-found.code)} (out of memory?). {found.log}"
    if found.code:
        return "failed", f"It ended with code {found.code}. {found.log}"
    if found.figures:
        return "done", ""
    if found.left_out:
        return "not run", f"{'; '.join(sorted({one['reason'] for one in found.left_out}))}."
    return "failed", "It gave no figure."


def _signal(number: int) -> str:
    return signal.Signals(number).name


class _Running:
    """A part's process, and what it has said so far."""

    def __init__(self, part: Part, order: Order, until: float) -> None:
        self.part, self.allowed, self.is_over = part, until - time.time(), False
        self._until, self._began, self._seconds = until, time.monotonic(), 0.0
        self._seen = 0
        self._file = order.work / SAID / f"{part.module.rsplit('.', 1)[-1]}.jsonl"
        self._file.write_text("", encoding="utf-8")
        given = json.dumps({"work": str(order.work.resolve()), "small": order.small, "until": until})
        with self._log.open("wb") as log:
            # A group of its own, so that what it began ends with it; the same session, so that it ends with its
            # terminal.
            self._process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.card.alone", part.module, str(self._file), given], cwd=ROOT,
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, process_group=0,
                env=_environment(order))
        self._code: int | None = None

    def look(self) -> bool:
        """Whether there is something new: a figure, or its end, which comes at the latest when its time is over."""
        self._code = self._process.poll()
        if self._code is not None or time.time() >= self._until:
            self.end()
            return True
        size = self._file.stat().st_size
        is_new, self._seen = size > self._seen, size
        return is_new

    def end(self) -> None:
        """End whatever is left of it and of what it began."""
        self.is_over, self._seconds = True, time.monotonic() - self._began
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def found(self) -> _Found:
        """What it has said."""
        seconds = self._seconds or time.monotonic() - self._began
        words = self._log.read_text(encoding="utf-8", errors="replace")[-LAST_WORDS:].strip()
        return _found(self._file, seconds, self._code, words)

    @property
    def _log(self) -> Path:
        return self._file.with_suffix(".log")


def _until_done(parts: Sequence[_Running], told: Callable[[_Running, _Found], None]) -> None:
    """Watch these until each has ended; whenever one has something new it is told."""
    left = list(parts)
    try:
        while left:
            for running in [one for one in left if one.look()]:
                told(running, running.found())
            left = [one for one in left if not one.is_over]
            time.sleep(SECONDS_BETWEEN_LOOKS if left else 0)
    finally:
        for running in left:
            running.end()


def _environment(order: Order) -> dict[str, str]:
    """A rehearsal shows that everything runs, not how fast: with one thread it takes as long beside others as alone."""
    return {**os.environ, "TOKENIZERS_PARALLELISM": "false", **({"OMP_NUM_THREADS": "1"} if order.small else {})}


def _found(file: Path, seconds: float, code: int | None, log: str = "") -> _Found:
    """What the part has written; a figure that it gave again under the same name takes the first one's place."""
    figures: dict[str, Values] = {}
    left_out, tracebacks = [], []
    for line in file.read_text(encoding="utf-8").split("\n")[:-1]:
        told = json.loads(line)
        if "figure" in told:
            figures[told["figure"]["name"]] = told["figure"]
        elif "left_out" in told:
            left_out.append({"section": told["section"], "reason": told["left_out"]})
        elif "traceback" in told:
            tracebacks.append({"section": told["section"], "traceback": told["traceback"]})
    return _Found(list(figures.values()), left_out, tracebacks, seconds, code, log)
