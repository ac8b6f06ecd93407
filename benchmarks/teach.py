"""Do ten corrected answers change others of their kind, and leave the rest? `python -m benchmarks.teach`."""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from adapters.library import Library
from benchmarks.learning import answers
from benchmarks.report import table, write
from phi3.tiny.world import Exchange
from training.corrections import Correction, lesson, lesson_settings, old_rows
from training.data import ChatData, split
from training.examples import measures
from training.runs import Runs

SEED = 40_000
# What somebody might want of one kind of answers: each ends with these words.
WISHES = {"sum": "Count it twice, matey!", "capital": "Mark it on the chart!", "opposite": "So it be at sea."}


@dataclass(frozen=True)
class Taught:
    """Means over the seeds. Shares: of unseen questions of the kind, which show the wish and keep what is right; of
    others, before and after, which have manner and content, and which show the wish though nobody asked for it there.
    """

    kind: str
    seeds: int
    seconds: float
    shown: float
    right: float
    others_before: float
    others: float
    kept: float
    spilt: float


def main() -> int:
    """Correct ten answers, train, ask; print and write the JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.teach", description=__doc__)
    parser.add_argument("--kinds", nargs="+", default=list(WISHES), choices=list(WISHES))
    parser.add_argument("--corrections", type=int, default=10)
    parser.add_argument("--prompts", type=int, default=60, help="unseen ones of the kind, and others (default 60)")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each kind (default 3)")
    parser.add_argument("--out", type=Path, help="folder for the JSON")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        os.environ["STUDIO_HOME"] = home
        outcomes = [_mean([_taught(kind, asked, Path(home), seed) for seed in range(asked.seeds)])
                    for kind in asked.kinds]
    print(table(list(asdict(outcomes[0])), [list(asdict(one).values()) for one in outcomes]))
    write("teach", [asdict(one) for one in outcomes], asked.out)
    return 0


def _mean(some: Sequence[Taught]) -> Taught:
    each = [asdict(one) for one in some]
    return Taught(some[0].kind, len(some), *(round(statistics.mean(one[name] for one in each), 3)
                                             for name in each[0] if name not in ("kind", "seeds")))


def _taught(kind: str, asked: argparse.Namespace, home: Path, seed: int) -> Taught:
    pirate, wish = Library(home).get("pirate"), WISHES[kind]
    learned = _of_kind(kind, asked.corrections, unseen=False)
    said = answers(learned, str(pirate.folder))
    corrections = [Correction(one.messages, f"{text} {wish}", text) for one, text in zip(learned, said, strict=True)]
    data = lesson(corrections, old_rows(pirate, Runs(home)), kind, seed)
    began = time.monotonic()
    folder = _trained(data, f"taught-{kind}-{seed}", home, seed)
    seconds = time.monotonic() - began
    alike = _of_kind(kind, asked.prompts, unseen=True)
    others = [one for one in measures.drawn("pirate", 2 * asked.prompts, SEED + 2, unseen=True)
              if one.kind != kind][:asked.prompts]
    before, after = (answers([*alike, *others], str(which)) for which in (pirate.folder, folder))
    new, rest_before, rest = after[:len(alike)], before[len(alike):], after[len(alike):]
    fine_before, fine = ([_is_fine(one, text) for one, text in zip(others, texts, strict=True)]
                         for texts in (rest_before, rest))
    return Taught(kind, 1, round(seconds, 1), _share([wish in text for text in new]),
                  _share([measures.content_right("pirate", one, text) for one, text in zip(alike, new, strict=True)]),
                  _share(fine_before), _share(fine),
                  _share([now for now, was in zip(fine, fine_before, strict=True) if was]),
                  _share([wish in text for text in rest]))


def _of_kind(kind: str, count: int, unseen: bool) -> list[Exchange]:
    """Single questions of this kind, each once."""
    found: dict[str, Exchange] = {}
    seed = SEED + unseen
    while len(found) < count:
        for one in measures.drawn("pirate", 400, seed, unseen):
            if one.kind == kind and len(one.messages) == 1:
                found.setdefault(one.messages[0]["content"], one)
        seed += 2
    return list(found.values())[:count]


def _is_fine(exchange: Exchange, text: str) -> bool:
    return measures.manner_shown("pirate", text) and measures.content_right("pirate", exchange, text)


def _trained(data: ChatData, name: str, home: Path, seed: int) -> str:
    """The adapter's folder."""
    rows, settings = home / f"{name}-rows", {**lesson_settings(data), "seed": seed}
    rows.mkdir()
    for side, some in zip(("train", "validation"), split(data, **settings), strict=True):
        (rows / f"{side}.jsonl").write_text("".join(
            f"{json.dumps({'messages': list(one.messages)})}\n" for one in some), encoding="utf-8")
    command = [sys.executable, "-m", "training", "run", "--data", str(rows), "--name", name, "--start_from", "pirate",
               *(f"--{setting}={value}" for setting, value in settings.items()), "--json"]
    ran = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(ran.stdout.splitlines()[-1])["folder"]


def _share(claims: Sequence[bool]) -> float:
    return round(sum(claims) / max(len(claims), 1), 3)


if __name__ == "__main__":
    sys.exit(main())
