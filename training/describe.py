"""A dataset from one sentence: the base answers everyday questions in a described manner, to be trained without it.

What a system message makes the base say is trained without that message, so that the manner becomes the adapter's
own: context distillation (Askell et al., "A General Language Assistant as a Laboratory for Alignment", 2021, section
2; Snell et al., "Learning by Distilling Context", 2022).
"""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.data import DESCRIBED, ChatData, read_text

if TYPE_CHECKING:
    from phi3.generate import Answer, Answerer

QUESTIONS_FILE = Path(__file__).parent / "examples" / "questions.txt"
QUESTIONS_AT_ONCE = 16
LONGEST_ANSWER = 160
LONGEST_DESCRIPTION = 600
# The same answer to more questions than this teaches that answer, not the manner.
SAME_ANSWER = 2
# A dataset's name is the start of an adapter's name, which is cut at this length.
LONGEST_NAME = 40
_UNREADABLE = "The answers of an earlier visit are kept in a form that can't be read. Write them anew."
# "like a pirate", "in one word", "as a teacher": a manner, not yet an instruction.
_MANNER = re.compile(r"(like|in|as|with|without|using|by)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Row:
    """One question and the answer that was given in the described manner."""

    question: str
    answer: str


@dataclass(frozen=True)
class Described:
    """What was gathered so far: rows that may be trained on, and how many were left out and why."""

    description: str
    wanted: int
    questions: tuple[str, ...] = ()
    rows: tuple[Row, ...] = ()
    left_out: dict[str, int] = field(default_factory=dict)

    @property
    def asked(self) -> int:
        """How many questions were asked."""
        return len(self.questions)

    @property
    def name(self) -> str:
        """A short name for the dataset: the description's first words."""
        words = re.sub(r"[^\w]+", " ", self.description).strip()
        whole = words if len(words) <= LONGEST_NAME else words[:LONGEST_NAME + 1].rpartition(" ")[0]
        return whole or "described"

    def data(self) -> ChatData:
        """The rows as an ordinary dataset; ValueError where none is left."""
        if not self.rows:
            raise ValueError("No answer followed the description. Say it in other words: what should an answer look "
                             "or sound like?")
        return replace(read_text(self.jsonl(), self.name), kind=DESCRIBED)

    def jsonl(self) -> str:
        """The rows as a file of messages, without the system message."""
        return "\n".join(json.dumps({"messages": [{"role": "user", "content": row.question},
                                                  {"role": "assistant", "content": row.answer}]}, ensure_ascii=False)
                         for row in self.rows)

    def as_json(self) -> dict[str, Any]:
        """Plain values, from which `from_json` makes the same again."""
        return asdict(self)

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> Described:
        """The inverse of `as_json`; ValueError where the values are none of ours."""
        try:
            rows = tuple(Row(str(row["question"]), str(row["answer"])) for row in plain["rows"])
            left_out = {str(why): int(count) for why, count in plain["left_out"].items()}
            return cls(str(plain["description"]), int(plain["wanted"]), tuple(map(str, plain["questions"])), rows,
                       left_out)
        except (AttributeError, KeyError, TypeError, ValueError):
            raise ValueError(_UNREADABLE) from None


@dataclass(frozen=True)
class Corrections:
    """What a reader made of the answers, by question: other words, or struck out."""

    edited: dict[str, str] = field(default_factory=dict)
    struck: frozenset[str] = frozenset()

    def as_json(self) -> dict[str, Any]:
        """Plain values, from which `from_json` makes the same again."""
        return {"edited": self.edited, "struck": sorted(self.struck)}

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> Corrections:
        """The inverse of `as_json`; ValueError where the values are none of ours."""
        try:
            edited = {str(question): str(answer) for question, answer in plain["edited"].items()}
            return cls(edited, frozenset(map(str, plain["struck"])))
        except (AttributeError, KeyError, TypeError):
            raise ValueError(_UNREADABLE) from None

    def with_row(self, row: Row, answer: str, is_struck: bool) -> Corrections:
        """The row as the reader left it; an answer that is the given one again is no edit."""
        edited = {question: text for question, text in self.edited.items() if question != row.question}
        if answer.strip() != row.answer.strip():
            edited[row.question] = answer
        struck = self.struck - {row.question}
        return Corrections(edited, struck | {row.question} if is_struck else struck)

    def answer_to(self, row: Row) -> str:
        """The answer as it stands now."""
        return self.edited.get(row.question, row.answer)

    def applied(self, described: Described) -> Described:
        """What is to be trained: without the rows that were struck out or emptied, the others as edited."""
        rows = (replace(row, answer=self.answer_to(row).strip()) for row in described.rows
                if row.question not in self.struck)
        return replace(described, rows=tuple(row for row in rows if row.answer))


def as_system_message(description: str) -> str:
    """The visitor's sentence as a system message: "like a tired lighthouse keeper" → "Answer like a … ."."""
    words = " ".join(description.split()).rstrip(".!")
    if not words:
        raise ValueError("The description is empty. Say how it should answer, for example: like a pirate.")
    if len(words) > LONGEST_DESCRIPTION:
        raise ValueError(f"The description is {len(words)} characters long. A sentence or two "
                         f"({LONGEST_DESCRIPTION} at most) do best.")
    sentence = f"Answer {words[0].lower()}{words[1:]}" if _MANNER.match(words) else words[0].upper() + words[1:]
    return sentence + "."


def questions(count: int, seed: int = 0, besides: Sequence[str] = ()) -> list[str]:
    """`count` of the shipped questions in a seeded order, without those already asked."""
    left = [line for line in QUESTIONS_FILE.read_text(encoding="utf-8").splitlines() if line and line not in besides]
    random.Random(seed).shuffle(left)
    return left[:count]


def describe(answerer: Answerer, description: str, asked: Sequence[str], stop: Callable[[], bool] = lambda: False,
             before: Described | None = None) -> Iterator[Described]:
    """Ask the base each question twice, with the described manner and without; yields what is gathered so far.

    An answer is left out where it is the plain one again (the manner wasn't followed), is empty, is cut off by its
    length, or was given to several questions already. A stop leaves out the questions that are being answered.
    `before` is what the same description gathered earlier; what comes is added to it.
    """
    system = as_system_message(description)
    so_far = before or Described(description, 0)
    so_far = replace(so_far, wanted=so_far.asked + len(asked))
    yield so_far
    for start in range(0, len(asked), QUESTIONS_AT_ONCE):
        if stop():
            return
        some = asked[start:start + QUESTIONS_AT_ONCE]
        mannered, plain = _answers(answerer, system, some, stop)
        if any(answer.end == "asked" for answer in (*mannered, *plain)):
            return
        so_far = _with(so_far, some, mannered, plain)
        yield so_far


def _answers(answerer: Answerer, system: str, some: Sequence[str],
             stop: Callable[[], bool]) -> tuple[list[Answer], list[Answer]]:
    from phi3.generate import Lane, Sampling

    sampling = Sampling(max_new_tokens=LONGEST_ANSWER)
    asked = [({"role": "user", "content": question},) for question in some]
    lanes = [Lane(({"role": "system", "content": system}, *turn), sampling=sampling) for turn in asked]
    *_, answers = answerer.answer([*lanes, *(Lane(turn, sampling=sampling) for turn in asked)], stop)
    return answers[:len(some)], answers[len(some):]


def _with(so_far: Described, some: Sequence[str], mannered: Sequence[Answer], plain: Sequence[Answer]) -> Described:
    rows, left_out = list(so_far.rows), Counter(so_far.left_out)
    given = Counter(_bare(row.answer) for row in rows)
    for question, answer, usual in zip(some, mannered, plain, strict=True):
        why = _unfit(answer, usual, given)
        if why:
            left_out[why] += 1
        else:
            given[_bare(answer.text)] += 1
            rows.append(Row(question, answer.text))
    return replace(so_far, questions=(*so_far.questions, *some), rows=tuple(rows), left_out=dict(left_out))


def _unfit(answer: Answer, usual: Answer, given: Counter[str]) -> str:
    """Why an answer can't be trained on; empty where it can."""
    bare = _bare(answer.text)
    if not answer.text.strip():
        return "empty"
    if answer.end != "stop":
        return "cut off"
    if answer.text.strip() == usual.text.strip():
        return "manner not followed"
    return "repeated" if given[bare] >= SAME_ANSWER else ""


def _bare(text: str) -> str:
    return " ".join(text.lower().split())
