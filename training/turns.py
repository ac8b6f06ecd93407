"""Turns of a conversation out of whatever a cell holds, and what becomes of those that can't stay as they are."""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from phi3.template import Message, is_learned, with_whole_characters
from training.conversations import unlearned
from training.reading.rows import shown

# Spellings of roles as they are met in datasets; what isn't here drops its row, which is named.
ROLES = {
    **dict.fromkeys(("system", "developer", "sys", "system_prompt", "system_message"), "system"),
    **dict.fromkeys(("user", "human", "prompter", "usr", "customer", "client", "person", "student", "patient", "player",
                     "questioner", "asker", "instruction", "question", "prompt", "input", "me", "speaker_1", "end_user",
                     "enduser", "visitor", "caller", "guest", "requester", "buyer", "lead", "contact"), "user"),
    **dict.fromkeys(("assistant", "gpt", "bot", "model", "chatgpt", "ai", "agent", "chatbot", "bard", "bing", "claude",
                     "gemini", "llama", "gpt4", "gpt_4", "gpt3", "gpt_3", "gpt_3.5", "gpt_3.5_turbo", "chat_gpt",
                     "assistant_bot", "asst", "doctor", "teacher", "therapist", "counselor", "expert", "support",
                     "operator", "answer", "response", "completion", "output", "llm", "phi", "phi3", "mistral",
                     "speaker_2", "support_agent", "representative", "rep", "advisor", "consultant", "admin",
                     "helpdesk", "seller"), "assistant"),
}
TOOL_ROLES = {"tool", "tools", "function", "function_call", "function_response", "tool_call", "tool_response",
              "tool_result", "observation", "ipython", "environment"}
_IN_TURN = ("system", "user", "assistant")
ROLE_KEYS = ("role", "from", "speaker", "author", "sender", "user_type", "type", "name", "user")
TEXT_KEYS = ("content", "value", "text", "message", "parts", "body", "utterance", "msg")
# Parts beside an answer that hold no word of it.
UNSAID = ("thinking", "redacted_thinking", "reasoning")
_UNSAID = (*UNSAID, "token_budget")
_PICTURES = ("image", "images", "video", "videos", "audio", "audios")

LONGEST_NAME = 200
CALLS_A_TOOL = "an answer that calls a tool"
# OpenAI's files say so by a turn's weight, others by its `train`, `training` or `loss`.
_UNLEARNED, _NO = ("weight", "train", "training", "loss"), ("0", "0.0", "false")
NOT_TO_BE_LEARNED = "an answer that is marked not to be learned"
NONE_TO_BE_LEARNED = "every answer is marked not to be learned"
SOME_TO_BE_LEARNED = "answers in a row, of which some are marked not to be learned"
CONTEXT = "an answer that is marked not to be learned is read and not trained on"
ANSWERED = "nobody but the system answers, and what it says was read as the assistant's"
JOINED = "turns of one role in a row were joined"
GREETING = "what the assistant said before the first question was left out"
TRAILING = "what follows the last answer that is learned was left out"
TEMPLATED = ("a question is written in a chat template already, whose marks (such as <|user|>, [INST] or Human:) stay "
             "text inside the base's own template: leave them out of the data")
SURROGATES = "halves of characters (lone surrogates) were replaced by �"


def is_turn(value: Any) -> bool:
    """Whether it is one turn of a conversation: somebody, and what they said."""
    if not isinstance(value, dict):
        return False
    role, text = first_of(value, ROLE_KEYS), first_of(value, TEXT_KEYS)
    if role is None or text is None or not isinstance(value[role], str):
        return False
    parts = value[text]
    return not (isinstance(parts, list) and parts and is_turn(parts[0]) and "type" not in parts[0])


def bare(name: Any) -> str:
    """A column's name without case, spaces and hyphens."""
    return _bare(str(name)[:LONGEST_NAME])


@lru_cache(1024)  # the same few names stand in every row
def _bare(name: str) -> str:
    return re.sub(r"[\s_\-]+", "_", name.strip().strip("\ufeff#:*<|>").lower())


def first_of(row: Mapping[str, Any], wanted: Sequence[str]) -> str | None:
    return next((name for name in wanted if name in row), None)


def turns_in(listed: Any, row: Mapping[str, Any] | None = None) -> list[Message]:
    """The turns of a list, whatever its items are: objects, strings in turn, or pairs."""
    if isinstance(listed, dict):
        role, text = (next(name for name in keys if isinstance(listed.get(name), list)) if
                      any(isinstance(listed.get(name), list) for name in keys) else None
                      for keys in (ROLE_KEYS, TEXT_KEYS))
        if role is None or text is None or len(listed[role]) != len(listed[text]):
            raise ValueError("no list of turns")
        listed = [{"role": one, "content": said} for one, said in zip(listed[role], listed[text], strict=True)]
    if not isinstance(listed, list) or not listed:
        raise ValueError("no list of turns")
    turns = [turn for place, one in enumerate(listed) for turn in _turns_of(one, place)]
    refuse_pictures(row or {}, turns)
    return turns


def _turns_of(one: Any, place: int) -> Iterator[Message]:
    if isinstance(one, str):
        yield message("user" if place % 2 == 0 else "assistant", one)
    elif isinstance(one, (list, tuple)) and len(one) == 2 and all(isinstance(part, str) for part in one):
        if bare(one[0]) in ROLES:
            yield said_by(*one)
        else:
            yield from (message("user", one[0]), message("assistant", one[1]))
    elif isinstance(one, dict):
        yield from _turns_of_object(one)
    else:
        raise ValueError("a turn is not an object")


def _turns_of_object(one: dict[str, Any]) -> Iterator[Message]:
    said = one.get("content")
    # Most turns are plain ones, and a large file has millions.
    if isinstance(said, str) and one.get("role") in _IN_TURN and len(one) == 2:
        yield message(one["role"], said)
        return
    one = _langchains(one)
    text = next((name for name in TEXT_KEYS if one.get(name) is not None), first_of(one, TEXT_KEYS))
    role = _speaker_in(one, text)
    if one.get("tool_calls") or one.get("function_call"):
        raise ValueError(CALLS_A_TOOL)
    if role is not None and text is not None:
        turn = said_by(one[role], "\n\n".join(filter(None, (*_attached(one), text_of(one[text])))))
        if turn["role"] == "assistant" and any(str(one.get(name)).lower() in _NO for name in _UNLEARNED):
            turn["train"] = False
        yield turn
        return
    if role is not None and role in ("role", "from") and one[role] is not None:
        yield said_by(one[role], "")
        return
    named = [(ROLES.get(bare(name)), value) for name, value in one.items()]
    spoken = sorted(((name, value) for name, value in named if name and value is not None),
                    key=lambda turn: _IN_TURN.index(turn[0]))
    if not spoken:
        raise ValueError("a turn without a role")
    yield from (message(name, text_of(value)) for name, value in spoken)


def _speaker_in(one: Mapping[str, Any], text: str | None) -> str | None:
    """The field that says who speaks: role, else the first that holds the name of one, else the first that may, and a
    message's type at last.
    """
    names = [name for name in ROLE_KEYS if name in one and name != text]
    if names[:1] == ["role"]:
        return "role"
    known = [name for name in names if isinstance(one[name], str) and bare(one[name]) in ROLES]
    return next(iter([*known, *(name for name in names if name != "type"), *names]), None)


def _langchains(one: dict[str, Any]) -> dict[str, Any]:
    """A message as LangChain writes it, which keeps what was said one deeper, as a turn; another as it is."""
    data, kwargs, kind = one.get("data"), one.get("kwargs"), one.get("id")
    if isinstance(data, dict) and "content" in data and isinstance(one.get("type"), str):
        return {**data, "role": one["type"]}
    if isinstance(kwargs, dict) and "content" in kwargs and isinstance(kind, list) and kind:
        return {**kwargs, "role": str(kind[-1]).removesuffix("Chunk").removesuffix("Message")}
    return one


def _attached(one: dict[str, Any]) -> list[str]:
    """The texts that Claude's export has beside a question; ValueError where it names a file and not what is in it."""
    attachments, files = ([file for file in one[held] if isinstance(file, dict)] if isinstance(one.get(held), list)
                          else [] for held in ("attachments", "files"))
    attached = [file for file in attachments if isinstance(file.get("extracted_content"), str)]
    names = [file.get("file_name") for file in attached]
    missing = next((file for file in files if file.get("file_name") not in names), None)
    if missing is not None:
        raise ValueError(f"a turn with a file ({shown(missing.get('file_name'))})")
    return [file["extracted_content"] for file in attached]


def unpacked(value: Any) -> Any:
    """A list or an object that a cell holds as text: as JSON, or as Python writes it."""
    if not isinstance(value, str) or value.lstrip()[:1] not in ("[", "{", '"'):
        return value
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        try:
            found = ast.literal_eval(value.strip()) if len(value) < 1_000_000 else value
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            return value
    return unpacked(found) if isinstance(found, str) and found != value else found


def said_by(named: Any, text: str) -> Message:
    if isinstance(named, dict):
        named = named.get("role", named.get("name"))
    name = bare(named)[:80] if isinstance(named, str) else ""
    if name in TOOL_ROLES:
        raise ValueError(f"a turn of a tool (role {shown(named)})")
    if name not in ROLES:
        raise ValueError(f"unknown role {shown(named)}, where user or assistant is due")
    return message(ROLES[name], text)


def message(role: str, text: str) -> Message:
    return {"role": role, "content": text}


def text_of(content: Any) -> str:
    """A string, a number, or a list of text parts as OpenAI and others write them."""
    if isinstance(content, dict) and ("parts" in content or "text" in content):
        content = content.get("parts", content.get("text"))
    if isinstance(content, list):
        return "".join(_part(part) for part in content)
    return cell(content)


def _part(part: Any) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, dict):
        kind = str(part.get("type") or part.get("content_type") or ("text" if "text" in part else ""))
        if kind in _UNSAID:
            return ""
        if kind.endswith("text") and isinstance(part.get("text", ""), str):
            return part.get("text", "")
        for picture in _PICTURES:
            if picture in kind or picture in part or f"{picture}_url" in part:
                raise ValueError(f"a turn with {'an' if picture[0] in 'ai' else 'a'} {picture.rstrip('s')}")
        raise no_text(kind)
    raise ValueError("a part that is no text")


def no_text(kind: Any) -> ValueError:
    """What is wrong with a part of this kind."""
    return ValueError(f"a part that is no text ({shown(kind)})")


def cell(value: Any) -> str:
    """A cell's value as text; numbers and dates as they are written."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, dict) and "text" in value:
        return cell(value["text"])
    if isinstance(value, list) and all(one == value[0] for one in value):
        return cell(value[0]) if value else ""
    if isinstance(value, (list, dict, tuple, set, bytes)):
        raise ValueError(f"{shown(value)} where text is due")
    return str(value)


def refuse_pictures(row: Mapping[str, Any], turns: Sequence[Message]) -> None:
    """A row whose text points at a picture beside it can't be learned from its text."""
    if any(row.get(name) for name in _PICTURES) and any(f"<{name.rstrip('s')}>" in turn["content"]
                                                        for turn in turns for name in _PICTURES):
        raise ValueError("a turn with an image")


def whole_characters(turn: Message, changes: list[str]) -> Message:
    """Halves of characters are replaced, and that is told."""
    try:
        turn["content"].encode("utf-8")
    except UnicodeEncodeError:
        changes.append(SURROGATES)
        return {**turn, "content": with_whole_characters(turn["content"])}
    return turn


def usable(turns: list[Message], changes: list[str]) -> list[Message]:
    """Join turns of one role, drop what stands before the first question and after the last answer to be learned.

    ValueError where no question and such an answer are left, or where one in between is empty.
    """
    turns = [turn for turn in turns if turn["role"] != "system" or turn["content"].strip()]
    turns = _answered_by_system(turns, changes)
    spoke_nothing = any(turn["role"] == "assistant" and not turn["content"].strip() for turn in turns)
    kept = list(turns)
    while kept and not (is_learned(kept[-1]) and kept[-1]["content"].strip()):
        kept.pop()
    if not kept:
        spoke = any(turn["role"] == "assistant" for turn in turns)
        raise ValueError("an empty answer" if spoke_nothing else
                         NONE_TO_BE_LEARNED if spoke else "no answer by the assistant")
    if len(kept) < len(turns):
        changes.append(TRAILING)
    kept = _from_first_question(kept, changes)
    joined: list[Message] = []
    for turn in kept:
        if not turn["content"].strip():
            raise ValueError("an empty answer" if turn["role"] == "assistant" else "an empty question")
        if joined and joined[-1]["role"] == turn["role"]:
            changes.append(JOINED)
            if is_learned(joined[-1]) != is_learned(turn):
                raise ValueError(SOME_TO_BE_LEARNED)
            joined[-1] = {**turn, "content": joined[-1]["content"] + "\n\n" + turn["content"]}
        else:
            joined.append(turn)
    if unlearned(joined):
        changes.append(CONTEXT)
    return joined


def _answered_by_system(turns: list[Message], changes: list[str]) -> list[Message]:
    """The turns of a dialogue between USER and SYSTEM, as those about booking are written, with the usual roles."""
    roles = [turn["role"] for turn in turns]
    if "assistant" in roles or len(roles) < 4 or roles != (["user", "system"] * len(roles))[:len(roles)]:
        return turns
    changes.append(ANSWERED)
    return [{**turn, "role": "assistant"} if turn["role"] == "system" else turn for turn in turns]


def _from_first_question(turns: list[Message], changes: list[str]) -> list[Message]:
    first = next((place for place, turn in enumerate(turns) if turn["role"] == "user"), None)
    if first is None:
        raise ValueError("no question by the user")
    before = [turn for turn in turns[:first] if turn["role"] == "system"]
    if len(before) < first:
        changes.append(GREETING)
    return before + turns[first:]
