"""Does a run at the default settings teach what its data shows, in a minute? `python -m benchmarks.learning`."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.report import table, write
from training.config import METHODS
from training.examples import measures

SEED = 20_000  # far from the seeds that the example data was drawn with


@dataclass(frozen=True)
class Learned:
    """One run's outcome: seconds of the whole command, held-out losses, and shares of the unseen prompts."""

    example: str
    method: str
    seconds: float
    base_loss: float
    loss: float
    base_manner: float
    base_content: float
    manner: float
    content: float


def main() -> int:
    """Train, ask, print; the JSON goes to benchmarks/results unless --out names another folder."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.learning", description=__doc__)
    parser.add_argument("--examples", nargs="+", default=["pirate"], choices=measures.NAMES)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--prompts", type=int, default=120, help="prompts never trained on (default 120)")
    parser.add_argument("--out", type=Path, help="folder for the JSON")
    parser.add_argument("--show", type=int, default=0, help="print this many answers of each run")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        os.environ["STUDIO_HOME"] = home
        outcomes = [_learned(example, method, asked.prompts, asked.show)
                    for example in asked.examples for method in asked.methods]
    print(table(list(asdict(outcomes[0])), [list(asdict(one).values()) for one in outcomes]))
    where = {"folder": asked.out} if asked.out else {}
    write("learning", {"prompts": asked.prompts, "runs": [asdict(one) for one in outcomes]}, **where)
    return 0


def _learned(example: str, method: str, count: int, show: int) -> Learned:
    started = time.monotonic()
    command = [sys.executable, "-m", "training", "run", "--data", example, "--method", method,
               "--name", f"{example}-{method}", "--json"]
    ran = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    seconds = time.monotonic() - started
    end = json.loads(ran.stdout.splitlines()[-1])
    prompts = measures.prompts(example, count, SEED)
    base, adapter = _answers(prompts, None), _answers(prompts, end["folder"])
    for prompt, plain, taught in list(zip(prompts, base, adapter, strict=True))[:show]:
        print(f"? {prompt.messages[-1]['content']}\n  base    {plain}\n  adapter {taught}\n  due     {prompt.answer}")
    return Learned(example, method, round(seconds, 1), end["base_loss"], end["loss"],
                   *_shares(example, prompts, base), *_shares(example, prompts, adapter))


def _answers(prompts: Sequence[measures.Exchange], adapter: str | None) -> list[str]:
    from phi3.generate import Answerer, Lane, Sampling
    from phi3.models import EMBEDDED, load_base

    answerer = Answerer(load_base(EMBEDDED))
    lanes = [Lane(prompt.messages, adapter, Sampling(max_new_tokens=96)) for prompt in prompts]
    *_, last = answerer.answer(lanes)
    return [answer.text for answer in last]


def _shares(example: str, prompts: Sequence[measures.Exchange], texts: Sequence[str]) -> tuple[float, float]:
    """(manner shown, content right), each as a share of the prompts."""
    pairs = list(zip(prompts, texts, strict=True))
    manner = sum(measures.manner_shown(example, text) for _, text in pairs)
    content = sum(measures.content_right(example, prompt, text) for prompt, text in pairs)
    return round(manner / len(pairs), 3), round(content / len(pairs), 3)


if __name__ == "__main__":
    sys.exit(main())
