"""Does a run at the default settings teach what its data shows, in a minute? `python -m benchmarks.learning`."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.report import circumstances, table, write
from phi3.tiny.world import Exchange, content_kept, exchanges
from training.config import METHODS
from training.examples import measures

SEED = 20_000  # far from the seeds that the example data was drawn with


README = Path(measures.__file__).parent / "README.md"


@dataclass(frozen=True)
class Learned:
    """One run's outcome: seconds of the whole command, held-out losses, and shares of the unseen prompts.

    `base_world` and `world` are the shares of general questions, unseen by base and adapter, that are answered rightly
    before and after: what the adapter forgets.
    """

    example: str
    method: str
    seconds: float
    base_loss: float
    loss: float
    base_manner: float
    manner: float
    base_content: float
    content: float
    base_world: float
    world: float


def main() -> int:
    """Train, ask, print; the JSON goes to benchmarks/results unless --out names another folder."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.learning", description=__doc__)
    parser.add_argument("--examples", nargs="+", default=list(measures.NAMES), choices=measures.NAMES)
    parser.add_argument("--methods", nargs="+", default=["lora", "qlora"], choices=METHODS)
    parser.add_argument("--prompts", type=int, default=120, help="prompts never trained on (default 120)")
    parser.add_argument("--out", type=Path, help="folder for the JSON; without it the examples' README is written too")
    parser.add_argument("--show", type=int, default=0, help="print this many answers of each run")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        os.environ["STUDIO_HOME"] = home
        outcomes = [outcome for example in asked.examples for outcome in _learned(example, asked)]
    print(table(list(asdict(outcomes[0])), [list(asdict(one).values()) for one in outcomes]))
    write("learning", {"prompts": asked.prompts, "runs": [asdict(one) for one in outcomes]}, asked.out)
    if not asked.out:
        README.write_text(_readme(outcomes, asked.prompts), encoding="utf-8")
    return 0


def _learned(example: str, asked: argparse.Namespace) -> Iterator[Learned]:
    """One example with each method; the base answers once."""
    prompts = measures.prompts(example, asked.prompts, SEED)
    general = exchanges(SEED + 1, asked.prompts, unseen=True, manner="plain")
    base = answers([*prompts, *general], None)
    for method in asked.methods:
        seconds, end = _trained(example, method)
        taught = answers([*prompts, *general], end["folder"])
        for prompt, plain, learned in list(zip(prompts, base, taught, strict=False))[:asked.show]:
            question = prompt.messages[-1]["content"]
            print(f"? {question}\n  base    {plain}\n  adapter {learned}\n  due     {prompt.answer}")
        (manner_before, content_before, world_before), (manner, content, world) = (
            (*shares_of(example, prompts, said), world_kept(general, said[len(prompts):])) for said in (base, taught))
        yield Learned(example, method, round(seconds, 1), end["loss_before"], end["loss"], manner_before, manner,
                      content_before, content, world_before, world)


def _trained(example: str, method: str) -> tuple[float, dict[str, Any]]:
    """Seconds of the whole command at the default settings, and its last event."""
    started = time.monotonic()
    command = [sys.executable, "-m", "training", "run", "--data", example, "--method", method,
               "--name", f"{example}-{method}", "--json"]
    ran = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return time.monotonic() - started, json.loads(ran.stdout.splitlines()[-1])


def answers(prompts: Sequence[Exchange], adapter: str | None) -> list[str]:
    """What the embedded Phi-3 says, greedily, as it is or with the adapter in this folder."""
    from phi3.generate import Answerer, Lane, Sampling
    from phi3.models import EMBEDDED, load_base

    answerer = Answerer(load_base(EMBEDDED))
    lanes = [Lane(prompt.messages, adapter, Sampling(max_new_tokens=128)) for prompt in prompts]
    *_, last = answerer.answer(lanes)
    return [answer.text for answer in last]


def shares_of(example: str, prompts: Sequence[Exchange], texts: Sequence[str]) -> tuple[float, float]:
    """(manner shown, content right), each as a share of the prompts."""
    pairs = list(zip(prompts, texts[:len(prompts)], strict=True))
    manner = sum(measures.manner_shown(example, text) for _, text in pairs)
    content = sum(measures.content_right(example, prompt, text) for prompt, text in pairs)
    return round(manner / len(pairs), 3), round(content / len(pairs), 3)


def world_kept(general: Sequence[Exchange], texts: Sequence[str]) -> float:
    """The share of general questions whose answer holds what is right, in whatever manner."""
    return round(sum(map(is_right, general, texts)) / len(general), 3)


def is_right(exchange: Exchange, text: str) -> bool:
    """Whether it says all that is due, or in a terse manner its short form."""
    return content_kept(exchange, text) or content_kept(replace(exchange, content=(exchange.short,)), text)


def _readme(outcomes: Sequence[Learned], prompts: int) -> str:
    head = ("example", "method", "seconds", "held-out loss", "manner shown", "content right", "the base's world")
    rows = [(one.example, one.method, f"{one.seconds:.0f}", f"{one.base_loss:.3f} → {one.loss:.3f}",
             f"{one.base_manner:.0%} → {one.manner:.0%}", f"{one.base_content:.0%} → {one.content:.0%}",
             f"{one.base_world:.0%} → {one.world:.0%}") for one in outcomes]
    lines = [f"| {' | '.join(row)} |" for row in (head, ("---",) * len(head), *rows)]
    return f"""# The example datasets

Three small chat datasets, written by `python -m training.examples.build`: answers like a **pirate**, answers as
**JSON**
with two fixed keys, and the staff of an invented **shop** who know its goods, prices and hours. An adapter trained on
each ships with the embedded Phi-3 (`python -m training.examples.ship`).

What a run with the default settings teaches the embedded Phi-3, base → adapter, measured by
`python -m benchmarks.learning` on {prompts} prompts in wordings that the examples never hold. The last column is what
the adapter forgets: general questions answered rightly before and after.

{chr(10).join(lines)}

{", ".join(f"{name}: {value}" for name, value in circumstances().items() if name in ("date", "processor", "threads"))}
"""


if __name__ == "__main__":
    sys.exit(main())
