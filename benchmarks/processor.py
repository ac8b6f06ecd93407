"""Does Phi-3-mini itself answer and learn without a card? `python -m benchmarks.processor`."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.card.base import base_in, make_chats
from benchmarks.chat import QUESTION
from benchmarks.report import table, write
from phi3.machine import GIBIBYTE

PRECISIONS = ("fp32", "bf16")
LANES = (1, 4)


def main() -> int:
    """Measure each arm in a process of its own, print, write; 24 GB of memory for float32, 16 for the others."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.processor", description=__doc__)
    parser.add_argument("--work", type=Path, help="folder for the random base (8 GB), which is kept there; default: a "
                                                  "temporary one")
    parser.add_argument("--small", action="store_true", help="a base of a hundredth of the size: shows what breaks")
    parser.add_argument("--without", nargs="+", default=[], choices=(*PRECISIONS, "lora", "qlora"))
    parser.add_argument("--tokens", type=int, default=12, help="of each answer (default 12)")
    parser.add_argument("--steps", type=int, default=6, help="of each training (default 6)")
    parser.add_argument("--rows", type=int, default=60, help="conversations, of about 90 tokens (default 60)")
    parser.add_argument("--out", type=Path, help="folder for the JSON")
    parser.add_argument("--arm", choices=PRECISIONS, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.arm:
        print(json.dumps(_answered(base_in(asked.work, asked.small), asked.arm, asked.tokens)))
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        work = asked.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        base = base_in(work, asked.small)
        answers = [_in_a_process(work, asked, precision) for precision in PRECISIONS if precision not in asked.without]
        trainings = [_trained(base, Path(temporary) / method, asked, method) for method in ("lora", "qlora")
                     if method not in asked.without]
    figures = {"answers": answers, "training": trainings}
    _print(figures)
    write("processor", figures, asked.out)
    return 0


def _in_a_process(work: Path, asked: argparse.Namespace, precision: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.processor", "--arm", precision, "--work", str(work),
               "--tokens", str(asked.tokens), *(["--small"] if asked.small else [])]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()[-1])


def _answered(folder: Path, precision: Any, tokens: int) -> dict[str, Any]:
    """Load the base and answer, as the app does: seconds, and GiB at most, of which `own` is not the file's."""
    from benchmarks.report import quietly
    from phi3.generate import Answerer, Lane, Sampling
    from phi3.models import load_base

    quietly()
    loaded, answerer = _timed(lambda: Answerer(replace(load_base(str(folder), precision, "cpu"), stop_tokens=())))
    told: dict[str, Any] = {"precision": precision, "seconds to load": loaded}
    for count in LANES:
        lane = Lane(({"role": "user", "content": QUESTION},), None, Sampling(max_new_tokens=tokens))
        stream = answerer.answer([lane] * count)
        first, _ = _timed(lambda stream=stream: next(stream))
        rest, _ = _timed(lambda stream=stream: list(stream))
        told |= {f"{count} lanes, first token": first, f"{count} lanes, seconds a token": rest / (tokens - 1)}
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines())
    for name, field in (("GiB at most", "VmHWM"), ("GiB of its own", "RssAnon")):
        told[name] = int(status[field].split()[0]) * 1024 / GIBIBYTE
    return told


def _timed(act: Callable[[], Any]) -> tuple[float, Any]:
    began = time.monotonic()
    found = act()
    return time.monotonic() - began, found


def _trained(base: Path, home: Path, asked: argparse.Namespace, method: str) -> dict[str, Any]:
    """A short run in the terminal, beside its plan."""
    from training.runs import Runs

    data = make_chats(home / "chats.jsonl", 90, asked.rows)
    command = [sys.executable, "-m", "training", "run", "--data", str(data), "--base", str(base), "--method", method,
               "--max_steps", str(asked.steps), "--eval_steps", str(asked.steps), "--name", method,
               "--per_device_train_batch_size", "4"]
    subprocess.run(command, env={**os.environ, "STUDIO_HOME": str(home)}, stdout=subprocess.DEVNULL, check=True)
    run, = Runs(home).all()
    plan = json.loads((run.folder / "plan.json").read_text(encoding="utf-8"))
    steps = [event.values for event in run.events() if event.type == "step"]
    end = run.events()[-1].values
    seconds = steps[-1]["seconds"] - steps[0]["seconds"]
    return {"method": method, "precision": plan["precision"], "made whole": plan["expanded"],
            "blocks computed twice": plan["recomputed"], "tokens a step": plan["batches"]["tokens"] / asked.steps,
            "seconds a step": seconds / (len(steps) - 1), "seconds": end["seconds"],
            "planned seconds": end["planned_seconds"], "GiB at most": end["peak_bytes"] / GIBIBYTE,
            "planned GiB": end["planned_peak_bytes"] / GIBIBYTE, "loss before": end["loss_before"],
            "loss": end["loss"]}


def _print(figures: dict[str, Any]) -> None:
    for rows in filter(None, figures.values()):
        print(table(["", *(next(iter(row.values())) for row in rows)],
                    [[name, *(f"{row[name]:.2f}" if isinstance(row[name], float) else row[name] for row in rows)]
                     for name in list(rows[0])[1:]]))


if __name__ == "__main__":
    sys.exit(main())
