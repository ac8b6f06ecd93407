"""Many prompts through all lanes: a table of answers, to be read or taken away."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from adapters.library import Library
from chat.conversation import Asking, Talks, answered, with_question
from phi3.generate import Answer, Answerer

MOST_PROMPTS = 100
ROWS_AT_ONCE = 8


@dataclass(frozen=True)
class Compared:
    """One prompt, and each lane's answer to it."""

    prompt: str
    answers: tuple[Answer, ...]


def prompts_in(written: str) -> list[str]:
    """One prompt a line; ValueError where there is none, or too many."""
    found = [line.strip() for line in written.splitlines() if line.strip()]
    if not found:
        raise ValueError("Write at least one prompt, each on a line of its own.")
    if len(found) > MOST_PROMPTS:
        raise ValueError(f"These are {len(found)} prompts, and {MOST_PROMPTS} are the most. Leave some out.")
    return found


def compared(prompts: Sequence[str], talks: Talks, answerer: Answerer, library: Library, asking: Asking,
             stop: Callable[[], bool]) -> Iterator[list[Compared]]:
    """Every prompt as a conversation of its own, answered by every lane, several prompts in one batch; a snapshot after
    each batch.
    """
    done: list[Compared] = []
    at_once = max(1, ROWS_AT_ONCE // len(talks))
    for first in range(0, len(prompts), at_once):
        if stop():
            return
        part = prompts[first:first + at_once]
        asked = tuple(replace(talk, turns=()).asking(1, prompt) for prompt in part for talk in talks)
        *_, last = answered(asked, answerer, library, asking, stop)
        said = [talk.turns[-1].answer for talk in last]
        done += [Compared(prompt, tuple(said[place * len(talks):(place + 1) * len(talks)]))
                 for place, prompt in enumerate(part)]
        yield list(done)


def as_csv(rows: Sequence[Compared], authors: Sequence[str]) -> str:
    """A table for spreadsheets: what begins as a formula would is quoted, so that none runs there."""
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(["prompt", *map(_harmless, authors)])
    for row in rows:
        writer.writerow([_harmless(row.prompt), *(_harmless(one.text or one.note) for one in row.answers)])
    return file.getvalue()


def authors_of(talks: Talks) -> list[str]:
    """Each lane's name in the table's head."""
    return [talk.turns[-1].author for talk in with_question(tuple(replace(one, turns=()) for one in talks), "")]


def _harmless(text: str) -> str:
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
