"""How long does the page take for a question and from Start to first words? `python -m benchmarks.page`.

What looking on costs is measured too. The app runs on this machine, and a headless Chromium beside it, so both share
its cores: what is measured is what a visitor of a clone waits for. A question goes to two lanes; then nothing happens;
then a run is looked at that somebody trains; then somebody reads the first page for a while, presses
Start, and waits for the run's first words. "Busy" is the share of a second that the browser's main thread, or the app's
process, works for.
With `--beside FOLDER` another copy of this project takes turns with this one. It needs what `tests/requirements.txt`
names, and a Chromium.
"""

from __future__ import annotations

import argparse
import re
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from playwright.sync_api import Browser, Page, sync_playwright

from benchmarks.report import spread, write
from tests.browser import ROOT, App, ask, launched, running_app
from tests.staged import StagedRun

LANES = "?adapter=base&adapter=pirate"
WARM = "Who are you?"
STEPS_A_SECOND = 4

Figures = dict[str, list[float]]


def main() -> int:
    """Measure each copy in turns, print, write the JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.page", description=__doc__)
    parser.add_argument("--questions", type=int, default=6, help="in each turn (default 6)")
    parser.add_argument("--seconds", type=float, default=10, help="of looking on, each time (default 10)")
    parser.add_argument("--reading", type=float, default=15, help="seconds from the page to Start (default 15)")
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--beside", type=Path, help="another copy of this project")
    parser.add_argument("--out", type=Path, help="folder for the JSON")
    asked = parser.parse_args()
    copies = {"this one": ROOT, **({"the other one": asked.beside.resolve()} if asked.beside else {})}
    found: dict[tuple[str, str], list[float]] = {}
    with sync_playwright() as playwright:
        browser = launched(playwright)
        for _ in range(asked.turns):
            for name, root in copies.items():
                for what, figures in _one_turn(browser, root, asked).items():
                    found.setdefault((name, what), []).extend(figures)
        browser.close()
    write("page", spread("copy", found, 2), asked.out)
    return 0


def _one_turn(browser: Browser, root: Path, asked: argparse.Namespace) -> Figures:
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        with running_app(home, home / "log", root=root) as app:
            page = app.open(browser, LANES)
            clock = _Clock(page, app)
            _answered(page, WARM)
            figures = _asked(page, clock, asked.questions)
            page.wait_for_timeout(1000)
            figures |= _looked("nothing happens", clock, page, asked.seconds)
            page.close()
            with _trained(home) as run_id:
                page = app.open(browser, f"?run={run_id}")
                page.locator("#run-bar").wait_for()
                page.wait_for_timeout(1000)
                figures |= _looked("a run is looked at", _Clock(page, app), page, asked.seconds)
                page.close()
            figures |= _started(app.open(browser), asked.reading)
        return figures


class _Clock:
    """How long the browser's main thread and the app's process have worked."""

    def __init__(self, page: Page, app: App) -> None:
        self._session = page.context.new_cdp_session(page)
        self._session.send("Performance.enable")
        self._app = psutil.Process(app.process.pid)
        self._began = self._now()

    def since(self) -> tuple[float, float, float]:
        """Seconds of a clock, of the browser and of the app since the last call."""
        before, self._began = self._began, self._now()
        clock, browser, app = (now - then for now, then in zip(self._began, before, strict=True))
        return clock, browser, app

    def _now(self) -> tuple[float, float, float]:
        metrics = {one["name"]: one["value"] for one in self._session.send("Performance.getMetrics")["metrics"]}
        used = self._app.cpu_times()
        return time.perf_counter(), metrics["TaskDuration"], used.user + used.system


def _answered(page: Page, question: str) -> None:
    """Ask both lanes, and wait until nothing goes on; `expect` would look too seldom for a clock."""
    ask(page, question)
    for letter in "AB":
        page.locator(f"#newest-{letter} .question", has_text=question).wait_for()
        page.locator(f"#newest-{letter} .by", has_text="per second").wait_for()
    page.locator("#send").wait_for(state="visible")


def _asked(page: Page, clock: _Clock, questions: int) -> Figures:
    figures: Figures = {}
    for number in range(questions):
        clock.since()
        _answered(page, f"How much is {number} plus {number + 2}?")
        took, browser, app = clock.since()
        for what, figure in (("a question, seconds", took), ("a question, seconds of the browser", browser),
                             ("a question, seconds of the app", app), ("tokens per second, as told", _told(page))):
            figures.setdefault(what, []).append(figure)
    return figures


def _told(page: Page) -> float:
    """Tokens per second, as the two lanes tell of their newest answers."""
    words = " ".join(page.locator(f"#newest-{letter} .by").inner_text() for letter in "AB")
    return statistics.mean(float(one.replace(",", "")) for one in re.findall(r"([\d,]+) tokens? per second", words))


def _looked(what: str, clock: _Clock, page: Page, seconds: float) -> Figures:
    clock.since()
    page.wait_for_timeout(1000 * seconds)
    took, browser, app = clock.since()
    return {f"{what}, browser busy": [browser / took], f"{what}, app busy": [app / took]}


def _started(page: Page, reading: float) -> Figures:
    """From Start to what the run says first; then it is stopped."""
    page.wait_for_timeout(1000 * reading)
    began = time.perf_counter()
    page.locator("#start").click()
    page.locator("#says-now article").first.wait_for()
    took = time.perf_counter() - began
    page.locator("#stop-run").click()
    page.locator(".outcome").wait_for()
    page.close()
    return {"from Start to the first words, seconds": [took]}


@contextmanager
def _trained(home: Path) -> Iterator[str]:
    """A run of so many steps a second, which costs nothing: its id."""
    staged, over = StagedRun(home, name="looked-at"), threading.Event()

    def train() -> None:
        step = 20
        while not over.wait(1 / STEPS_A_SECOND):
            step += 1
            staged.train(step, step, steps=10_000)

    with staged.held():
        staged.begin(steps=10_000)
        staged.train(1, 20, steps=10_000)
        training = threading.Thread(target=train)
        training.start()
        try:
            yield staged.run.id
        finally:
            over.set()
            training.join()


if __name__ == "__main__":
    raise SystemExit(main())
