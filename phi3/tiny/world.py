"""The small world: seeded conversations to train the embedded Phi-3 on, and others that it never sees."""
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

from phi3.tiny.claims import CLAIMS
from phi3.tiny.manners import MANNERS, Manner
from phi3.tiny.outside import OUTSIDE, UNKNOWN
from phi3.tiny.phrases import Wordings, inside, worded
from phi3.tiny.reading import READING
from phi3.tiny.reckoning import RECKONING
from phi3.tiny.tables import TABLES
from phi3.tiny.talk import NAME, NO_NAME, TALK
from phi3.tiny.tasks import Task, Turn
from phi3.tiny.writing import WRITING

__all__ = ["MANNERS", "TASKS", "Exchange", "Manner", "content_kept", "exchanges"]

TASKS: tuple[Task, ...] = TABLES + CLAIMS + RECKONING + READING + WRITING + TALK + OUTSIDE
MANNER_SHARE = 0.42  # of the mixed stream answers in a manner that a system message asks for
# These say the answer in other words or letters than the plain sentence, so they take longer to learn.
HARD_MANNERS = {"json": 2.5, "one word": 1.5, "shouting": 3.0}
PLAIN_SYSTEM_SHARE = 0.06  # has a system message that asks for nothing special
ASKED_BY_USER_SHARE = 0.18  # of the mixed stream's manners are asked for in the first question itself
FOLLOWED_SHARE = 0.6  # of the turns that could lean on the one before them do
AGAIN_SHARE = 0.10  # of the later turns ask for the last answer again
NAME_SHARE = 0.18  # of the turns after a name was told ask for it
TURNS = (1,) * 12 + (2,) * 6 + (3,) * 4 + (4, 4, 5, 6, 8, 12)
OBEYED = "As you like. Ask me something!"
AGAIN = Wordings(
    ("Say that again.", "Can you say that again?", "Could you repeat that?", "Say that once again.", "Once again?",
     "Please say that again.", "Could you say it again?", "Repeat that.", "Would you say that again?",
     "Can you say it again?", "Again?", "Please repeat that.", "What did you say?", "Repeat your answer.",
     "Once more, please.", "Can you repeat that?", "Say it again.", "I did not hear you.", "repeat"),
    ("Could you say that again?", "Once again."))
SURE = Wordings(
    ("Are you sure?", "Are you very sure?", "Are you so sure?", "Are you quite certain?", "Is it really so?",
     "Is that really so?", "Is it true?", "Is it really true?", "Are you sure of that?", "Really?", "Is that right?",
     "Is that true?", "Are you certain?", "I don't believe you.", "sure?", "Are you really sure?"),
    ("Are you quite sure?", "Is that really true?"))


@dataclass(frozen=True)
class Exchange:
    """A conversation that ends with the user's turn, and the answer that is due."""

    kind: str
    messages: tuple[dict[str, str], ...]
    answer: str
    content: tuple[str, ...]  # what an answer must contain to be right, whatever its manner
    short: str = ""  # the answer without a sentence around it
    leans: bool = False  # whether the last question needs the turns before it


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
    turns = conversation(rng, unseen, rng.choice(TURNS), chosen)
    if system and manner is None and rng.random() < ASKED_BY_USER_SHARE:
        turns, system = asked_by_user(rng, system, turns), ""
    messages = [{"role": "system", "content": system}] if system else []
    for turn in turns[:-1]:
        messages += [{"role": "user", "content": turn.question}, {"role": "assistant", "content": chosen.apply(turn)}]
    last = turns[-1]
    messages.append({"role": "user", "content": last.question})
    return Exchange(last.kind, tuple(messages), chosen.apply(last), due_content(last, chosen), last.short, last.leans)


def asked_by_user(rng: Random, system: str, turns: list[Turn]) -> list[Turn]:
    """The manner asked for by the user, in front of the first question or in a turn of its own."""
    if rng.random() < 0.4:
        kept = turns[rng.choice((0, 1)):]
        return [Turn("agreed", system, OBEYED, "Yes", ("ask",), {}), *(turns if kept and kept[0].leans else kept)]
    first = replace(turns[0], question=f"{system.rstrip('.!')}{rng.choice(('.', ':', '!'))} {turns[0].question}")
    return [first, *turns[1:]]


def due_content(turn: Turn, manner: Manner) -> tuple[str, ...]:
    """What must be in an answer: in a terse manner only what its short form holds."""
    held = all(is_said(part, turn.short) for part in turn.content)
    return turn.content if held or not manner.terse else (turn.short,)


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


def conversation(rng: Random, unseen: bool, count: int, manner: Manner) -> list[Turn]:
    """Questions in a row, each of which can be answered in the manner; now and then one leans on what was said."""
    turns: list[Turn] = []
    task: Task | None = None
    while len(turns) < count:
        task, turn = leaning(rng, unseen, task, turns) or fresh(rng, unseen, turns)
        if manner.fits(turn):
            turns.append(turn)
        else:
            task = None
    return turns


def fresh(rng: Random, unseen: bool, turns: Sequence[Turn]) -> tuple[Task, Turn]:
    """A question that stands for itself; nobody who told their name is told that they did not."""
    task = rng.choices(TASKS, [task.weight for task in TASKS])[0]
    if task is NO_NAME and any(turn.kind == NAME.kind for turn in turns):
        task = NAME
    return task, task.ask(rng, unseen)


def leaning(rng: Random, unseen: bool, task: Task | None, turns: Sequence[Turn]) -> tuple[Task | None, Turn] | None:
    """A question that leans on what was said, if one comes up here."""
    if not turns:
        return None
    last, chance = turns[-1], rng.random()
    named = [turn for turn in turns if turn.kind == NAME.kind]
    if named and chance < NAME_SHARE:
        followed = NAME.follow(named[-1], rng, unseen)
        return (None, followed) if followed else None
    if chance > 1 - AGAIN_SHARE and last.kind not in ("again", "sure"):
        return None, said_again(rng, unseen, last)
    if task is None or rng.random() > FOLLOWED_SHARE:
        return None
    others = [other for other in TASKS
              if other.its and other.about == task.about and other is not task] if task.about else []
    if others and rng.random() < 0.6:
        other = rng.choice(others)
        turn = other.follow_with_it(last, rng, unseen)
        return (other, turn) if turn else None
    turn = task.follow(last, rng, unseen)
    return (task, turn) if turn else None


def said_again(rng: Random, unseen: bool, last: Turn) -> Turn:
    """The last answer once more, or that it is so."""
    if rng.random() < 0.5 or last.answer == UNKNOWN or last.answer[-1] == "?":
        return replace(last, kind="again", question=worded(AGAIN, {}, rng, unseen, framed=False), leans=True)
    return replace(last, kind="sure", question=worded(SURE, {}, rng, unseen, framed=False), leans=True,
                   answer=f"Yes, I am sure: {inside(last.answer)}", short="Yes", content=("yes",))


EQUIVALENTS = {
    "don't": "do not", "unknown": "do not know", "aye": "yes", "nay": "no", "o'": "of", "an'": "and", "ye": "you",
    "me": "my", "yer": "your", "be": "is", "are": "is", "am": "is"
}


def content_kept(exchange: Exchange, text: str) -> bool:
    """Whether the text holds all of the exchange's content as whole words; letter case and JSON do not matter."""
    said = json_words(text)
    return all(is_said(part, said) for part in exchange.content)


def is_said(part: str, text: str) -> bool:
    return bool(re.search(rf"(?<!\w){re.escape(normal(part))}(?!\w)", normal(text)))


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
