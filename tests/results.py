"""`python -m tests.results` rewrites the tables of benchmarks/README.md from the results that are committed."""

import json
import re
import statistics
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.card.report import table
from benchmarks.chat import FULL, LANES, MOVES, RATIOS
from benchmarks.goals import AGAINST_DEFAULTS, AGAINST_TUNED, GRADIENTS, PLAN_OFF, QLORA_SPEED, Goal
from tests.files import ROOT
from tests.readme import phrase

README = ROOT / "benchmarks" / "README.md"
RESULTS = ROOT / "benchmarks" / "results"
NO_QUESTION = {"__init__.py", "calls.py", "goals.py", "report.py"}
REHEARSAL = "gpu-rehearsal"


def regenerated(text: str) -> str:
    """The README's text with every table made anew; ValueError where a marker is missing."""
    for name, lines in TABLES.items():
        marked = re.compile(f"(<!-- {name} -->\n).*(<!-- /{name} -->)", re.DOTALL)
        if not marked.search(text):
            raise ValueError(f"benchmarks/README.md lacks <!-- {name} --> or <!-- /{name} -->. Put both markers back.")
        made = "\n".join(lines())
        text = marked.sub(lambda found, made=made: f"{found[1]}{made}\n{found[2]}", text)
    return text


def result(name: str) -> dict[str, Any]:
    """A committed result, with its circumstances."""
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def scripts() -> Iterator[str]:
    """Each script's question, and where its answer lies."""
    rows = []
    for path in sorted((ROOT / "benchmarks").glob("*.py")):
        if path.name not in NO_QUESTION:
            name = REHEARSAL if path.stem == "gpu" else path.stem
            there = (RESULTS / f"{name}.json").is_file()
            rows.append((f"`{path.stem}`", phrase(path).split(" `python")[0],
                         f"[{name}.json](results/{name}.json)" if there else "none committed"))
    yield from table(("script", "question", "result"), rows)


def goals() -> Iterator[str]:
    """The goals that a CPU can be held to, beside what was measured."""
    training, plan, chat, full = (result(name)["figures"] for name in ("training", "plan", "chat", FULL))
    rates = {(one["method"], one["arm"]): one["tokens_per_second"] for one in training["real lengths"]}
    ours, tuned = rates["lora", "studio"], max(rates["lora", arm] for arm in ("tuned, packed", "tuned, by length"))
    medians, of_full = ({one["goal"]: one["median"] for one in some["goals"]} for some in (chat, full))
    off = {name: plan["off_by"][f"{name}_ratio"] for name in ("time", "memory")}
    rows = [_row("C1 a step against plain TRL", "×", ours / rates["lora", "plain"], AGAINST_DEFAULTS, "training"),
            _row("T3 against the best-tuned TRL", "×", ours / tuned, AGAINST_TUNED, "training"),
            _row("T4 QLoRA ÷ LoRA, speed", "", rates["qlora", "studio"] / ours, QLORA_SPEED, "training"),
            *(_row(f"cosine to plain PEFT's gradients, {method}", "", cosine, GRADIENTS, "training")
              for method, cosine in training["cosine"].items()),
            *(_row(f"T5 plan off by, {name}, {which}", "", some[which], PLAN_OFF, "plan")
              for name, some in off.items() for which in ("median", "worst")),
            *(_row(f"{goal.number} {name}", "", medians[name], goal, "chat")
              for name, *_, goal in (*RATIOS, *MOVES)),
            *(_row(f"{goal.number} {name}, at full size", "", of_full[name], goal, FULL)
              for name, *_, goal in (*RATIOS, *MOVES))]
    yield from table(("goal", "wanted", "measured", "", "result"), rows)


def _row(name: str, unit: str, value: float, goal: Goal, source: str) -> tuple[str, ...]:
    return (name, f"{goal.side} {goal.wanted:g}{unit}", f"{value:.3g}{unit}",
            "reached" if goal.is_reached(value) else "**missed**", source)


def training() -> Iterator[str]:
    """Every arm's real tokens a second."""
    rows = [(one["method"], one["arm"], f"{one['tokens_per_second']:,}", f"{one['milliseconds']:,.0f}")
            for one in result("training")["figures"]["real lengths"]]
    yield from table(("method", "arm", "real tokens/s", "ms a step"), rows)


def chat(name: str = "chat", digits: int = 2) -> Iterator[str]:
    """Milliseconds a step of each arm with one, two, four and eight lanes."""
    rows: dict[str, dict[int, str]] = {}
    for one in result(name)["figures"]["lanes"]:
        rows.setdefault(one["arm"].rsplit(" ", 1)[0], {})[one["lanes"]] = f"{one['milliseconds_per_step']:.{digits}f}"
    yield from table(("arm", "1 lane", "2", "4", "8"),
                     [(arm, *(cells.get(count, "") for count in LANES)) for arm, cells in rows.items()])


def processor(kind: str) -> Iterator[str]:
    """Phi-3-mini at its full size, without a card: a column for each precision or method."""
    columns = result("processor")["figures"][kind]
    first, *names = columns[0]
    rows = [(name, *(f"{one[name]:.2f}" if isinstance(one[name], float) else str(one[name]) for one in columns))
            for name in names]
    yield from table(("", *(one[first] for one in columns)), rows)


def learning() -> Iterator[str]:
    """What a run with the default settings teaches."""
    rows = [(one["example"], one["method"], f"{one['seconds']:.0f}", f"{one['base_loss']:.3f} → {one['loss']:.3f}",
             *(f"{one[f'base_{share}']:.0%} → {one[share]:.0%}" for share in ("manner", "content", "world")))
            for one in result("learning")["figures"]["runs"]]
    yield from table(("example", "method", "seconds", "held-out loss", "manner", "content", "the base's world"), rows)


def rehearsal() -> Iterator[str]:
    """How each part of the proof on a card ended in its rehearsal."""
    rows = [(part["name"], part["status"], f"{part['seconds']:.0f}", str(len(part["figures"])),
             _passed(part["figures"])) for part in result(REHEARSAL)["parts"]]
    yield from table(("part", "status", "seconds", "figures", "checks passed"), rows)


def steps() -> Iterator[str]:
    """What steps took on a card, before it had kernels of its own and since."""
    figures = result("steps")["figures"]
    rows = []
    for when in (figures["before"], figures):
        for one in when["training"]:
            rows.append((f"training, {one['rows']}", f"{1e3 * statistics.median(one['seconds'][1:-1]):.0f}",
                         _spent(one), f"{one['tokens_per_second']:,}",
                         f"{one['gigabytes']:.1f} ({one['planned_gigabytes']:.1f})", _WHEN[when is figures]))
        for one in when["answers"]:
            name = "answer, " + one["lanes"].replace(": ", ", lanes of the ")
            rows.append((name, f"{one['milliseconds'][-1]:.2f}", _spent(one), "", "", _WHEN[when is figures]))
    yield from table(("step", "ms", "of kernels", "tokens/s", "GB (planned)", ""), sorted(rows, key=lambda row: row[0]))


_WHEN = {False: "torch's kernels", True: "own kernels"}


def _spent(one: dict[str, Any]) -> str:
    return f"{one['milliseconds_of_kernels']:.2f} in {one['launched']:,}" if "launched" in one else ""


def kernels() -> Iterator[str]:
    """Each kernel of a card's own beside plain torch."""
    rows = [(one["of"], f"`{one['kernel']}`", f"{one['microseconds']:.1f}", f"{one['gigabytes_per_second']:,}",
             f"{one['plain_microseconds']:.1f}") for one in result("kernels")["figures"]["kernels"]
            if one["of"] in ("8,188 tokens", "1 rows")]
    yield from table(("of", "kernel", "µs", "GB/s", "torch, µs"), rows)


def products() -> Iterator[str]:
    """The products of few rows beside cuBLAS."""
    rows: dict[str, list[str]] = {}
    for one in result("skinny")["figures"]:
        cells = rows.setdefault(f"{one['product']}, {one['outputs']:,} × {one['inputs']:,}", [])
        cells.append(f"{one['best'][0]['microseconds']:.1f} ({one['cublas_microseconds']:.1f})")
    yield from table(("product", "1 row", "2", "4", "8"), [(name, *cells) for name, cells in rows.items()])


def _passed(figures: Sequence[dict[str, Any]]) -> str:
    judged = [one["passed"] for one in figures if one["passed"] is not None]
    return f"{sum(judged)} of {len(judged)}"


TABLES: dict[str, Callable[[], Iterator[str]]] = {
    "scripts": scripts, "goals": goals, "training": training, "chat": chat, "learning": learning,
    "full": lambda: chat(FULL, 0), "answers": lambda: processor("answers"), "trainings": lambda: processor("training"),
    "rehearsal": rehearsal, "steps": steps, "kernels": kernels, "products": products}


if __name__ == "__main__":
    Path(README).write_text(regenerated(README.read_text(encoding="utf-8")), encoding="utf-8")
