"""Writes the example datasets and the everyday questions: `python -m training.examples.build`."""
import json
from pathlib import Path

from phi3.tiny.world import exchanges
from training.describe import QUESTIONS_FILE
from training.examples.measures import NAMES, drawn

HERE = Path(__file__).parent
ROWS = 300
SEED = 17
QUESTIONS = 160
# Half of what is drawn begins in lower case or has a slip of the pen; what a manner is shown on should be clean.
DRAWN = 4000


def rows(name: str, count: int = ROWS, seed: int = SEED) -> list[dict[str, list[dict[str, str]]]]:
    """Different conversations from the training side of the world, each with its last answer."""
    kept: dict[str, dict[str, list[dict[str, str]]]] = {}
    while len(kept) < count:
        for exchange in drawn(name, count, seed, unseen=False):
            messages = [*exchange.messages, {"role": "assistant", "content": exchange.answer}]
            kept.setdefault(json.dumps(messages), {"messages": messages})
        seed += 1
    return list(kept.values())[:count]


def questions(count: int = QUESTIONS, seed: int = SEED) -> list[str]:
    """Different first questions in turn over the kinds, for a base to answer in a described manner."""
    by_kind: dict[str, list[str]] = {}
    for exchange in exchanges(seed, DRAWN, unseen=False):
        asked = exchange.messages[0]["content"]
        if len(exchange.messages) == 1 and asked[0].isupper() and asked not in by_kind.setdefault(exchange.kind, []):
            by_kind[exchange.kind].append(asked)
    rounds = [[kind[turn] for kind in by_kind.values() if turn < len(kind)] for turn in range(count)]
    return [question for one in rounds for question in one][:count]


def main() -> None:
    for name in NAMES:
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows(name))
        (HERE / f"{name}.jsonl").write_text(text, encoding="utf-8")
        print(f"{name}.jsonl: {ROWS} conversations, {len(text):,} bytes")
    QUESTIONS_FILE.write_text("\n".join(questions()) + "\n", encoding="utf-8")
    print(f"{QUESTIONS_FILE.name}: {QUESTIONS} questions")


if __name__ == "__main__":
    main()
