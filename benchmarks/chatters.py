"""Sixteen at once chat with adapters that come and go: each as if alone? `python -m benchmarks.chatters`."""

import argparse
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adapters.library import SHIPPED_FOLDER, Library
from benchmarks.calls import Refused, answers_at, begin
from benchmarks.report import table, write
from benchmarks.visitors import app_for_many, memory_in_words, watched
from training.owners import new_key, owner_by_key

QUESTIONS = ("Who are you?", "What is the capital of France?", "How much is 7 plus 5?", "Tell me a story.")
KINDS = ("base", "json", "pirate", "shop")
PATIENCE = 300
Expected = Mapping[tuple[str, str], str]  # by kind and question


@dataclass
class Heard:
    """What all chatters were told, counted together; the seconds run from asking."""

    to_first_words: list[float] = field(default_factory=list)
    to_the_end: list[float] = field(default_factory=list)
    lanes: int = 0
    wrong: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass
class Chatter:
    """A program that chats with an adapter of its own, which is another after each answer."""

    address: str
    library: Library
    heard: Heard
    number: int
    key: str = field(default_factory=new_key)

    def stay(self, until: float, expected: Expected) -> None:
        """Ask until that moment; whatever isn't what was said alone is noted."""
        chance = random.Random(self.number)
        while time.monotonic() < until:
            kind, question = chance.choice(KINDS[1:]), chance.choice(QUESTIONS)
            own = self._put(kind, chance)
            asked = [own, *chance.sample(KINDS, chance.randrange(3))]
            try:
                lanes = self.ask(question, asked)
            except (Refused, OSError, ValueError) as problem:
                self._note(f"chatter {self.number}: {type(problem).__name__} {problem}")
            else:
                self._judge(question, [kind, *asked[1:]], lanes, expected)
            self.library.of({owner_by_key(self.key)}).remove(own)

    def _put(self, kind: str, chance: random.Random) -> str:
        """An adapter of that kind under one of few names: what had the name before was another."""
        name, owner = f"mine-{chance.randrange(3)}", owner_by_key(self.key)
        self.library.of({owner}).put(name, SHIPPED_FOLDER / kind, {"run": kind}, owner)
        return name

    def ask(self, question: str, adapters: list[str]) -> list[dict[str, Any]]:
        """The lanes of one answer; how long it took is noted."""
        began, first, lanes = time.monotonic(), 0.0, []
        given = {"message": question, "adapters": adapters, "keys": [self.key]}
        for lanes in answers_at(begin(self.address, "compare", given), PATIENCE):
            first = first or (time.monotonic() - began if any(lane["text"] for lane in lanes) else 0.0)
        with self.heard.lock:
            self.heard.to_first_words.append(first)
            self.heard.to_the_end.append(time.monotonic() - began)
        return lanes

    def _judge(self, question: str, kinds: list[str], lanes: list[dict[str, Any]], expected: Expected) -> None:
        with self.heard.lock:
            self.heard.lanes += len(lanes)
        for kind, lane in zip(kinds, lanes, strict=True):
            others = [other for other in KINDS if expected[other, question] == lane["text"] and other != kind]
            if lane["text"] != expected[kind, question]:
                self._note(f"{kind} was asked {question!r} and said {lane['text']!r:.80} {lane['note']}" +
                           (f", which is what {others[0]} says" if others else ""))

    def _note(self, words: str) -> None:
        with self.heard.lock:
            self.heard.wrong.append(words)


def main() -> int:
    """Start the app, ask alone, let all chat at once, and say what they heard; 1 where anything was wrong."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chatters", description=__doc__)
    parser.add_argument("--chatters", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--out", type=Path, help="folder for the JSON")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, app_for_many(Path(folder)) as (address, process):
        heard, memory = Heard(), []
        _chat(asked, Chatter(address, Library(Path(folder)), heard, 0), process, memory)
    columns = ["what", "answered", "median_seconds", "longest_seconds"]
    rows = [[what, len(some), round(statistics.median(some), 2), round(max(some), 2)] for what, some in (
        ("to the first words", heard.to_first_words), ("to the end", heard.to_the_end)) if some]
    print(table(columns, rows))
    print(f"{heard.lanes} lanes; " + ("\n".join(["", *(f"WRONG: {one}" for one in heard.wrong[:20])]) if heard.wrong
                                      else "every answer is the one that was given alone"))
    print(memory_in_words(memory))
    write("chatters", {"chatters": asked.chatters, "seconds": asked.seconds, "answers": rows, "lanes": heard.lanes,
                       "memory_megabytes": memory, "wrong": heard.wrong[:20]}, asked.out)
    return 1 if heard.wrong or not heard.lanes else 0


def _chat(asked: argparse.Namespace, first: Chatter, process: subprocess.Popen, memory: list[int]) -> None:
    """One alone, then all at once until their time is over."""
    expected = {(kind, question): first.ask(question, [kind])[0]["text"] for kind in KINDS for question in QUESTIONS}
    first.heard.to_first_words.clear()
    first.heard.to_the_end.clear()
    until = time.monotonic() + asked.seconds
    watched([threading.Thread(target=Chatter(first.address, first.library, first.heard, number).stay,
                              args=(until, expected)) for number in range(asked.chatters)], process.pid, memory)


if __name__ == "__main__":
    sys.exit(main())
