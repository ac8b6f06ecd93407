"""Lanes in a terminal as plain values: who answers how strongly, what each was asked and said, and that as a file."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from chat import conversation
from chat.conversation import Turn
from chat.drawing import checked_strength
from phi3.lane import Answer, Lane, Sampling

MOST_LANES = 8
_WITH_STRENGTH = re.compile(r"(?P<name>.+):(?P<strength>\d+(?:\.\d*)?|\.\d+)")


@dataclass(frozen=True)
class Speaker:
    """Who answers in a lane: an adapter's name and folder, or the base, and how strongly."""

    name: str
    folder: str | None = None
    strength: float = 1.0

    @property
    def label(self) -> str:
        """How it is written on the command line."""
        return self.name if self.strength == 1 or self.folder is None else f"{self.name}:{self.strength:g}"


@dataclass(frozen=True)
class Talk:
    """One lane: who answers in it from now on, and its own conversation."""

    speaker: Speaker
    turns: tuple[Turn, ...] = ()

    def lane(self, question: str, system: str, sampling: Sampling) -> Lane:
        """What the model reads; answers that failed are left out with their questions."""
        asked = conversation.Talk(self.speaker.name, self.turns).asking(0, question)
        return Lane(asked.messages(system), self.speaker.folder, sampling, self.speaker.strength)


@dataclass(frozen=True)
class Conversation:
    """All lanes, and the system message that each of them has."""

    talks: tuple[Talk, ...]
    system: str = ""

    def lanes(self, question: str, sampling: Sampling) -> list[Lane]:
        """The question to everybody."""
        return [talk.lane(question, self.system, sampling) for talk in self.talks]

    def answered(self, question: str, answers: Sequence[Answer]) -> Conversation:
        """With one turn more in each lane."""
        sent = conversation.last_sent(self.talks) + 1
        return replace(self, talks=tuple(
            replace(talk, turns=(*talk.turns, Turn(sent, question, talk.speaker.label, answer)))
            for talk, answer in zip(self.talks, answers, strict=True)))

    def undone(self) -> tuple[Conversation, str]:
        """Without the last question and its answers; the question itself. ValueError where there is none."""
        if not conversation.has_answers(self.talks):
            raise ValueError("Nothing was asked yet. Write a question.")
        before, question = conversation.undone(self.talks)
        return replace(self, talks=before), question

    def cleared(self) -> Conversation:
        """The same lanes, nothing said."""
        return replace(self, talks=conversation.cleared(self.talks))

    def among(self, speakers: Sequence[Speaker]) -> Conversation:
        """With these lanes from now on; who was there before keeps their conversation."""
        kept = {talk.speaker: talk for talk in reversed(self.talks)}
        return replace(self, talks=tuple(kept.pop(speaker, Talk(speaker)) for speaker in speakers))

    def as_strong(self, name: str, strength: float) -> Conversation:
        """With another strength for whoever has this name; ValueError where nobody has it."""
        if name not in {talk.speaker.name for talk in self.talks if talk.speaker.folder}:
            labels = ", ".join(talk.speaker.label for talk in self.talks)
            raise ValueError(f"{name} is no adapter that answers here. Those who answer: {labels}.")
        return replace(self, talks=tuple(
            replace(talk, speaker=replace(talk.speaker, strength=strength)) if talk.speaker.name == name else talk
            for talk in self.talks))


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
    text = as_markdown(said) if path.suffix == ".md" else as_json(said)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise ValueError(f"{path} is there already. Choose another name.") from None
    except OSError as problem:
        raise ValueError(f"{path} can't be written ({problem.strerror}). Choose another place.") from None


def as_json(said: Conversation) -> str:
    """The lanes as an object: for each its name, strength and messages, as a row of chat data has them."""
    lanes = [{"adapter": talk.speaker.name, "strength": talk.speaker.strength,
              "messages": [{"role": role, "content": content} for turn in talk.turns
                           for role, content in (("user", turn.question), ("assistant", turn.answer.text))]}
             for talk in said.talks]
    return json.dumps({"system": said.system, "lanes": lanes}, ensure_ascii=False, indent=2) + "\n"


def as_markdown(said: Conversation) -> str:
    """The lanes one after the other, to be read."""
    parts = [f"System message: {said.system}"] if said.system else []
    for talk in said.talks:
        parts.append(f"# {talk.speaker.label}")
        parts += [part for turn in talk.turns for part in (
            f"**You:** {turn.question}", f"**{turn.by}:** {turn.answer.text or turn.answer.note}")]
    return "\n\n".join(parts) + "\n"
