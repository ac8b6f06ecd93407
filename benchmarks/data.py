"""Is a large file inspected in little memory, as fast as `datasets` tokenises it? `python -m benchmarks.data`.

Both read the same JSONL file of conversations and count the same tokens with the same tokenizer, each in a process of
its own: the studio says beside that what is wrong with each row, which repeat, and which tokens are trained.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.report import table, write

WORDS = ["the", "sea", "is", "far", "and", "a", "ship", "goes", "near", "when", "black", "water", "moon", "light",
         "under", "please", "tell", "me", "how", "many", "days", "before", "she", "came", "back", "with", "that", "old"]
BATCH = 1000


@dataclass(frozen=True)
class Inspected:
    """One way's figures: seconds of the whole process, of all its processor's work (which others at the machine disturb
    less) and of its parts, memory at its highest, what was counted.
    """

    way: str
    seconds: float
    processor: float
    reading: float
    tokens: float
    peak_mebibytes: int
    rows: int
    counted: int


def main() -> int:
    """Write the file, inspect it both ways in turn, print the fastest of each; the JSON goes to benchmarks/results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.data", description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000, help="conversations (default 200000)")
    parser.add_argument("--repeats", type=int, default=2, help="times that each way is measured (default 2)")
    parser.add_argument("--out", type=Path, help="folder for the JSON")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.way:
        print(json.dumps(asdict(_measured(asked.way, asked.file))))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "conversations.jsonl"
        write_conversations(path, asked.rows)
        size = path.stat().st_size
        found = [_in_a_process(way, path) for _ in range(asked.repeats) for way in WAYS]
    best = [min((one for one in found if one.way == way), key=lambda one: one.seconds) for way in WAYS]
    print(f"{asked.rows:,} conversations, {size / 1024**2:,.0f} MiB")
    print(table(list(asdict(best[0])), [list(asdict(one).values()) for one in best]))
    write("data", {"rows": asked.rows, "bytes": size, "ways": [asdict(one) for one in best]}, asked.out)
    return 0


def write_conversations(path: Path, rows: int) -> None:
    """Seeded conversations of one to three questions and answers, of 20 to 120 words each."""
    dice = random.Random(7)
    with path.open("w", encoding="utf-8") as file:
        for number in range(rows):
            said = [" ".join(dice.choices(WORDS, k=dice.randint(10, 60))) for _ in range(2 * dice.randint(1, 3))]
            said[0] += f" ({number})"
            messages = [{"role": ("user", "assistant")[place % 2], "content": text} for place, text in enumerate(said)]
            file.write(json.dumps({"messages": messages}) + "\n")


def _in_a_process(way: str, path: Path) -> Inspected:
    command = [sys.executable, "-m", "benchmarks.data", "--way", way, "--file", str(path)]
    began = time.monotonic()
    ran = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    told = json.loads(ran.stdout.splitlines()[-1])
    print(f"{way}: {time.monotonic() - began:.1f} s", file=sys.stderr, flush=True)
    return Inspected(**{**told, "seconds": round(time.monotonic() - began, 1)})


def _measured(way: str, path: Path) -> Inspected:
    reading, tokens, rows, counted = WAYS[way](path)
    used = resource.getrusage(resource.RUSAGE_SELF)
    work = round(used.ru_utime + used.ru_stime, 1)
    return Inspected(way, 0.0, work, round(reading, 1), round(tokens, 1), used.ru_maxrss // 1024, rows, counted)


def _studio(path: Path) -> tuple[float, float, int, int]:
    from phi3.models import EMBEDDED, base_facts, load_tokenizer
    from training.config import RunConfig
    from training.data import read_data
    from training.report import count_steps, report_of

    began = time.monotonic()
    data = read_data(path)
    read = time.monotonic()
    tokenizer = load_tokenizer(base_facts(EMBEDDED))
    *_, counted = count_steps(data.conversations, tokenizer)
    report = report_of(data, counted, tokenizer, RunConfig(max_length=100_000))
    return read - began, time.monotonic() - read, report.rows_kept, report.tokens.total


def _datasets(path: Path) -> tuple[float, float, int, int]:
    import datasets

    from phi3.models import EMBEDDED, base_facts, load_tokenizer

    datasets.disable_progress_bars()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as cache:
        rows = datasets.load_dataset("json", data_files=str(path), split="train", cache_dir=cache)
        read = time.monotonic()
        tokenizer = load_tokenizer(base_facts(EMBEDDED))

        def tokenised(batch: dict) -> dict:
            texts = [tokenizer.apply_chat_template(one, tokenize=False) for one in batch["messages"]]
            return {"input_ids": tokenizer(texts, add_special_tokens=False)["input_ids"]}

        encoded = rows.map(tokenised, batched=True, batch_size=BATCH, remove_columns=rows.column_names)
        total = sum(len(ids) for batch in encoded.iter(BATCH) for ids in batch["input_ids"])
        return read - began, time.monotonic() - read, len(encoded), total


WAYS = {"studio": _studio, "datasets": _datasets}


if __name__ == "__main__":
    sys.exit(main())
