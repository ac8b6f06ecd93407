"""Conversations to take away: as Markdown for people, as JSON for programs, and as an address that opens the lanes."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from chat.conversation import Asking, Talk, Talks
from chat.drawing import is_strength, sampling_of
from phi3.generate import Sampling

LONGEST_SYSTEM = 4000
# Where a block of code begins or ends, as CommonMark has it.
_FENCE = re.compile(r"^ {0,3}(`{3,}(?=[^`]*$)|~{3,})(.*)$", re.MULTILINE)


def as_json(talks: Talks, asking: Asking) -> str:
    """Every lane with its messages in OpenAI's form, of each answer among these whose it was, and how they were drawn.
    """
    lanes = [{"adapter": talk.adapter, "strength": talk.strength,
              "messages": list(_everything(talk, asking.system)),
              "answers": [{"by": turn.by, "strength": turn.strength, "tokens": turn.answer.tokens,
                           "seconds": round(turn.answer.seconds, 3), "end": turn.answer.end}
                          for turn in talk.turns if turn.answer.text]}
             for talk in talks]
    return json.dumps({"lanes": lanes, "sampling": dataclasses.asdict(asking.sampling)}, ensure_ascii=False, indent=1)


def as_markdown(talks: Talks, asking: Asking) -> str:
    """Every message with each lane's answer under it."""
    parts = ["# A conversation, side by side"]
    if asking.system.strip():
        parts.append(f"System message:\n\n{_quoted(asking.system)}")
    for sent in sorted({turn.sent for talk in talks for turn in talk.turns}):
        told = [turn for talk in talks for turn in talk.turns if turn.sent == sent]
        parts.append(f"## {sent}\n\n{_quoted(told[0].question)}")
        for turn in told:
            note = f"\n\n*{turn.answer.note}*" if turn.answer.note else ""
            parts.append(f"**{turn.author}**\n\n{_closed(turn.answer.text) or '(no answer)'}{note}")
    return "\n\n".join(parts) + "\n"


def as_query(talks: Talks, asking: Asking) -> str:
    """The address's query that opens these lanes with these settings; nothing of what was said is in it."""
    query = [("adapter", talk.adapter) for talk in talks]
    if any(talk.strength != 1 for talk in talks):
        query += [("strength", f"{talk.strength:g}") for talk in talks]
    if asking.system.strip():
        query.append(("system", asking.system[:LONGEST_SYSTEM]))
    usual = Sampling()
    for name, value in dataclasses.asdict(asking.sampling).items():
        if value != vars(usual)[name]:
            query.append((name, "\n".join(value) if isinstance(value, (tuple, list)) else str(value)))
    return urlencode(query)


def asking_of(query: Mapping[str, str]) -> Asking:
    """System message and sampling out of an address; whatever it doesn't say, or says wrongly, is as usual."""
    sampling: dict[str, Any] = {}
    for field in dataclasses.fields(Sampling):
        if field.name in query:
            sampling |= _read(field.name, query[field.name])
    return Asking(query.get("system", "")[:LONGEST_SYSTEM], Sampling(**sampling))


def strengths_of(written: Sequence[str], count: int) -> list[float]:
    """The lanes' strengths out of an address, one each; 1 where it says nothing that can be one."""
    found = [_strength(one) for one in written[:count]]
    return found + [1.0] * (count - len(found))


def _everything(talk: Talk, system: str) -> tuple[dict[str, str], ...]:
    last = talk.turns[-1] if talk.turns else None
    said = list(talk.messages(system, last.sent if last else None))
    if last and last.answer.text:
        said.append({"role": "assistant", "content": last.answer.text})
    return tuple(said)


def _closed(text: str) -> str:
    """An answer that was cut within a block of code would draw all that comes after it into the block."""
    open_by = ""
    for marks, rest in _FENCE.findall(text):
        if not open_by:
            open_by = marks
        elif marks.startswith(open_by) and not rest.strip():
            open_by = ""
    return f"{text}\n{open_by}" if open_by else text


def _quoted(text: str) -> str:
    return "\n".join(f"> {line}" for line in text.splitlines())


def _read(name: str, written: str) -> dict[str, Any]:
    try:
        value = written if name == "stop_texts" else float(written)
        return {name: vars(sampling_of({name: value}))[name]}
    except (ValueError, OverflowError):
        return {}


def _strength(written: str) -> float:
    try:
        value = float(written)
    except ValueError:
        return 1.0
    return value if is_strength(value) else 1.0
