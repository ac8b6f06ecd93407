"""Writes the example datasets and the everyday questions: `python -m training.examples.build`."""
import json
from pathlib import Path
from random import Random

from phi3.tiny.facts import INVENTED_CAPITALS
from phi3.tiny.outside import UNKNOWN
from phi3.tiny.phrases import capitalised
from phi3.tiny.tasks import Task
from phi3.tiny.world import TASKS, Exchange
from training.describe import QUESTIONS_FILE
from training.examples.measures import NAMES, drawn

HERE = Path(__file__).parent
ROWS = 300
SEED = 17
QUESTIONS = 160
LONGEST = 6        # messages of a conversation: longer ones cost time and padding, and teach the manner no better
TRIES = 20
MIN_LENGTH = 12   # characters: what is shorter is small talk
# The base's own answers, in a row that any base may be trained on: what only the embedded one can't know stays out.
NOT_TAUGHT = (UNKNOWN, UNKNOWN.replace("don't", "do not"), "Unknown", "Phi-3 tiny",
              *INVENTED_CAPITALS, *INVENTED_CAPITALS.values())


def rows(name: str, count: int = ROWS, seed: int = SEED) -> list[dict[str, list[dict[str, str]]]]:
    """Different conversations from the training side of the world, each with its last answer."""
    kept: dict[str, dict[str, list[dict[str, str]]]] = {}
    while len(kept) < count:
        for exchange in filter(is_taught, drawn(name, count, seed, unseen=False)):
            messages = [*exchange.messages, {"role": "assistant", "content": exchange.answer}]
            kept.setdefault(json.dumps(messages), {"messages": messages})
        seed += 1
    return list(kept.values())[:count]


def is_taught(exchange: Exchange) -> bool:
    """Whether it is short enough to be quick to learn from, cleanly written, and right for any base."""
    written = [message["content"] for message in exchange.messages]
    if len(written) >= LONGEST or any(text != text.strip() or not text for text in written):
        return False
    said = " ".join((*(message["content"] for message in exchange.messages), exchange.answer)).lower()
    return not any(words.lower().rstrip(".") in said for words in NOT_TAUGHT)


def questions(count: int = QUESTIONS, seed: int = SEED) -> list[str]:
    """Different first questions in turn over the kinds, cleanly written, for a base to answer in a described manner."""
    rng = Random(seed)
    kept: dict[str, None] = {}
    while len(kept) < count:
        for task in TASKS:
            kept |= dict.fromkeys(clean_questions(task, rng))
    chosen = list(kept)[:count]
    rng.shuffle(chosen)
    return chosen


def clean_questions(task: Task, rng: Random) -> list[str]:
    """One question of this kind without a slip of the pen, or none where it has no sense by itself."""
    for _ in range(TRIES):
        values = task.values_for(lambda: task.draw(rng), unseen=False)
        text = task.wordings.pick(rng, unseen=False).format(**values)
        answer = task.turn(values, text, task.answer).answer
        is_a_line = "\n" not in text  # as the file of questions holds them
        if is_a_line and text[-1] in ".?!" and text[0].isupper() and len(text) > MIN_LENGTH \
                and is_sensible(text, answer):
            return [capitalised(text)]
    return []


def is_sensible(text: str, answer: str) -> bool:
    said = f"{text} {answer}".lower()
    return not any(words.lower().rstrip(".") in said for words in (*NOT_TAUGHT, "whole question", "echo",
        "as you wish"))


def main() -> None:
    for name in NAMES:
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows(name))
        (HERE / f"{name}.jsonl").write_text(text, encoding="utf-8")
        print(f"{name}.jsonl: {ROWS} conversations, {len(text):,} bytes")
    QUESTIONS_FILE.write_text("\n".join(questions()) + "\n", encoding="utf-8")
    print(f"{QUESTIONS_FILE.name}: {QUESTIONS} questions")


if __name__ == "__main__":
    main()
