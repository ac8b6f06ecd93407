"""Writes the example datasets: `python -m training.examples.build`."""
import json
from pathlib import Path

from training.examples.measures import NAMES, drawn

HERE = Path(__file__).parent
ROWS = 400
SEED = 17


def rows(name: str, count: int = ROWS, seed: int = SEED) -> list[dict[str, list[dict[str, str]]]]:
    """Different conversations from the training side of the world, each with its last answer."""
    kept: dict[str, dict[str, list[dict[str, str]]]] = {}
    while len(kept) < count:
        for exchange in drawn(name, count, seed, unseen=False):
            messages = [*exchange.messages, {"role": "assistant", "content": exchange.answer}]
            kept.setdefault(json.dumps(messages), {"messages": messages})
        seed += 1
    return list(kept.values())[:count]


def main() -> None:
    for name in NAMES:
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows(name))
        (HERE / f"{name}.jsonl").write_text(text, encoding="utf-8")
        print(f"{name}.jsonl: {ROWS} conversations, {len(text):,} bytes")


if __name__ == "__main__":
    main()
