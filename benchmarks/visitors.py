"""Fifty visitors at once: does each see only what is theirs, and in sentences? `python -m benchmarks.visitors`."""

import argparse
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.calls import Refused, answer_at, begin
from benchmarks.report import table, write

ROOT = Path(__file__).resolve().parent.parent
ROWS = "\n".join(json.dumps({"prompt": f"Say {number}.", "completion": f"Arr, {number}!"}) for number in range(12))
SETTINGS = {"max_steps": 3, "eval_steps": 100, "r": 2, "held_out": 0.1}


@dataclass
class Visits:
    """What all visitors saw, counted together."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    refused: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    begun: list[tuple[str, str]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, name: str, seconds: float) -> None:
        """One answered call."""
        with self.lock:
            self.seconds.setdefault(name, []).append(seconds)


@dataclass
class Visitor:
    """A program with its own keys; it lists, starts, follows and stops, and tries what is somebody else's."""

    address: str
    visits: Visits
    number: int
    keys: dict[str, str] = field(default_factory=dict)

    def stay(self, until: float) -> None:
        """Visit until that moment; whatever is not a sentence is noted as wrong."""
        chance = random.Random(self.number)
        while time.monotonic() < until:
            action = chance.choice((self.list, self.list, self.start, self.follow, self.follow, self.halt, self.pry))
            try:
                action(chance)
            except Refused as refused:
                self._note_refusal(str(refused))
            except (OSError, ValueError) as problem:
                self._note_wrong(f"{action.__name__}: {type(problem).__name__} {problem}")

    def list(self, chance: random.Random) -> None:
        """Only one's own runs are listed."""
        listed = {one["run"] for one in self.call("runs", list(self.keys.values()))}
        if listed != set(self.keys):
            self._note_wrong(f"visitor {self.number} has {sorted(self.keys)} and sees {sorted(listed)}")

    def start(self, chance: random.Random) -> None:
        """A short run; it may have to wait, and a limit may refuse it."""
        begun = self.call("train", *_given(text=ROWS), {**SETTINGS, "seed": self.number})
        self.keys[begun["run"]] = begun["key"]
        with self.visits.lock:
            self.visits.begun.append((begun["run"], begun["key"]))

    def follow(self, chance: random.Random) -> None:
        """What one's own run says."""
        if self.keys:
            run = chance.choice(sorted(self.keys))
            if self.call("run", run, self.keys[run])["run"] != run:
                self._note_wrong(f"{run} is another")

    def halt(self, chance: random.Random) -> None:
        """Stop one's own run."""
        if self.keys:
            run = chance.choice(sorted(self.keys))
            self.call("stop", run, self.keys[run])

    def pry(self, chance: random.Random) -> None:
        """Somebody else's run, with one's own key: never to be read or stopped."""
        with self.visits.lock:
            others = [run for run, _ in self.visits.begun if run not in self.keys]
        if not others:
            return
        for name in ("run", "stop"):
            try:
                self.call(name, chance.choice(others), next(iter(self.keys.values()), "guess"))
            except Refused as refused:
                self._note_refusal(str(refused))
            else:
                self._note_wrong(f"/{name} opened somebody else's run")

    def call(self, name: str, *given: Any) -> Any:
        """What the endpoint answers; Refused with its words."""
        began = time.monotonic()
        said = answer_at(begin(self.address, name, given), 120)
        self.visits.note(name, time.monotonic() - began)
        return said

    def _note_refusal(self, words: str) -> None:
        with self.visits.lock:
            self.visits.refused[words.split(".")[0][:60]] += 1
        if not words.endswith(".") or "Error" in words or "Traceback" in words or "log says" in words:
            self._note_wrong(f"no sentence: {words[:200]}")

    def _note_wrong(self, words: str) -> None:
        with self.visits.lock:
            self.visits.wrong.append(words)


def main() -> int:
    """Start the app, let them in, and say what they saw; 1 where anything was wrong."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.visitors", description=__doc__)
    parser.add_argument("--visitors", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--out", type=Path, help="folder for the JSON")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, app_for_many(Path(folder)) as (address, process):
        visits, memory = Visits(), []
        _come(asked, address, visits, process, memory)
    rows = [[name, len(some), round(statistics.median(some), 2), round(max(some), 2)]
            for name, some in sorted(visits.seconds.items())]
    print(table(["call", "answered", "median_seconds", "longest_seconds"], rows))
    print("\n".join(f"refused {count} times: {words}" for words, count in visits.refused.most_common()))
    print("\n".join(f"WRONG: {words}" for words in visits.wrong[:20]) or "nothing was wrong")
    print(memory_in_words(memory))
    write("visitors", {"visitors": asked.visitors, "seconds": asked.seconds, "calls": rows, "memory_megabytes": memory,
                       "refused": visits.refused, "wrong": visits.wrong[:20]}, asked.out)
    return 1 if visits.wrong else 0


def _come(asked: argparse.Namespace, address: str, visits: Visits, process: subprocess.Popen,
          memory: list[int]) -> None:
    """All visitors at once until their time is over."""
    until = time.monotonic() + asked.seconds
    watched([threading.Thread(target=Visitor(address, visits, number).stay, args=(until,))
             for number in range(asked.visitors)], process.pid, memory)


def watched(threads: Sequence[threading.Thread], pid: int, memory: list[int]) -> None:
    """All threads at once until they end; the process's memory (megabytes) is noted twice a second."""
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive():
            memory.append(memory_of(pid))
            thread.join(0.5)


def memory_in_words(memory: Sequence[int]) -> str:
    """Whether it stayed as it was."""
    grown = max(memory[len(memory) // 2:]) / max(memory[:len(memory) // 2 + 1])
    return (f"memory of the app: {memory[0]} MB at first, {max(memory)} MB at most, {memory[-1]} MB at last; second "
            f"half against first {grown:.2f}")


def memory_of(pid: int) -> int:
    """Resident megabytes of a process."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))) // 1024


def _given(**data: str) -> tuple[Any, ...]:
    """What a call says of its data, in the order of its parameters."""
    from tabs.api_data import Asked

    return astuple(Asked(**data))


@contextmanager
def app_for_many(home: Path) -> Iterator[tuple[str, subprocess.Popen]]:
    """The app as a Space runs it, once its page answers and its base is loaded."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = {**os.environ, "STUDIO_HOME": str(home), "STUDIO_VISITORS": "many", "GRADIO_SERVER_PORT": str(port)}
    process = subprocess.Popen([sys.executable, "app.py"], cwd=ROOT, env=settings, stdin=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}/"
    try:
        _wait_for(address)
        Visitor(address, Visits(), 0).call("inspect", *_given(example="pirate"), 1024)  # waits for the tokenizer
        time.sleep(10)  # the base follows, and belongs to the memory that is there at first
        yield address, process
    finally:
        process.terminate()
        process.wait(30)


def _wait_for(address: str) -> None:
    for _ in range(600):
        try:
            urllib.request.urlopen(address, timeout=10).close()
            return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.2)
    raise ValueError(f"No page came at {address}.")


if __name__ == "__main__":
    sys.exit(main())
