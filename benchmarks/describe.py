"""Does one sentence become an adapter that has the described manner by itself? `python -m benchmarks.describe`."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.learning import answers
from benchmarks.report import table, write
from phi3.tiny.world import MANNERS, content_kept
from training.examples.measures import unasked_for

SEED = 30_000  # far from the seeds that the questions were drawn with
# A visitor's sentence for each manner, in words that the embedded Phi-3 was not trained on where it has a choice.
SENTENCES = {"pirate": "like a pirate from the sea", "shy robot": "like a very shy robot",
             "lighthouse keeper": "like a tired lighthouse keeper", "rhyming": "with little rhymes",
             "question back": "in one short sentence, then a question back"}


@dataclass(frozen=True)
class Described:
    """One sentence's outcome: seconds from the sentence to the adapter, rows it was trained on, shares after it."""

    manner: str
    sentence: str
    seconds: float
    rows: int
    base_manner: float
    shown: float
    content: float


def main() -> int:
    """Describe, train, ask without a system message; print and write the JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.describe", description=__doc__)
    parser.add_argument("--manners", nargs="+", default=list(SENTENCES), choices=list(SENTENCES))
    parser.add_argument("--prompts", type=int, default=100, help="prompts never asked before (default 100)")
    parser.add_argument("--out", type=Path, help="folder for the JSON")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        os.environ["STUDIO_HOME"] = home
        outcomes = [_described(manner, asked.prompts, Path(home)) for manner in asked.manners]
    print(table(list(asdict(outcomes[0])), [list(asdict(one).values()) for one in outcomes]))
    write("describe", [asdict(one) for one in outcomes], asked.out)
    return 0


def _described(manner: str, count: int, home: Path) -> Described:
    rows, name = home / f"{manner}.jsonl", "described-" + manner.replace(" ", "-")  # some manners' names are shipped
    began = time.monotonic()
    _run("training", "describe", SENTENCES[manner], "--out", str(rows))
    end = json.loads(_run("training", "run", "--data", str(rows), "--name", name, "--json").splitlines()[-1])
    seconds = time.monotonic() - began
    prompts = unasked_for(manner, count, SEED)
    base, adapter = (answers(prompts, who) for who in (None, end["folder"]))
    return Described(manner, SENTENCES[manner], round(seconds, 1), len(rows.read_text(encoding="utf-8").splitlines()),
                     _share(MANNERS[manner].follows(text) for text in base),
                     _share(MANNERS[manner].follows(text) for text in adapter),
                     _share(map(content_kept, prompts, adapter)))


def _run(*arguments: str) -> str:
    return subprocess.run([sys.executable, "-m", *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout


def _share(claims: Iterable[bool]) -> float:
    claims = list(claims)
    return round(sum(claims) / len(claims), 3)


if __name__ == "__main__":
    sys.exit(main())
