"""Does a run take the memory and the time that its plan says? `python -m benchmarks.plan`.

The machine's speed is learned first, from runs with other settings than those that are then predicted; what is learned
from these is forgotten again before the next one.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.report import table, write
from phi3.machine import studio_home
from training.speed import FILE

GIGABYTE = 1024**3
Settings = dict[str, tuple[int, dict[str, Any]]]
# Tokens of a conversation (median), and settings. What a visitor may have trained here before:
LEARNED_FROM: Settings = {
    "learning: brief": (40, {"per_device_train_batch_size": 4}),
    "learning: long": (500, {"per_device_train_batch_size": 4}),
    "learning: checkpointing": (160, {"gradient_checkpointing": True}),
    "learning: qlora": (120, {"method": "qlora"}),
}
# What a plan's terms depend on, one after another:
CASES: Settings = {
    "short": (60, {}),
    "middle": (250, {}),
    "long, small batch": (900, {"per_device_train_batch_size": 2}),
    "long, checkpointing": (900, {"per_device_train_batch_size": 4, "gradient_checkpointing": True}),
    "large batch": (120, {"per_device_train_batch_size": 24}),
    "high rank": (120, {"r": 128}),
    "two layers adapted": (250, {"target_modules": "qkv_proj, o_proj"}),
    "no dropout": (250, {"lora_dropout": 0.0}),
    "qlora, short": (60, {"method": "qlora"}),
    "qlora, middle": (250, {"method": "qlora"}),
    "dora, short": (60, {"use_dora": True}),
    "dora, middle": (250, {"use_dora": True}),
    "dora, long, checkpointing": (900, {"use_dora": True, "per_device_train_batch_size": 4,
                                        "gradient_checkpointing": True}),
    "dora, no dropout": (250, {"use_dora": True, "lora_dropout": 0.0}),
    "dora, high rank": (120, {"use_dora": True, "r": 128}),
    "dora, qlora": (120, {"use_dora": True, "method": "qlora"}),
}
WORDS = ["the", "sea", "is", "far", "and", "a", "ship", "goes", "near", "when", "black", "water", "moon"]


@dataclass(frozen=True)
class Case:
    """One setting's figures, medians of the repeats; ratios are actual / planned, noise is (most - least) / median."""

    name: str
    planned_seconds: float
    seconds: float
    time_ratio: float
    noise: float
    planned_gigabytes: float
    gigabytes: float
    memory_ratio: float


def main() -> int:
    """Run each case, compare, print and write the JSON."""
    asked = _asked()
    with tempfile.TemporaryDirectory() as home:
        os.environ["STUDIO_HOME"] = home
        for name in LEARNED_FROM:
            _run(name, LEARNED_FROM[name], asked)
        learned = (Path(home) / FILE).read_text(encoding="utf-8")
        ends: dict[str, list[dict[str, Any]]] = {name: [] for name in CASES}
        for name in list(CASES) * asked.repeats:  # what changes in between is noise of every case
            (Path(home) / FILE).write_text(learned, encoding="utf-8")
            ends[name].append(_run(name, CASES[name], asked))
    cases = [_case(name, some) for name, some in ends.items()]
    print(table(list(asdict(cases[0])), [list(asdict(case).values()) for case in cases]))
    ratios = {part: [getattr(case, part) for case in cases] for part in ("time_ratio", "memory_ratio")}
    summary = {part: {"median": round(statistics.median(abs(ratio - 1) for ratio in some), 3),
                      "worst": round(max(abs(ratio - 1) for ratio in some), 3)} for part, some in ratios.items()}
    print(f"Off by: {summary}")
    write("plan", {"steps": asked.steps, "repeats": asked.repeats, "cases": [asdict(case) for case in cases],
                   "off_by": summary}, asked.out)
    return 0


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plan", description=__doc__)
    parser.add_argument("--base", default="phi3/tiny")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, help="folder for the JSON")
    return parser.parse_args()


def _case(name: str, ends: list[dict[str, Any]]) -> Case:
    planned, seconds, planned_peak, peak = (statistics.median(end[part] for end in ends) for part in (
        "planned_seconds", "seconds", "planned_peak_bytes", "peak_bytes"))
    spread = max(end["seconds"] for end in ends) - min(end["seconds"] for end in ends)
    return Case(name, round(planned, 1), round(seconds, 1), round(seconds / planned, 2), round(spread / seconds, 2),
                round(planned_peak / GIGABYTE, 2), round(peak / GIGABYTE, 2), round(peak / planned_peak, 2))


def _run(name: str, case: tuple[int, dict[str, Any]], asked: argparse.Namespace) -> dict[str, Any]:
    """One run in a process of its own; its last event."""
    tokens, settings = case
    rows = studio_home() / f"{tokens}.jsonl"
    _write_rows(rows, tokens)
    command = [sys.executable, "-m", "training", "run", "--data", str(rows), "--base", asked.base, "--json",
               "--max_steps", str(asked.steps), "--save_steps", "100000",
               *(part for key, value in settings.items() for part in (f"--{key}", str(value)))]
    ran = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    end = json.loads(ran.stdout.splitlines()[-1])
    print(f"{name}: {end['planned_seconds']} s planned, {end['seconds']} s taken", file=sys.stderr, flush=True)
    return end


def _write_rows(path: Path, tokens: int, count: int = 120) -> None:
    """Conversations of log-normal length around so many tokens, in words that are a token each."""
    rng = Random(tokens)
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = []
    for _ in range(count):
        words = max(4, min(round(rng.lognormvariate(0, 0.4) * tokens), 1000) - 12)
        said = [" ".join(rng.choices(WORDS, k=part)) for part in (words // 4, words - words // 4)]
        lines.append(json.dumps({"messages": [{"role": "user", "content": said[0]},
                                              {"role": "assistant", "content": said[1]}]}))
    path.write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
