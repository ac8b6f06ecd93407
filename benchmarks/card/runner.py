"""Parts one after another, most worth first, each in a process of its own, within the minutes that there are."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    on two processor cores.
    """

    name: str
    module: str
    seconds: float
    rehearsed: float

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
    found = _ran(rates.module, order, min(ends, time.time() + rates.expected(order.small)), lambda found: None)
    report.begin({**machine, "minutes": order.minutes, "rates": found.figures})
    for part in parts:
        if (not order.only or part.name in order.only) and not report.is_done(part.name):
            _run(part, order, ends, report)
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


def _run(part: Part, order: Order, ends: float, report: Report) -> None:
    expected, left = part.expected(order.small), ends - time.time()
    if expected > left:
        report.put(part.name, "not run", figures=[], reason=f"It takes about {expected:.0f} s, and "
                   f"{max(0.0, left):.0f} s were left. --resume runs it.")
        return
    allowed = min(left, PATIENCE * expected + GRACE_SECONDS)

    def so_far(found: _Found) -> None:
        report.put(part.name, "failed", reason="It was still running when this was written.", **found.values())

    print(f"{part.name}: about {expected:.0f} s", flush=True)
    found = _ran(part.module, order, time.time() + allowed, so_far)
    status, reason = _judged(found, allowed)
    print(f"{part.name}: {status} after {found.seconds:.0f} s, {len(found.figures)} figures. {reason}".strip(),
          flush=True)
    report.put(part.name, status, **({"reason": reason} if reason else {}), **found.values())


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


def _ran(module: str, order: Order, until: float, so_far: Any) -> _Found:
    """The part's process from its beginning to its end, or until it has to be ended with all that it began."""
    file = order.work / SAID / f"{module.rsplit('.', 1)[-1]}.jsonl"
    file.write_text("", encoding="utf-8")
    given = json.dumps({"work": str(order.work.resolve()), "small": order.small, "until": until})
    began, seen = time.monotonic(), 0
    with file.with_suffix(".log").open("w+b") as log:
        # A group of its own, so that what it began ends with it; the same session, so that it ends with its terminal.
        process = subprocess.Popen([sys.executable, "-m", "benchmarks.card.alone", module, str(file), given], cwd=ROOT,
                                   stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, process_group=0,
                                   env=_environment(order))
        try:
            while (code := process.poll()) is None and time.time() < until:
                if file.stat().st_size > seen:
                    seen = file.stat().st_size
                    so_far(_found(file, time.monotonic() - began, None))
                time.sleep(SECONDS_BETWEEN_LOOKS)
        finally:
            _end_group(process)
        log.seek(0)
        words = log.read().decode("utf-8", errors="replace")[-LAST_WORDS:].strip()
    return _found(file, time.monotonic() - began, code, words)


def _environment(order: Order) -> dict[str, str]:
    """A rehearsal shows that everything runs, not how fast: with one thread it takes as long beside others as alone."""
    return {**os.environ, "TOKENIZERS_PARALLELISM": "false", **({"OMP_NUM_THREADS": "1"} if order.small else {})}


def _end_group(process: subprocess.Popen) -> None:
    """End whatever is left of the part and of what it began."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


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
