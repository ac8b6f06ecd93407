"""The small world: seeded conversations to train the embedded Phi-3 on, and others that it never sees."""
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from phi3.tiny.facts import TABLES
from phi3.tiny.manners import MANNERS, Manner
from phi3.tiny.reckoning import RECKONING
from phi3.tiny.talk import TALK
from phi3.tiny.tasks import Task, Turn

__all__ = ["MANNERS", "TASKS", "Exchange", "Manner", "content_kept", "exchanges"]

TASKS: tuple[Task, ...] = TABLES + RECKONING + TALK
MANNER_SHARE = 0.33           # of the mixed stream answers in a manner that a system message asks for
# These say the answer in other words or letters than the plain sentence, so they take longer to learn.
HARD_MANNERS = {"json": 2.5, "one word": 1.5, "shouting": 2.0}
PLAIN_SYSTEM_SHARE = 0.06     # has a system message that asks for nothing special
FOLLOWED_SHARE = 0.6          # of the turns that could lean on the one before them do
TURNS = (1,) * 12 + (2,) * 6 + (3,) * 4 + (4, 4, 5, 6, 8, 12)


@dataclass(frozen=True)
class Exchange:
    """A conversation that ends with the user's turn, and the answer that is due."""

    kind: str
    messages: tuple[dict[str, str], ...]
    answer: str
    content: tuple[str, ...]     # what an answer must contain to be right, whatever its manner
    short: str = ""              # the answer without a sentence around it


def exchanges(seed: int, count: int, unseen: bool = False, manner: str | None = None) -> list[Exchange]:
    """`count` exchanges, the same for the same seed.

    Training draws with `unseen=False`; `unseen=True` draws wordings, and where values combine (sums, comparisons,
    names, outside things) values, that the other side of the partition never holds. With `manner=None` the manners
    are mixed as in training.
    """
    if manner is not None and manner not in MANNERS:
        raise ValueError(f"No manner is called {manner!r}. Choose one of {', '.join(MANNERS)}.")
    rng = Random(f"{seed} {unseen} {manner}")
    return [exchange(rng, unseen, manner) for _ in range(count)]


def exchange(rng: Random, unseen: bool, manner: str | None) -> Exchange:
    chosen, system = choose_manner(rng, unseen, manner)
    messages = [{"role": "system", "content": system}] if system else []
    turns = list(conversation(rng, unseen, rng.choice(TURNS)))
    for turn in turns[:-1]:
        messages += [{"role": "user", "content": turn.question},
                     {"role": "assistant", "content": chosen.apply(turn)}]
    last = turns[-1]
    messages.append({"role": "user", "content": last.question})
    return Exchange(last.kind, tuple(messages), chosen.apply(last), last.content, last.short)


def choose_manner(rng: Random, unseen: bool, manner: str | None) -> tuple[Manner, str]:
    """The manner of a conversation and the system message that asks for it, if any does."""
    if manner is None:
        named = [name for name in MANNERS if name != "plain"]
        weights = [HARD_MANNERS.get(name, 1.0) for name in named]
        manner = rng.choices(named, weights)[0] if rng.random() < MANNER_SHARE else "plain"
    if manner == "plain" and rng.random() > PLAIN_SYSTEM_SHARE / (1 - MANNER_SHARE):
        return MANNERS[manner], ""
    system = MANNERS[manner].systems.pick(rng, unseen)
    return MANNERS[manner], system.lower() if rng.random() < 0.15 else system


def conversation(rng: Random, unseen: bool, turn_count: int) -> Iterator[Turn]:
    """Questions in a row; now and then one leans on the one before it."""
    task, turn = None, None
    for _ in range(turn_count):
        follow = task.follow(turn, rng, unseen) if task is not None and rng.random() < FOLLOWED_SHARE else None
        if follow is None:
            task = rng.choices(TASKS, [task.weight for task in TASKS])[0]
        turn = follow or task.ask(rng, unseen)
        yield turn


EQUIVALENTS = {"don't": "do not", "unknown": "do not know", "aye": "yes", "nay": "no"}


def content_kept(exchange: Exchange, text: str) -> bool:
    """Whether the text holds all of the exchange's content as whole words; letter case and JSON do not matter."""
    said = normal(json_words(text))
    return all(re.search(rf"(?<!\w){re.escape(normal(part))}(?!\w)", said) for part in exchange.content)


def json_words(text: str) -> str:
    """A JSON object's values as words; any other text as it is."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return text
    return " ".join(map(str, value.values())) if isinstance(value, dict) else text


def normal(text: str) -> str:
    text = text.lower().replace("’", "'")
    return re.sub(r"[\w']+", lambda match: EQUIVALENTS.get(match.group(), match.group()), text)
