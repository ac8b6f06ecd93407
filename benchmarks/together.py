"""What does whoever else computes cost a run, or an answer? `python -m benchmarks.together`.

GNU OpenMP's threads spin while they wait for each other, for milliseconds if nobody says otherwise. On a machine whose
cores are all taken they then wait for a thread that can't run because they do. Here the same is done alone and in
company, with the library's own patience and with the app's: one run beside another, and answers beside a run.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.report import spread, write
from phi3 import SPINS

# What GNU OpenMP takes where nothing is said (libgomp's manual, GOMP_SPINCOUNT), and what the app says.
PATIENCE = {"OpenMP's own": "300000", "the app's": SPINS}
EXAMPLE = "pirate"
ANSWERS = "from benchmarks.together import answers; print(answers())"


def main() -> int:
    """Measure both ways in turns, print, write the JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.together", description=__doc__)
    parser.add_argument("--steps", type=int, default=12, help="of each run (default 12)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, help="folder for the JSON")
    asked = parser.parse_args()
    took: dict[tuple[str, str], list[float]] = {}
    for _ in range(asked.repeats):
        for name, spins in PATIENCE.items():
            for what, figure in _once(spins, asked.steps).items():
                took.setdefault((name, what), []).append(figure)
    write("together", spread("patience", took, 1), asked.out)
    return 0


def answers() -> float:
    """Milliseconds that a token of an answer takes in the median, with one adapter, in this process."""
    from adapters.library import SHIPPED_FOLDER
    from phi3.generate import Answerer, Lane, Sampling
    from phi3.models import EMBEDDED, load_base

    answerer = Answerer(load_base(EMBEDDED, None, "cpu"))
    question = ({"role": "user", "content": "Tell me a story."},)
    lanes = [Lane(question, str(SHIPPED_FOLDER / EXAMPLE), Sampling(max_new_tokens=60))]
    each = []
    for _ in range(12):
        began = time.perf_counter()
        *_, (last,) = answerer.answer(lanes)
        each.append((time.perf_counter() - began) / last.tokens * 1e3)
    return statistics.median(each[2:])


def _once(spins: str, steps: int) -> dict[str, float]:
    environment = {**os.environ, "GOMP_SPINCOUNT": spins}
    with tempfile.TemporaryDirectory() as folder:
        runs = [_Run(Path(folder) / str(number), steps, environment) for number in range(3)]
        alone = runs[0].begin().seconds()
        pair = [run.begin() for run in runs[1:]]
        together = max(run.seconds() for run in pair)
        company = _Run(Path(folder) / "company", 40 * steps, environment).begin()
        _wait_for_the_first_step(company)
        beside = float(_said(environment))
        company.end()
        return {"a run alone, s": alone, "two runs at once, s": together,
                "a token alone, ms": float(_said(environment)), "a token beside a run, ms": beside}


class _Run:
    """A run of the terminal's, in a studio of its own."""

    def __init__(self, home: Path, steps: int, environment: dict[str, str]) -> None:
        self.home = home
        self._command = [sys.executable, "-m", "training", "run", "--data", EXAMPLE, "--max_steps", str(steps),
                         "--save_steps", "100000", "--eval_steps", "100000"]
        self._environment = {**environment, "STUDIO_HOME": str(home)}

    def begin(self) -> "_Run":
        self._began = time.perf_counter()
        self._process = subprocess.Popen(self._command, env=self._environment, stdout=subprocess.DEVNULL,
                                         stderr=subprocess.DEVNULL)
        return self

    def seconds(self) -> float:
        """Until it is done."""
        if self._process.wait():
            raise RuntimeError(f"A run failed; look into {self.home}.")
        return time.perf_counter() - self._began

    def end(self) -> None:
        self._process.terminate()
        self._process.wait()


def _wait_for_the_first_step(run: _Run) -> None:
    """Wait until the run is training; RuntimeError where it isn't after two minutes."""
    from training.runs import Runs

    ends = time.monotonic() + 120
    while time.monotonic() < ends:
        if any(event.step for one in Runs(run.home).all() for event in one.events()):
            return
        time.sleep(0.2)
    raise RuntimeError("The run beside the answers never began.")


def _said(environment: dict[str, str]) -> str:
    return subprocess.run([sys.executable, "-c", ANSWERS], env=environment, capture_output=True, text=True,
                          check=True).stdout.strip().splitlines()[-1]


if __name__ == "__main__":
    sys.exit(main())
