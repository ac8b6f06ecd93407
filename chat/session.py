"""An interactive chat in the terminal: lines in, every lane's answer out, and what lines with a slash do."""

from __future__ import annotations

import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from chat.drawing import checked_strength
from chat.speakers import Conversation, Speaker, check_count, export, note_of
from phi3.lane import Answer
from phi3.machine import path_of

if TYPE_CHECKING:
    from phi3.generate import Answerer

HELP = """/with NAME…         who answers from now on: base, NAME, NAME:STRENGTH, FOLDER or OWNER/NAME, up to eight;
                    what holds spaces stands in quotes
/strength NAME X    how strongly an adapter speaks, from 0 to 2
/system TEXT        a system message for all; without TEXT there is none
/retry              ask the last question again
/undo               take the last question and its answers back
/clear              forget all that was said
/export FILE        write it all to FILE.md or FILE.json
/help               these lines
/quit               end; Ctrl-D does it too, and Ctrl-C stops an answer"""


class Session:
    """What was said so far, and whoever answers. `speaker_of` finds an adapter by any name, or raises a ValueError."""

    def __init__(self, conversation: Conversation, answerer: Answerer, speaker_of: Callable[[str], Speaker]) -> None:
        self.conversation = conversation
        self._answerer, self._speaker_of = answerer, speaker_of
        self._commands: dict[str, Callable[[str], str]] = {
            "/with": self._with, "/strength": self._strength, "/system": self._system, "/retry": self._retry,
            "/undo": self._undo, "/clear": self._clear, "/export": self._export, "/help": lambda rest: HELP}

    def hear(self, line: str) -> bool:
        """Answer a line, or do what it says; False where it ends the chat. What can be mended is said in a sentence."""
        word, _, rest = line.strip().partition(" ")
        if word == "/quit":
            return False
        try:
            if word.startswith("/"):
                self._tell(self._command(word)(rest.strip()))
            elif word:
                self._ask(self.conversation, line.strip())
        except ValueError as problem:
            self._tell(str(problem))
        return True

    def _command(self, word: str) -> Callable[[str], str]:
        if word not in self._commands:
            raise ValueError(f"There is no command {word:.40}. /help shows those that there are.")
        return self._commands[word]

    def _tell(self, words: str) -> None:
        if words:
            print(words, flush=True)

    def _ask(self, before: Conversation, question: str) -> None:
        with _asked_to_stop() as stop, closing(self._answerer.answer(before.lanes(question), stop.is_set)) as snapshots:
            answers = shown_one_after_the_other(before.labels, snapshots)
        self.conversation = before.answered(question, answers)

    def _with(self, rest: str) -> str:
        if rest:
            names = _names_in(rest)
            check_count(names)
            self.conversation = self.conversation.among([self._speaker_of(name) for name in names])
        return f"Those who answer: {', '.join(self.conversation.labels)}."

    def _strength(self, rest: str) -> str:
        name, _, written = rest.rpartition(" ")
        try:
            strength = float(written)
        except ValueError:
            raise ValueError(f"/strength takes a name and a number, and not {rest!r:.80}.") from None
        self.conversation = self.conversation.as_strong(name.strip(), checked_strength(strength))
        return ""

    def _system(self, rest: str) -> str:
        asking = replace(self.conversation.asking, system=rest)
        self.conversation = replace(self.conversation, asking=asking)
        return "" if rest else "There is no system message now."

    def _retry(self, rest: str) -> str:
        self._ask(*self.conversation.undone())
        return ""

    def _undo(self, rest: str) -> str:
        self.conversation, question = self.conversation.undone()
        return f"Taken back: {question}"

    def _clear(self, rest: str) -> str:
        self.conversation = self.conversation.cleared()
        return ""

    def _export(self, rest: str) -> str:
        export(self.conversation, path_of(rest))
        return f"Written to {rest}."


def _names_in(written: str) -> list[str]:
    """Names as a shell reads them: one that holds spaces, as a folder may, stands in quotes. ValueError where these
    aren't closed.
    """
    try:
        return shlex.split(written)
    except ValueError:
        raise ValueError(f"A quote is opened and not closed in {written:.80}. Close it.") from None


def converse(session: Session) -> int:
    """Hear line after line until there are no more. Ctrl-C while nobody answers forgets the line."""
    prompt = "> " if sys.stdin.isatty() else ""
    while True:
        try:
            if not session.hear(input(prompt)):
                return 0
        except EOFError:
            if prompt:
                print()
            return 0
        except KeyboardInterrupt:
            print("\n/quit ends the chat, and so does Ctrl-D.")


def shown_one_after_the_other(labels: Sequence[str], snapshots: Iterator[list[Answer]]) -> list[Answer]:
    """Print each answer below its label as it grows; who comes later waits for those before to end, and is told at
    once as far as it is then. The last snapshot.
    """
    answers: list[Answer] = []
    place, shown = -1, ""
    for answers in snapshots:
        while place < 0 or answers[place].done:
            if place >= 0:
                print(_rest(answers[place], shown), flush=True)
            place, shown = place + 1, ""
            if place == len(labels):
                return answers
            print(f"{labels[place]}:", end=" ", flush=True)
        text = answers[place].text
        print(text[len(shown):], end="", flush=True)
        shown = text if len(text) > len(shown) else shown
    return answers


def _rest(answer: Answer, shown: str) -> str:
    """What of an answer that has ended isn't on the screen, and what should be known of it."""
    rest, note = answer.text[len(shown):], note_of(answer)
    return f"{rest}{' ' if answer.text else ''}[{note}]" if note else rest


@contextmanager
def _asked_to_stop() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C sets; the second interrupts."""
    stop = threading.Event()

    def ask(number: int, frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)
