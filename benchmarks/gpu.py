"""Does it all hold on a card, at full size? `python -m benchmarks.gpu [--minutes 9] [--out FOLDER] [--resume]`.

Seven parts, most worth first, each in a process of its own; the report is written after every figure, and `--resume`
goes on where the last call ended. Without a card `--rehearse` runs them all at about a hundredth of the size.
"""

import argparse
import platform
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.card.report import MARKDOWN, Report
from benchmarks.card.runner import Order, Part, proved
from benchmarks.report import told_by_driver, versions
from phi3.machine import studio_home, this_machine

PARTS = (
    Part("it works", "benchmarks.card.works", 200, 60, shares=True),
    Part("memory and time against the plan", "benchmarks.card.plan", 220, 110),
    Part("training speed", "benchmarks.card.training", 220, 75),
    Part("chat", "benchmarks.card.chat", 200, 30),
    Part("learning", "benchmarks.card.learning", 150, 30, shares=True),
    Part("a lent card", "benchmarks.card.lent", 90, 35),
    Part("out of memory", "benchmarks.card.memory", 75, 30),
)
# What is asked for, and what is useful where it is there.
PACKAGES = ("torch", "transformers", "peft", "accelerate", "trl", "datasets", "bitsandbytes", "liger-kernel", "unsloth",
            "orjson", "rouge-score", "sacrebleu", "spaces", "gradio")


def main(arguments: Sequence[str] | None = None, parts: Sequence[Part] = PARTS) -> int:
    """Run the parts; 0 where nothing failed, 1 where something did, 2 where it can't be done as it was asked."""
    asked = _asked(arguments, parts)
    if not asked.rehearse and this_machine().kind != "cuda":
        print("There is no CUDA card here. --rehearse does the same at a hundredth of the size.", file=sys.stderr)
        return 2
    report = Report(asked.out, [part.name for part in parts], asked.rehearse)
    try:
        report.take_up() if asked.resume else None
    except ValueError as problem:
        print(problem, file=sys.stderr)
        return 2
    # Whoever ends this command ends the part that runs, too.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    order = Order(asked.minutes, asked.work or asked.out / "work", asked.rehearse, tuple(asked.only))
    is_well = proved(parts, order, report, circumstances())
    print((asked.out / MARKDOWN).read_text(encoding="utf-8"))
    return 0 if is_well else 1


def circumstances() -> dict[str, Any]:
    """Machine, driver, versions and date, without waiting for torch."""
    return {"date": time.strftime("%Y-%m-%d %H:%M"), "machine": this_machine().hardware(),
            "driver": next(iter(told_by_driver("driver_version")), None), "python": platform.python_version(),
            "versions": versions(PACKAGES)}


def _asked(arguments: Sequence[str] | None, parts: Sequence[Part]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=9, help="all of it takes no longer (default 9)")
    parser.add_argument("--out", type=Path, default=studio_home() / "card", metavar="FOLDER",
                        help="for report.json and report.md (default: card, in the studio's folder)")
    parser.add_argument("--work", type=Path, metavar="FOLDER", help="for the base (8 GB), runs and logs (default: in "
                        "--out); the same one for --resume")
    parser.add_argument("--resume", action="store_true", help="run what the report in --out has not as done")
    parser.add_argument("--rehearse", action="store_true", help="a hundredth of the size, two steps; on a CPU, too")
    parser.add_argument("--only", nargs="+", default=[], metavar="PART", choices=[part.name for part in parts],
                        help=f"of: {', '.join(part.name for part in parts)}")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
