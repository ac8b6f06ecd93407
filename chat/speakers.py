"""The lanes of a terminal: who answers in each, by name, folder and strength, and what was said as the page has it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from chat import conversation
from chat.conversation import BASE, Asking, Talk, Talks
from chat.drawing import checked_strength
from chat.export import as_json, as_markdown
from phi3.lane import Answer, Lane

MOST_LANES = 8
_WITH_STRENGTH = re.compile(r"(?P<name>.+):(?P<strength>\d+(?:\.\d*)?|\.\d+)")


@dataclass(frozen=True)
class Speaker:
    """Who answers in a lane: an adapter's name and folder, or the base, and how strongly."""

    name: str
    folder: str | None = None
    strength: float = 1.0


@dataclass(frozen=True)
class Conversation:
    """All lanes, what holds for each of them, and in which folder the adapter of a name lies."""

    talks: Talks = ()
    asking: Asking = field(default_factory=Asking)
    folders: Mapping[str, str] = field(default_factory=dict)

    @property
    def labels(self) -> list[str]:
        """The lanes' names as they are written on the command line."""
        return [talk.adapter if talk.strength == 1 else f"{talk.adapter}:{talk.strength:g}" for talk in self.talks]

    def among(self, speakers: Sequence[Speaker]) -> Conversation:
        """With these lanes from now on; who was there before keeps their conversation."""
        kept = {(talk.adapter, talk.strength): talk for talk in reversed(self.talks)}
        talks = tuple(kept.pop((one.name, one.strength), Talk(one.name, strength=one.strength)) for one in speakers)
        folders = {one.name: one.folder for one in speakers if one.folder}
        return replace(self, talks=talks, folders={**self.folders, **folders})

    def lanes(self, question: str) -> list[Lane]:
        """The question to everybody."""
        return [Lane(talk.messages(self.asking.system), self.folders.get(talk.adapter), self.asking.sampling,
                     talk.strength) for talk in conversation.with_question(self.talks, question)]

    def answered(self, question: str, answers: Sequence[Answer]) -> Conversation:
        """With one turn more in each lane."""
        return replace(self, talks=conversation.told(self.talks, question, answers, self.asking.system))

    def undone(self) -> tuple[Conversation, str]:
        """Without the last question and its answers; the question itself. ValueError where there is none."""
        if not conversation.has_answers(self.talks):
            raise ValueError("Nothing was asked yet. Write a question.")
        before, question = conversation.undone(self.talks)
        return replace(self, talks=before), question

    def cleared(self) -> Conversation:
        """The same lanes, nothing said."""
        return replace(self, talks=conversation.cleared(self.talks))

    def as_strong(self, name: str, strength: float) -> Conversation:
        """With another strength for whoever has this name; ValueError where nobody has it."""
        if name not in {talk.adapter for talk in self.talks} - {BASE}:
            raise ValueError(f"{name} is no adapter that answers here. Those who answer: {', '.join(self.labels)}.")
        return replace(self, talks=tuple(replace(talk, strength=strength) if talk.adapter == name else talk
                                         for talk in self.talks))


def note_of(answer: Answer) -> str:
    """What whoever reads an answer in the terminal should know of it: its note, and that it was cut."""
    cut = f"Cut at the longest answer allowed: {answer.tokens:,} tokens." if answer.end == "length" else ""
    return " ".join(filter(None, (answer.note, cut)))


def strength_in(written: str) -> tuple[str, float | None]:
    """NAME or NAME:STRENGTH taken apart; ValueError where the strength is above the highest."""
    found = _WITH_STRENGTH.fullmatch(written)
    return (written, None) if found is None else (found["name"], checked_strength(float(found["strength"])))


def check_count(names: Sequence[str]) -> None:
    """ValueError where more lanes are asked for than can be."""
    if len(names) > MOST_LANES:
        raise ValueError(f"{len(names)} lanes were asked for; {MOST_LANES} at most answer at once.")


def export(said: Conversation, path: Path) -> None:
    """Write all that was said, as Markdown or as JSON by the file's ending; ValueError where that is another, or the
    file is there already or can't be written.
    """
    if path.suffix not in (".md", ".json"):
        raise ValueError(f"{path} ends neither with .md nor with .json. Choose one of them.")
    text = (as_markdown if path.suffix == ".md" else as_json)(said.talks, said.asking)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise ValueError(f"{path} is there already. Choose another name.") from None
    except OSError as problem:
        with suppress(OSError):  # half a file would be there already at the next try
            path.unlink()
        raise ValueError(f"{path} can't be written ({problem.strerror}). Choose another place.") from None
