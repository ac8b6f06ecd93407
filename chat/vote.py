"""Blind comparison: whose answer was best, a tally with its uncertainty, and the votes as preference pairs."""

from __future__ import annotations

import fcntl
import hashlib
import itertools
import json
import math
import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from adapters.library import file_name
from phi3.template import Message

Verdict = Literal["best", "tie", "all bad"]
FOLDER = "votes"
# Two-sided 95 %.
_Z = 1.959964
_MOST_KEPT = 10_000


@dataclass(frozen=True)
class Said:
    """One lane's answer, whose it was, and all that it was an answer to."""

    by: str
    asked: tuple[Message, ...]
    text: str


@dataclass(frozen=True)
class Vote:
    """What somebody thought of answers whose authors they couldn't see; `best` is a place among them, or None."""

    answers: tuple[Said, ...]
    verdict: Verdict
    best: int | None = None

    def __post_init__(self) -> None:
        if (self.verdict == "best") != (self.best is not None):
            raise ValueError("A vote names the best answer, or says that they are equal, or all bad.")
        if self.best is not None and not 0 <= self.best < len(self.answers):
            raise ValueError(f"There is no answer number {self.best + 1} to vote for.")


@dataclass(frozen=True)
class Standing:
    """How one adapter does against the others: each pair of answers in a vote is one meeting, a tie half a win.

    `low` and `high` are Wilson's 95 % interval of `share` (Wilson, "Probable Inference", 1927), which holds for few
    votes too, over as many meetings as tell anything of their own: the best of four wins three by one vote.
    """

    by: str
    wins: int
    ties: int
    losses: int
    share: float
    low: float
    high: float


def shuffled(count: int, seed: int) -> tuple[int, ...]:
    """In which order the lanes' answers are shown: the i-th shown is the lane at this place."""
    order = list(range(count))
    random.Random(seed).shuffle(order)
    return tuple(order)


def tally(votes: Sequence[Vote]) -> list[Standing]:
    """Everybody who was voted on, the best share first; votes that found all bad are no meetings."""
    met: defaultdict[str, list[Counter[str]]] = defaultdict(list)
    for vote in votes:
        for by, results in _meetings(vote).items():
            met[by].append(results)
    return sorted((_standing(by, results) for by, results in met.items()), key=lambda one: (-one.share, one.by))


def pairs(votes: Sequence[Vote]) -> Iterator[dict[str, list[Message]]]:
    """Preference pairs as TRL's DPO trainer reads conversations: `prompt`, `chosen` and `rejected`, each a list of
    messages. Only answers to the very same messages make a pair, and only where they differ.
    """
    for vote in votes:
        if vote.best is None:
            continue
        chosen = vote.answers[vote.best]
        for other in vote.answers:
            if other.asked == chosen.asked and other.text != chosen.text:
                yield {"prompt": list(chosen.asked), "chosen": [{"role": "assistant", "content": chosen.text}],
                       "rejected": [{"role": "assistant", "content": other.text}]}


def pairs_as_jsonl(votes: Sequence[Vote]) -> str:
    """The same as a file, one pair a line."""
    return "".join(json.dumps(pair, ensure_ascii=False) + "\n" for pair in pairs(votes))


class Votes:
    """One owner's votes on this disk, one line each."""

    def __init__(self, home: Path, owner: str) -> None:
        sign = hashlib.sha256(owner.encode()).hexdigest()[:12]
        self.path = home / FOLDER / f"{file_name(owner, sign)}.jsonl"

    def all(self) -> list[Vote]:
        """Oldest first, the newest of them where there are very many; a damaged line is passed over."""
        if not self.path.is_file():
            return []
        # Not `splitlines`: JSON leaves line breaks of other kinds, such as U+2028, as they are.
        lines = [line for line in self.path.read_text(encoding="utf-8", errors="replace").split("\n") if line]
        return [vote for vote in map(_vote_in, lines[-_MOST_KEPT:]) if vote is not None]

    def add(self, vote: Vote) -> None:
        """Keep one more."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(vote), ensure_ascii=False) + "\n")

    def take_over(self, other: Votes) -> None:
        """Those of another owner are this one's from now on."""
        if not other.path.is_file():
            return
        with self.path.open("a", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # another tab of the same browser may do so, too
            if other.path.is_file():
                file.write(other.path.read_text(encoding="utf-8"))
                other.forget()

    def forget(self) -> None:
        """Delete them all."""
        self.path.unlink(missing_ok=True)


def _meetings(vote: Vote) -> dict[str, Counter[str]]:
    """The wins, ties and losses of everybody who met another in this vote."""
    found: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for (place, one), (other_place, other) in itertools.combinations(enumerate(vote.answers), 2):
        if one.by == other.by or vote.verdict == "all bad":
            continue
        if vote.best in (place, other_place):
            best, rest = (one, other) if vote.best == place else (other, one)
            found[best.by]["wins"] += 1
            found[rest.by]["losses"] += 1
        elif vote.verdict == "tie":
            found[one.by]["ties"] += 1
            found[other.by]["ties"] += 1
    return found


def _standing(by: str, results: Sequence[Counter[str]]) -> Standing:
    total = sum(results, Counter())
    share = _won(total) / total.total()
    met = _independent(results, share)
    middle = (share + _Z**2 / (2 * met)) / (1 + _Z**2 / met)
    half = _Z / (1 + _Z**2 / met) * math.sqrt(share * (1 - share) / met + _Z**2 / (4 * met**2))
    return Standing(by, total["wins"], total["ties"], total["losses"], share, max(0.0, middle - half),
                    min(1.0, middle + half))


def _won(results: Counter[str]) -> float:
    return results["wins"] + results["ties"] / 2


def _independent(results: Sequence[Counter[str]], share: float) -> float:
    """How many meetings, each by a vote of its own, would make this share as certain as these votes do, and no more
    than there are votes: the effective sample size (Franco et al., "Comparative Study of Confidence Intervals for
    Proportions in Complex Sample Surveys", 2019).
    """
    spread = sum((_won(one) - share * one.total()) ** 2 for one in results)
    if not spread:
        return len(results)
    return min(len(results), share * (1 - share) * sum(one.total() for one in results) ** 2 / spread)


def _vote_in(line: str) -> Vote | None:
    try:
        plain: dict[str, Any] = json.loads(line)
        answers = tuple(Said(str(one["by"]), tuple({"role": str(turn["role"]), "content": str(turn["content"])}
                                                   for turn in one["asked"]), str(one["text"]))
                        for one in plain["answers"])
        return Vote(answers, plain["verdict"], plain["best"])
    except (ValueError, KeyError, TypeError):
        return None
