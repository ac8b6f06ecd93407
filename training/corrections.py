"""Answers as they should have been: kept for each adapter, and made into a dataset with which it forgets nothing else.

Old rows among the new ones keep what was learned before (rehearsal; Robins, "Catastrophic Forgetting, Rehearsal and
Pseudorehearsal", 1995).
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from adapters.files import write_whole
from adapters.library import Adapter, file_name
from phi3.template import Message
from training.config import SETTINGS, RunConfig
from training.conversations import digest
from training.data import LESSON, ChatData, Conversation, example_names, read_data, read_text, split
from training.evaluate import PROMPTS_AT_THE_END
from training.runs import Runs

FOLDER = "corrections"
MOST_KEPT, LONGEST = 500, 20_000
# So many old rows for each correction, and each correction so often, as measured (benchmarks/teach.py).
OLD_ROWS_EACH, TIMES_EACH = 5, 5
LEAST_OLD_ROWS = 60


@dataclass(frozen=True)
class Correction:
    """What was asked (a conversation that ends with the user's turn), what was answered, and what should have been."""

    asked: tuple[Message, ...]
    answer: str
    was: str = ""

    def row(self) -> dict[str, list[Message]]:
        """As a row of an ordinary dataset. What was answered before is read and not learned: it may be wrong, too."""
        asked = [{**turn, "train": False} if turn["role"] == "assistant" else turn for turn in self.asked]
        return {"messages": [*asked, {"role": "assistant", "content": self.answer}]}


@dataclass(frozen=True)
class OldRows:
    """Conversations that an adapter was made of: those that it learned from, and those that were held out of them."""

    learned: Sequence[Conversation] = ()
    held: Sequence[Conversation] = ()


class Corrections:
    """One owner's corrections of one adapter's answers (or the base's), on this disk."""

    def __init__(self, home: Path, owner: str, adapter: str) -> None:
        self.adapter = adapter
        sign = hashlib.sha256(json.dumps([owner, adapter]).encode()).hexdigest()[:16]
        self.path = home / FOLDER / f"{file_name(owner, sign)}.json"

    def all(self) -> list[Correction]:
        """Oldest first; none where what was kept can't be read."""
        try:
            kept = json.loads(self.path.read_text(encoding="utf-8"))
            return [_correction(one) for one in kept]
        except (OSError, ValueError, KeyError, TypeError):
            return []

    def add(self, correction: Correction) -> None:
        """Keep one more; a later answer to the same words takes the earlier one's place. ValueError where it says
        nothing new, is too long, or there are too many.
        """
        answer = correction.answer.strip()
        if not answer:
            raise ValueError("The corrected answer is empty. Write what it should have said.")
        if answer == correction.was.strip():
            raise ValueError("That is what it said already. Change the answer, then teach it.")
        if len(answer) > LONGEST:
            raise ValueError(f"The corrected answer has {len(answer):,} characters, and {LONGEST:,} are the most.")
        with self._alone():
            self._put([*(one for one in self.all() if one.asked != correction.asked), correction])

    def remove(self, place: int) -> None:
        """Keep all but the one at this place, if there is one; the last one takes its file with it."""
        with self._alone():
            self._put([one for at, one in enumerate(self.all()) if at != place])

    def take_over(self, other: Corrections) -> None:
        """Those of another owner are this one's from now on, where all can be kept."""
        if not other.path.is_file():
            return
        with self._alone(), other._alone():
            came = other.all()
            asked = [one.asked for one in came]
            whole = [*(one for one in self.all() if one.asked not in asked), *came]
            if len(whole) <= MOST_KEPT:
                self._put(whole)
                other._put([])

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Between what is read and what is written in its place, nobody else writes: another lane, tab or app."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # Of an open file of one's own, such a lock keeps the threads of one process apart as well.
        with self.path.with_suffix(".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if self.path.exists() and not self.all():
                self.path.replace(self.path.with_suffix(".damaged"))  # it may be worth a look, so it isn't written over
            yield

    def _put(self, corrections: Iterable[Correction]) -> None:
        """Whole or not at all."""
        kept = [asdict(one) for one in corrections]
        if len(kept) > MOST_KEPT:
            raise ValueError(f"{len(kept)} corrections of {self.adapter} are more than the {MOST_KEPT} that are kept. "
                             "Train with them, or delete some.")
        if not kept:
            self.path.unlink(missing_ok=True)
            return
        write_whole(self.path, json.dumps(kept, ensure_ascii=False, indent=1))


def as_jsonl(corrections: Sequence[Correction]) -> str:
    """An ordinary dataset of messages."""
    return "".join(json.dumps(one.row(), ensure_ascii=False) + "\n" for one in corrections)


def old_rows(adapter: Adapter | None, runs: Runs) -> OldRows:
    """What the adapter was made of, where that is still here: the rows of its run, or the example's that ships with
    it.
    """
    if adapter is None:
        return OldRows()
    run_id = adapter.provenance.get("run")
    if isinstance(run_id, str) and not adapter.shipped:
        try:
            return OldRows(*runs.get(run_id).conversations())
        except ValueError:
            return OldRows()  # the run was deleted, and its rows with it
    if not adapter.shipped or adapter.name not in example_names():
        return OldRows()
    made = RunConfig.from_settings(adapter.provenance["settings"])
    # They were trained on a split that kept equal conversations together, and no others.
    return OldRows(*split(read_data(adapter.name), made.held_out, made.seed, keeps_apart=False))


def lesson(corrections: Sequence[Correction], old: OldRows, name: str, seed: int = 0) -> ChatData:
    """The corrections, and then several times more with old rows of other kinds among them in a seeded order. No
    correction is held out, since with ten none can be spared (benchmarks/teach.py), but old rows that the adapter never
    saw: they tell what it forgot. ValueError where there are no corrections.
    """
    if not corrections:
        raise ValueError("There is no correction to learn from yet. Correct an answer in the chat first.")
    chance, unseen = random.Random(seed), {digest(one.messages) for one in old.held}
    others = of_other_kinds([*old.learned, *old.held], corrections)
    held, learned = [], []
    for one in others:
        (held if digest(one.messages) in unseen else learned).append(one)
    wanted = min(len(learned), max(LEAST_OLD_ROWS, OLD_ROWS_EACH * len(corrections)))
    judging = chance.sample(held, min(len(held), PROMPTS_AT_THE_END))
    first = [one.row() for one in corrections]
    more = [*first * (TIMES_EACH - 1), *map(_row, chance.sample(learned, wanted))]
    chance.shuffle(more)
    rows = "\n".join(json.dumps(row, ensure_ascii=False) for row in (*first, *more, *map(_row, judging)))
    data = read_text(rows, name)
    count = len(data.conversations)
    return replace(data, kind=LESSON, own_held=tuple(range(count - len(judging), count)))


def lesson_settings(data: ChatData) -> dict[str, Any]:
    """What a lesson sets of its run; the rest follows from its rows. It holds out its own, whatever share they are."""
    share = math.ceil(1000 * len(data.own_held) / len(data.conversations)) / 1000
    return {"held_out": min(share, SETTINGS["held_out"].maximum)}


def of_other_kinds(old: Sequence[Conversation], corrections: Sequence[Correction]) -> list[Conversation]:
    """The old rows but those that say again what was corrected: rehearsed, they would teach against the corrections.

    A row goes where one of its answers is likelier as one of the answers that were corrected than as an old one, by the
    words that two of the corrected ones share, present or not (naive Bayes of several Bernoulli variables; McCallum and
    Nigam, "A Comparison of Event Models for Naive Bayes Text Classification", 1998). All stay where that were most.
    """
    answers = [[_words(turn["content"]) for turn in one.messages if turn["role"] == "assistant"] for one in old]
    every, corrected = [words for row in answers for words in row], [_words(one.was) for one in corrections]
    among_old, among_corrected = (Counter(word for words in some for word in words) for some in (every, corrected))
    shares = {word: ((number + 1) / (len(corrected) + 2), (among_old[word] + 1) / (len(every) + 2))
              for word, number in among_corrected.items() if number > 1}

    def is_alike(words: set[str]) -> bool:
        return sum(math.log(here / there) if word in words else math.log((1 - here) / (1 - there))
                   for word, (here, there) in shares.items()) > 0

    others = [one for one, row in zip(old, answers, strict=True) if not any(map(is_alike, row))]
    return others if 2 * len(others) >= len(old) else list(old)


def _row(one: Conversation) -> dict[str, list[Message]]:
    return {"messages": list(one.messages)}


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))


def _correction(plain: dict[str, Any]) -> Correction:
    asked = tuple({"role": str(turn["role"]), "content": str(turn["content"])} for turn in plain["asked"])
    return Correction(asked, str(plain["answer"]), str(plain["was"]))
