"""One row of chat data, in any of the shapes that people use, as turns; each oddity is met by one rule."""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from phi3.template import Message
from training.chat_text import looks_like_chat, turns_of_text
from training.reading.rows import BadRow, shown

COLUMNS_WE_KNOW = ("Known are: messages (role, content), conversations (from, value), instruction/input/output, "
                   "prompt/completion, question/answer, chosen/rejected, and text in ChatML or Phi-3's form.")

# Spellings of roles as they are met in datasets; what isn't here drops its row, which is named.
ROLES = {
    **dict.fromkeys(("system", "developer", "sys", "system_prompt", "system_message"), "system"),
    **dict.fromkeys(("user", "human", "prompter", "usr", "customer", "client", "person", "student", "patient", "player",
                     "questioner", "asker", "instruction", "question", "prompt", "me", "speaker_1"), "user"),
    **dict.fromkeys(("assistant", "gpt", "bot", "model", "chatgpt", "ai", "agent", "chatbot", "bard", "bing", "claude",
                     "gemini", "llama", "gpt4", "gpt_4", "gpt3", "gpt_3", "gpt_3.5", "gpt_3.5_turbo", "chat_gpt",
                     "assistant_bot", "asst", "doctor", "teacher", "therapist", "counselor", "expert", "support",
                     "operator",
                     "answer", "response", "completion", "llm", "phi", "phi3", "mistral", "speaker_2"), "assistant"),
}
TOOL_ROLES = {"tool", "tools", "function", "function_call", "function_response", "tool_call", "tool_response",
              "tool_result", "observation", "ipython", "environment"}
_PLAIN_ROLES = ("user", "assistant", "system")
_LISTS = ("messages", "conversations", "conversation", "dialog", "dialogue", "dialogs", "dialogues", "chat", "chats",
          "turns", "conv", "convs", "chat_messages", "chat_history", "thread", "utterances", "data")
_ROLE_KEYS = ("role", "from", "speaker", "author", "sender", "user_type", "type", "name", "user")
_TEXT_KEYS = ("content", "value", "text", "message", "parts", "body", "utterance", "msg")
_SYSTEMS = ("system", "system_prompt", "system_message", "sys")
_PROMPTS = ("prompt", "question", "query", "instruction", "input", "inputs", "user", "human", "request", "problem", "q",
            "user_input", "user_message", "user_prompt", "message", "utterance", "questions", "instructions", "prompts",
            "ask", "source", "src")
_ANSWERS = ("completion", "answer", "response", "output", "outputs", "reply", "assistant", "gpt", "bot", "chatgpt",
            "target", "targets", "solution", "a", "answers", "model", "assistant_response", "bot_response",
            "completions", "model_response", "assistant_message", "responses", "ideal", "ideal_response",
            "reference_answer", "tgt", "chatgpt_answer", "answer_text", "replies", "label_text", "ai")
_MORE = ("input", "context")
_CHOSEN = (("chosen", "rejected"), ("chosen_response", "rejected_response"), ("accepted", "rejected"))
_TEXTS = ("text", "content", "formatted_text", "formatted", "prompt", "conversation", "chat", "sample", "example")
_PICTURES = ("image", "images", "video", "videos", "audio", "audios")

JOINED = "turns of one role in a row were joined"
GREETING = "what the assistant said before the first question was left out"
TRAILING = "what follows the last answer was left out"
SURROGATES = "halves of characters (lone surrogates) were replaced by �"


@dataclass(frozen=True)
class Columns:
    """Which columns hold question and answer, where a person said so."""

    prompt: str
    answer: str


@dataclass(frozen=True)
class Chat:
    """A row as a conversation: its shape, its turns, and what was changed in it, in the words of the rules above."""

    format: str
    messages: list[Message]
    changes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Shape:
    name: str
    turns: Callable[[], list[Message]] = field(compare=False)


def shape_of(row: Any, columns: Columns | None = None) -> str:
    """Which shape a row has, as a word; ValueError where none."""
    return _shape(row, columns).name


def as_messages(row: Any, columns: Columns | None = None) -> list[Message]:
    """The row's turns, ending with the assistant's. ValueError gives the reason in words."""
    return as_chat(row, columns).messages


def as_chat(row: Any, columns: Columns | None = None) -> Chat:
    """The row as a conversation. ValueError gives the reason in words why it is none that can be trained on."""
    shape = _shape(row, columns)
    changes: list[str] = []
    turns = [_whole_characters(turn, changes) for turn in shape.turns()]
    return Chat(shape.name, _usable(turns, changes), tuple(dict.fromkeys(changes)))


def is_turn(value: Any) -> bool:
    """Whether it is one turn of a conversation: somebody, and what they said."""
    if not isinstance(value, dict):
        return False
    role, text = _first(value, _ROLE_KEYS), _first(value, _TEXT_KEYS)
    if role is None or text is None or not isinstance(value[role], str):
        return False
    parts = value[text]
    return not (isinstance(parts, list) and parts and is_turn(parts[0]) and "type" not in parts[0])


def bare(name: Any) -> str:
    """A column's name without case, spaces and hyphens."""
    return re.sub(r"[\s_\-]+", "_", str(name).strip().strip("\ufeff#:*<|>").lower())


def guess_columns(rows: Sequence[Mapping[str, Any]]) -> Columns | None:
    """The likeliest pair of columns, by their names, then by how long their texts are; None with fewer than two."""
    lengths: dict[str, list[int]] = {}
    for row in rows:
        for name, value in row.items():
            if isinstance(value, (str, int, float)) and not isinstance(value, bool):
                lengths.setdefault(str(name), []).append(len(str(value)))
    if len(lengths) < 2:
        return None
    mean = {name: sum(some) / len(some) for name, some in lengths.items()}
    answer = max(mean, key=lambda name: (_says(name, _ANSWERS) - _says(name, _PROMPTS), mean[name]))
    others = [name for name in mean if name != answer]
    prompt = max(others, key=lambda name: (_says(name, _PROMPTS), mean[name]))
    return Columns(prompt, answer)


def _says(name: str, words: Sequence[str]) -> bool:
    return any(word in bare(name) for word in words if len(word) > 3)


# ---- Which shape ----------------------------------------------------------------------------------------------------


def _shape(row: Any, columns: Columns | None) -> _Shape:
    if isinstance(row, BadRow):
        raise ValueError(row.why)
    if isinstance(row, list):
        return _Shape("messages", lambda: _turns(row))
    if isinstance(row, str):
        return _text_shape(row) or _none("not an object with named columns")
    if not isinstance(row, dict):
        raise ValueError("not an object with named columns")
    if not any(value is not None and value != "" for value in row.values()):
        raise ValueError("an empty row")
    if columns is not None:
        return _Shape("chosen columns", lambda: _with_system(row, _names(row), _mapped(row, columns)))
    names = _names(row)
    return (_listed(row, names) or _preferred(row, names) or _paired(row, names) or _hidden_list(row, names)
            or _written(row, names) or _none(_unknown(names)))


def _none(why: str) -> _Shape:
    raise ValueError(why)


def _unknown(names: Mapping[str, str]) -> str:
    if _find(names, _PROMPTS) and not _find(names, _ANSWERS):
        return f"no answer: its columns are {', '.join(map(str, list(names.values())[:6]))}"
    return "its columns aren't known"


def _names(row: Mapping[Any, Any]) -> dict[str, str]:
    """Bare names of the columns → as they are spelled; the first of two that are alike."""
    names: dict[str, str] = {}
    for name in row:
        names.setdefault(bare(name), name)
    return names


def _find(names: Mapping[str, str], wanted: Sequence[str]) -> str | None:
    return next((names[name] for name in wanted if name in names), None)


def _first(row: Mapping[str, Any], wanted: Sequence[str]) -> str | None:
    return next((name for name in wanted if name in row), None)


def _listed(row: dict[str, Any], names: dict[str, str]) -> _Shape | None:
    """A list of turns under one of the usual names, or text of one."""
    for name in _LISTS:
        if name in names:
            value = _unpacked(row[names[name]])
            if _is_turns(value):
                format = "sharegpt" if _keeps_from(value) else "messages"
                return _Shape(format, lambda value=value: _with_system(row, names, _turns(value, row)))
    strong = next((name for name in ("messages", "conversations") if name in names), None)
    if strong and not _find(names, _ANSWERS) and not isinstance(row[names[strong]], str):
        return _Shape("messages", lambda: _none("no list of turns").turns())
    return None


def _preferred(row: dict[str, Any], names: dict[str, str]) -> _Shape | None:
    pair = next((names[good] for good, bad in _CHOSEN if good in names and bad in names), None)
    return _Shape("preference", lambda: _with_system(row, names, _chosen(row, names, pair))) if pair else None


def _paired(row: dict[str, Any], names: dict[str, str]) -> _Shape | None:
    prompt, answer = _find(names, _PROMPTS), _find(names, _ANSWERS)
    if "instruction" in names and answer:
        return _Shape("alpaca", lambda: _with_system(row, names, _pair(row, names, names["instruction"], answer)))
    if prompt is None or answer is None:
        return None
    known = (bare(prompt), bare(answer)) == ("prompt", "completion")
    return _Shape("prompt-completion" if known else "question and answer",
                  lambda: _with_system(row, names, _pair(row, names, prompt, answer)))


def _hidden_list(row: dict[str, Any], names: dict[str, str]) -> _Shape | None:
    """A list of turns under a name that nobody expected."""
    for name in names.values():
        value = _unpacked(row[name])
        if isinstance(value, list) and value and is_turn(value[0]):
            return _Shape("messages", lambda value=value: _with_system(row, names, _turns(value, row)))
    return None


def _written(row: dict[str, Any], names: dict[str, str]) -> _Shape | None:
    """A whole conversation as one text."""
    column = _find(names, _TEXTS)
    texts = [row[column]] if column else [value for value in row.values() if isinstance(value, str)][:1]
    return _text_shape(texts[0]) if texts and isinstance(texts[0], str) else None


def _text_shape(text: str) -> _Shape | None:
    kind = looks_like_chat(text)
    if kind is None:
        value = _unpacked(text)
        return _Shape("messages", lambda: _turns(value)) if _is_turns(value) else None
    return _Shape(kind, lambda: [_said(role, said) for role, said in turns_of_text(text, kind)])


def _unpacked(value: Any) -> Any:
    """A list that a cell holds as text: as JSON, or as Python writes it."""
    if not isinstance(value, str) or value.lstrip()[:1] not in ("[", "{", '"'):
        return value
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        try:
            found = ast.literal_eval(value.strip()) if len(value) < 1_000_000 else value
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            return value
    return _unpacked(found) if isinstance(found, str) and found != value else found


def _is_turns(value: Any) -> bool:
    if isinstance(value, dict):
        return any(isinstance(value.get(name), list) for name in _ROLE_KEYS) and _first(value, _TEXT_KEYS) is not None
    return isinstance(value, list)


def _keeps_from(turns: Any) -> bool:
    first = turns if isinstance(turns, dict) else next(iter(turns), None)
    return isinstance(first, dict) and "from" in first and "role" not in first


# ---- Turns ----------------------------------------------------------------------------------------------------------


def _turns(listed: Any, row: Mapping[str, Any] | None = None) -> list[Message]:
    """The turns of a list, whatever its items are: objects, strings in turn, or pairs."""
    if isinstance(listed, dict):
        role, text = (next(name for name in keys if isinstance(listed.get(name), list)) if
                      any(isinstance(listed.get(name), list) for name in keys) else None
                      for keys in (_ROLE_KEYS, _TEXT_KEYS))
        if role is None or text is None or len(listed[role]) != len(listed[text]):
            raise ValueError("no list of turns")
        listed = [{"role": one, "content": said} for one, said in zip(listed[role], listed[text], strict=True)]
    if not isinstance(listed, list) or not listed:
        raise ValueError("no list of turns")
    turns = [turn for place, one in enumerate(listed) for turn in _turns_of(one, place)]
    _refuse_pictures(row or {}, turns)
    return turns


def _turns_of(one: Any, place: int) -> Iterator[Message]:
    if isinstance(one, str):
        yield _message("user" if place % 2 == 0 else "assistant", one)
    elif isinstance(one, (list, tuple)) and len(one) == 2 and all(isinstance(part, str) for part in one):
        if bare(one[0]) in ROLES:
            yield _said(*one)
        else:
            yield from (_message("user", one[0]), _message("assistant", one[1]))
    elif isinstance(one, dict):
        yield from _turns_of_object(one)
    else:
        raise ValueError("a turn is not an object")


def _turns_of_object(one: dict[str, Any]) -> Iterator[Message]:
    said = one.get("content")
    # Most turns are plain ones, and a large file has millions.
    if isinstance(said, str) and one.get("role") in _PLAIN_ROLES and len(one) == 2:
        yield _message(one["role"], said)
        return
    text = next((name for name in _TEXT_KEYS if one.get(name) is not None), _first(one, _TEXT_KEYS))
    role = next((name for name in _ROLE_KEYS if name in one and name != text), None)
    if one.get("tool_calls") or one.get("function_call"):
        raise ValueError("an answer that calls a tool")
    if role is not None and text is not None:
        yield _said(one[role], _text(one[text]))
        return
    if role is not None and role in ("role", "from") and one[role] is not None:
        yield _said(one[role], "")
        return
    named = [(ROLES.get(bare(name)), value) for name, value in one.items()]
    spoken = [(name, value) for name, value in named if name and value is not None]
    if not spoken:
        raise ValueError("a turn without a role")
    yield from (_message(name, _text(value)) for name, value in spoken)


def _said(named: Any, text: str) -> Message:
    if isinstance(named, dict):
        named = named.get("role", named.get("name"))
    name = bare(named)[:80] if isinstance(named, str) else ""
    if name in TOOL_ROLES:
        raise ValueError(f"a turn of a tool (role {shown(named)})")
    if name not in ROLES:
        raise ValueError(f"unknown role {shown(named)}")
    return _message(ROLES[name], text)


def _message(role: str, text: str) -> Message:
    return {"role": role, "content": text}


def _text(content: Any) -> str:
    """A string, a number, or a list of text parts as OpenAI and others write them."""
    if isinstance(content, dict) and ("parts" in content or "text" in content):
        content = content.get("parts", content.get("text"))
    if isinstance(content, list):
        return "".join(_part(part) for part in content)
    return _cell(content)


def _part(part: Any) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, dict):
        kind = str(part.get("type", "text"))
        if kind.endswith("text") and isinstance(part.get("text", ""), str):
            return part.get("text", "")
        for picture in _PICTURES:
            if picture in kind or picture in part or f"{picture}_url" in part:
                raise ValueError(f"a turn with {'an' if picture[0] in 'ai' else 'a'} {picture.rstrip('s')}")
        raise ValueError(f"a part that is no text ({shown(kind)})")
    raise ValueError("a part that is no text")


def _cell(value: Any) -> str:
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
        return _cell(value["text"])
    if isinstance(value, list) and len(value) == 1:
        return _cell(value[0])
    if isinstance(value, (list, dict, tuple, set, bytes)):
        raise ValueError(f"{shown(value)} where text is due")
    return str(value)


def _mapped(row: dict[str, Any], columns: Columns) -> list[Message]:
    missing = [name for name in (columns.prompt, columns.answer) if name not in row]
    if missing:
        raise ValueError(f"no column {shown(missing[0])}")
    return [_message("user", _cell(row[columns.prompt])), _message("assistant", _cell(row[columns.answer]))]


def _pair(row: dict[str, Any], names: dict[str, str], prompt: str, answer: str) -> list[Message]:
    """Question and answer, each a text or a list of turns, with what else belongs to the question."""
    asked, answered = _unpacked_turns(row[prompt]), _unpacked_turns(row[answer])
    if asked is not None or answered is not None:
        before = _turns(asked) if asked is not None else [_message("user", _cell(row[prompt]))]
        after = _turns(answered) if answered is not None else [_message("assistant", _cell(row[answer]))]
        return before + after
    question = _cell(row[prompt])
    for name in _MORE:
        more = row.get(names.get(name, "")) if names.get(name) not in (None, prompt, answer) else None
        if isinstance(more, str) and more.strip():
            question = f"{question}\n\n{more}" if question.strip() else more
    _refuse_pictures(row, [_message("user", question)])
    earlier = _unpacked(row.get(names["history"])) if "history" in names else None
    before = _turns(earlier) if isinstance(earlier, list) and earlier else []
    return [*before, _message("user", question), _message("assistant", _cell(row[answer]))]


def _unpacked_turns(value: Any) -> Any:
    """The value where it is a list of turns, as such or as text; else None."""
    found = _unpacked(value)
    return found if isinstance(found, list) and found and is_turn(found[0]) else None


def _chosen(row: dict[str, Any], names: dict[str, str], column: str) -> list[Message]:
    value, prompt = _unpacked(row[column]), _find(names, _PROMPTS)
    if isinstance(value, str) and looks_like_chat(value):
        return _text_shape(value).turns()
    if isinstance(value, list):
        answer = _turns(value)
    elif isinstance(value, dict) and is_turn(value):
        answer = list(_turns_of_object(value))
    else:
        answer = [_message("assistant", _cell(value))]
    if any(turn["role"] == "user" for turn in answer) or prompt is None:
        return answer
    asked = _unpacked_turns(row[prompt])
    return (_turns(asked) if asked is not None else [_message("user", _cell(row[prompt]))]) + answer


def _with_system(row: Mapping[str, Any], names: Mapping[str, str], turns: list[Message]) -> list[Message]:
    column = _find(names, _SYSTEMS)
    text = row[column] if column else None
    if not isinstance(text, str) or not text.strip() or (turns and turns[0]["role"] == "system"):
        return turns
    return [_message("system", text), *turns]


def _refuse_pictures(row: Mapping[str, Any], turns: Sequence[Message]) -> None:
    """A row whose text points at a picture beside it can't be learned from its text."""
    if any(row.get(name) for name in _PICTURES) and any(f"<{name.rstrip('s')}>" in turn["content"]
                                                        for turn in turns for name in _PICTURES):
        raise ValueError("a turn with an image")


# ---- What becomes of the turns --------------------------------------------------------------------------------------


def _whole_characters(turn: Message, changes: list[str]) -> Message:
    """Half a character, as broken programs leave them, has no bytes: it is replaced."""
    try:
        turn["content"].encode("utf-8")
    except UnicodeEncodeError:
        changes.append(SURROGATES)
        text = turn["content"].encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        return _message(turn["role"], text)
    return turn


def _usable(turns: list[Message], changes: list[str]) -> list[Message]:
    """Join turns of one role, drop what stands before the first question and after the last answer.

    ValueError where no question and answer are left, or where one in between is empty.
    """
    turns = [turn for turn in turns if turn["role"] != "system" or turn["content"].strip()]
    spoke_nothing = any(turn["role"] == "assistant" and not turn["content"].strip() for turn in turns)
    kept = list(turns)
    while kept and (kept[-1]["role"] != "assistant" or not kept[-1]["content"].strip()):
        kept.pop()
    if not kept:
        raise ValueError("an empty answer" if spoke_nothing else "no answer by the assistant")
    if len(kept) < len(turns):
        changes.append(TRAILING)
    kept = _from_first_question(kept, changes)
    joined: list[Message] = []
    for turn in kept:
        if not turn["content"].strip():
            raise ValueError("an empty answer" if turn["role"] == "assistant" else "an empty question")
        if joined and joined[-1]["role"] == turn["role"]:
            changes.append(JOINED)
            joined[-1] = _message(turn["role"], joined[-1]["content"] + "\n\n" + turn["content"])
        else:
            joined.append(turn)
    return joined


def _from_first_question(turns: list[Message], changes: list[str]) -> list[Message]:
    first = next((place for place, turn in enumerate(turns) if turn["role"] == "user"), None)
    if first is None:
        raise ValueError("no question by the user")
    before = [turn for turn in turns[:first] if turn["role"] == "system"]
    if len(before) < first:
        changes.append(GREETING)
    return before + turns[first:]
