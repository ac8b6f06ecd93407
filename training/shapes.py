"""One row of chat data, in any of the shapes that people use, as a conversation."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from phi3.template import Message
from training.beside import CONTEXT, beside, choices_of, system_of, written_choices
from training.chat_text import is_templated, looks_like_chat, turns_of_text
from training.columns import ANSWERS, PROMPTS, Columns, answer_in, columns_by_name, find, question_in
from training.reading.rows import BadRow, shown
from training.trees import tree_of
from training.turns import (
    NOT_TO_BE_LEARNED,
    ROLE_KEYS,
    ROLES,
    TEMPLATED,
    TEXT_KEYS,
    bare,
    cell,
    first_of,
    is_turn,
    message,
    refuse_pictures,
    said_by,
    turns_in,
    unpacked,
    usable,
    whole_characters,
)

COLUMNS_WE_KNOW = ("Known are: messages (role, content), conversations (from, value), instruction/input/output, "
                   "prompt/completion, question/answer, chosen/rejected, messages of a row each (conversation_id, "
                   "role, content), exports of ChatGPT, Claude and DeepSeek, and text in ChatML or Phi-3's form.")

_LISTS = ("messages", "conversations", "conversation", "dialog", "dialogue", "dialogs", "dialogues", "chat", "chats",
          "turns", "conv", "convs", "chat_messages", "chat_history", "thread", "utterances", "data")
_MORE = ("input", "context", "passage", "paragraph", "story")
_HISTORIES = ("history", "chat_history", "conversation_history")
_CHOSEN = (("chosen", "rejected"), ("chosen_response", "rejected_response"), ("accepted", "rejected"),
           ("preferred_output", "non_preferred_output"))
_NUMBER = re.compile(r"(.*?)_?\(?(\d{0,3})\)?", re.DOTALL)
_TEXTS = ("text", "content", "formatted_text", "formatted", "prompt", "conversation", "chat", "sample", "example")


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
    turns = usable([whole_characters(turn, changes) for turn in shape.turns()], changes)
    if any(turn["role"] == "user" and is_templated(turn["content"]) for turn in turns):
        changes.append(TEMPLATED)
    changes += beside(row, turns)
    return Chat(shape.name, turns, tuple(dict.fromkeys(changes)))


# ---- Which shape ----------------------------------------------------------------------------------------------------


def _shape(row: Any, columns: Columns | None) -> _Shape:
    if isinstance(row, BadRow):
        raise ValueError(row.why)
    if isinstance(row, list):
        return _Shape("messages", lambda: turns_in(row))
    if isinstance(row, str):
        return _text_shape(row) or _none("not an object with named columns")
    if not isinstance(row, dict):
        raise ValueError("not an object with named columns")
    if not any(value is not None and value != "" for value in row.values()):
        raise ValueError("an empty row")
    if columns is not None:
        return _Shape("chosen columns", lambda: _with_system(row, columns_by_name(row), _mapped(row, columns)))
    names = columns_by_name(row)
    return (_grown(row) or _asked_in_turn(row, names) or _listed(row, names) or _preferred(row, names)
            or _won(row, names) or _numbered(row, names) or _paired(row, names) or _hidden_list(row, names)
            or _written(row, names) or _nested(row) or _none(_unknown(row, names)))


def _none(why: str) -> _Shape:
    raise ValueError(why)


def _unknown(row: Mapping[str, Any], names: Mapping[str, str]) -> str:
    speaker, text = (find(names, keys) for keys in (("role", "from", "speaker", "sender", "author"), TEXT_KEYS))
    if speaker and text and bare(row[speaker]) in ROLES:
        return (f"one message by itself (its {shown(speaker)} is {shown(row[speaker])}), and a row is a whole "
                "conversation. Put the messages of a conversation into one row, as a list named messages, or name the "
                "conversation of each in a column conversation_id")
    if question_in(names) and not answer_in(names):
        return f"no answer: its columns are {', '.join(map(str, list(names.values())[:6]))}"
    return "its columns aren't known"


def _listed(row: dict[str, Any], names: dict[str, str]) -> _Shape | None:
    """A list of turns under one of the usual names, or text of one; what is beside a question is its history."""
    for name in _LISTS:
        if name in names:
            value = unpacked(row[names[name]])
            is_beside = (name in _HISTORIES or value == []) and question_in(names) and answer_in(names)
            if _is_turns(value) and not is_beside:
                format = "sharegpt" if _keeps_from(value) else "messages"
                return _bad(row, names, format) or _Shape(
                    format, lambda value=value: _with_system(row, names, _answered(row, names, value), (CONTEXT,)))
    strong = next((name for name in ("messages", "conversations") if name in names), None)
    if strong and not answer_in(names) and not isinstance(row[names[strong]], str):
        return _Shape("messages", lambda: _none("no list of turns").turns())
    if strong and not answer_in(names) and row[names[strong]].lstrip().startswith("[{"):
        return _none(f"its {strong} are no list that can be read (pandas writes lists without their commas into a "
                     "CSV): save the table as JSON or Parquet")
    return None


def _asked_in_turn(row: dict[str, Any], names: dict[str, str]) -> _Shape | None:
    """Questions of one conversation in a list, and their answers in another, as MT-Bench has them."""
    is_bench = "turns" in names and ("question_id" in names or "reference" in names)
    asks = names["turns"] if is_bench else question_in(names)
    may_pack = asks in (names.get("turns"), names.get("questions"))  # one question may well be a list, as text
    if asks is None or not (may_pack or isinstance(row[asks], list)):
        return None
    answers = find(names, ("reference", *ANSWERS))
    questions, answered = (unpacked(row[column]) if column else None for column in (asks, answers))
    if not _are_texts(questions) or not (_are_texts(answered) or (is_bench and not answered)):
        return None
    if not answered:
        return _Shape("question and answer", lambda: _none("questions without answers").turns())
    if len(answered) != len(questions):
        why = f"questions and answers that aren't as many ({len(questions)} and {len(answered)})"
        return _Shape("question and answer", lambda: _none(why).turns())
    turns = [message(role, text) for pair in zip(questions, answered, strict=True)
             for role, text in zip(("user", "assistant"), pair, strict=True)]
    return _Shape("question and answer", lambda: _with_system(row, names, turns))


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, str) for one in value)


def _answered(row: dict[str, Any], names: dict[str, str], listed: Any) -> list[Message]:
    """The turns of a list and, where they end with a question, the answer that stands in a column beside them."""
    turns = turns_in(listed, row)
    column = (_preferred_answer(names) or answer_in(names)) if turns[-1]["role"] == "user" else None
    if column is None and turns[-1]["role"] == "user" and _reply(row):
        return turns + turns_in(_reply(row))
    if column is None or row[column] in (None, "", []):
        return turns
    return turns + _answers_in(row[column])


def _grown(row: dict[str, Any]) -> _Shape | None:
    found = tree_of(row)
    return _Shape(*found) if found else None


def _preferred(row: dict[str, Any], names: dict[str, str]) -> _Shape | None:
    column = _preferred_answer(names)
    return _Shape("preference", lambda: _with_system(row, names, _chosen(row, names, column))) if column else None


def _won(row: dict[str, Any], names: dict[str, str]) -> _Shape | None:
    """Of two conversations the one that people voted for, as the Chatbot Arena writes them."""
    if not {"conversation_a", "conversation_b", "winner"} <= names.keys():
        return None
    column = {"model_a": "conversation_a", "model_b": "conversation_b"}.get(str(row[names["winner"]]))
    return _Shape("preference", lambda: turns_in(unpacked(row[names[column]])) if column
                  else _none("neither conversation won").turns())


def _preferred_answer(names: Mapping[str, str]) -> str | None:
    return next((names[good] for good, bad in _CHOSEN if good in names and bad in names), None)


def _paired(row: dict[str, Any], names: dict[str, str]) -> _Shape | None:
    prompt, answer = question_in(names), answer_in(names)
    if "instruction" in names and answer:
        return _Shape("alpaca", lambda: _with_system(row, names, _pair(row, names, names["instruction"], answer)))
    if prompt is None or answer is None:
        return None
    asked, answered = row[prompt], row[answer]
    if isinstance(asked, dict) and _is_plain_object(answered) and not asked.keys() & answered.keys():
        return _shape({**asked, **answered}, None)  # as LangSmith keeps what went in and what came out
    known = (bare(prompt), bare(answer)) == ("prompt", "completion")
    return (known and _bad(row, names, "prompt-completion")) or _Shape(
        "prompt-completion" if known else "question and answer",
        lambda: _with_system(row, names, _pair(row, names, prompt, answer),
                             () if bare(prompt) == "instructions" else ("instructions",)))


def _numbered(row: dict[str, Any], names: dict[str, str]) -> _Shape | None:
    """Questions and answers in columns of one name, told apart by numbers."""
    if not any(name[-1:].isdigit() or name.endswith(")") for name in names):
        return None
    asks: dict[int, str] = {}
    answers: dict[int, str] = {}
    for name, column in names.items():
        base, number = _NUMBER.fullmatch(name).groups()
        for known, found in ((PROMPTS, asks), (ANSWERS, answers)):
            if base in known:
                found.setdefault(int(number or 1), column)
    both = sorted(asks.keys() & answers.keys())
    if len(both) < 2:
        return None
    said = [(role, cell(row[columns[number]])) for number in both for role, columns in (
        ("user", asks), ("assistant", answers)) if cell(row[asks[number]]) or cell(row[answers[number]])]
    return _Shape("question and answer",
                  lambda: _with_system(row, names, [message(role, text) for role, text in said]))


def _bad(row: dict[str, Any], names: dict[str, str], format: str) -> _Shape | None:
    """What a row is marked to be kept away from, as TRL's and LLaMA-Factory's KTO write it; else None."""
    mark = next((name for name in ("label", "kto_tag") if str(row.get(names.get(name))).lower() == "false"), None)
    return _Shape(format, lambda: _none(f"{NOT_TO_BE_LEARNED} (its {mark} is false)").turns()) if mark else None


def _hidden_list(row: dict[str, Any], names: dict[str, str]) -> _Shape | None:
    """A list of turns under a name that nobody expected."""
    for name in names.values():
        value = unpacked(row[name])
        if isinstance(value, list) and value and is_turn(value[0]):
            return _Shape("messages", lambda value=value: _with_system(row, names, turns_in(value, row)))
    return None


def _nested(row: dict[str, Any]) -> _Shape | None:
    """What stands in objects of a row, as Label Studio and Argilla keep it."""
    held = [value for value in row.values() if isinstance(value, dict)]
    inner = {name: value for one in held for name, value in one.items()}
    try:
        return _shape(inner, None) if inner and len(inner) == sum(map(len, held)) else None
    except ValueError:
        return None


def _written(row: dict[str, Any], names: dict[str, str]) -> _Shape | None:
    """A whole conversation as one text."""
    column = find(names, _TEXTS)
    texts = [row[column]] if column else [value for value in row.values() if isinstance(value, str)][:1]
    found = _text_shape(texts[0]) if texts and isinstance(texts[0], str) else None
    return _Shape(found.name, lambda: _with_system(row, names, found.turns())) if found else None


def _text_shape(text: str) -> _Shape | None:
    kind = looks_like_chat(text)
    if kind is None:
        value = unpacked(text)
        return _Shape("messages", lambda: turns_in(value)) if _is_turns(value) else None
    return _Shape(kind, lambda: [said_by(role, said) for role, said in turns_of_text(text, kind)])


def _is_turns(value: Any) -> bool:
    if isinstance(value, dict):
        return any(isinstance(value.get(name), list) for name in ROLE_KEYS) and first_of(value, TEXT_KEYS) is not None
    return isinstance(value, list)


def _keeps_from(turns: Any) -> bool:
    first = turns if isinstance(turns, dict) else next(iter(turns), None)
    return isinstance(first, dict) and "from" in first and "role" not in first


def _mapped(row: dict[str, Any], columns: Columns) -> list[Message]:
    missing = [name for name in (columns.prompt, columns.answer) if name not in row]
    if missing:
        raise ValueError(f"no column {shown(missing[0])}")
    asked = _unpacked_turns(row[columns.prompt])
    before = turns_in(asked) if asked is not None else [message("user", cell(row[columns.prompt]))]
    return before + _answers_in(row[columns.answer])


def _pair(row: dict[str, Any], names: dict[str, str], prompt: str, answer: str) -> list[Message]:
    """Question and answer, each a text or a list of turns, with what else belongs to the question."""
    asked, answered = _unpacked_turns(row[prompt]), _answers_in(row[answer])
    if asked is not None:
        return turns_in(asked) + answered
    question = cell(row[prompt])
    for name in _MORE:
        more = _more(name, row[names[name]]) if names.get(name) not in (None, prompt, answer) else ""
        if more.strip():
            question = f"{question}\n\n{more}" if question.strip() else more
    choices = choices_of(row, names, answer)
    if choices and not all(text in question for text in choices.values()):
        question = f"{question}\n\n{written_choices(choices)}"
    if choices and type(row[answer]) is int and 0 <= row[answer] < len(choices):  # its place, counted from 0
        answered = [message("assistant", list(choices)[row[answer]])]
    refuse_pictures(row, [message("user", question)])
    told = find(names, _HISTORIES)
    earlier = unpacked(row[told]) if told else None
    before = turns_in(earlier) if isinstance(earlier, list) and earlier else []
    return [*before, message("user", question), *answered]


def _answers_in(value: Any) -> list[Message]:
    """An answer: a text, a list of turns, or one turn."""
    answered = _unpacked_turns(value)
    return turns_in(answered) if answered is not None else [message("assistant", cell(value))]


def _more(name: str, value: Any) -> str:
    """What else belongs to the question, as text; ValueError where it is none, since the answer may stand on it."""
    try:
        return "" if value in ([], {}) else cell(value)
    except ValueError as problem:
        raise ValueError(f"its {name}: {problem}") from None


def _unpacked_turns(value: Any) -> Any:
    """The value where it is a list of turns, as such, as text or as OpenAI's files have it, or one turn; else None.
    Text that lists other things stays text, such as what was found in another: [{"type": "person", "text": "A"}].
    """
    found = unpacked(value)
    if isinstance(found, dict):
        found = found.get("messages") or _reply(found) or [found]
    if isinstance(found, list):  # what a model thought comes as an item of its own before what it said
        found = [one for one in found if not (isinstance(one, dict) and one.get("type") == "reasoning")]
    if not isinstance(found, list) or not found or not is_turn(found[0]):
        return None
    speaks = bare(found[0].get("role", found[0].get("from"))) in ROLES or found[0].get("type") in ("human", "ai")
    return found if speaks or isinstance(value, list) else None


def _reply(held: Mapping[str, Any]) -> list[Any]:
    """The turn of the first choice, as OpenAI's interface answers; nothing where there is none."""
    choices = held.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    said = first.get("message") if isinstance(first, dict) else None
    return [said] if is_turn(said) else []


def _is_plain_object(value: Any) -> bool:
    return isinstance(value, dict) and _unpacked_turns(value) is None and "text" not in value


def _chosen(row: dict[str, Any], names: dict[str, str], column: str) -> list[Message]:
    value, prompt = unpacked(row[column]), question_in(names)
    if isinstance(value, str) and looks_like_chat(value):
        return _text_shape(value).turns()
    answer = turns_in(value) if isinstance(value, list) else _answers_in(value)
    if any(turn["role"] == "user" for turn in answer) or prompt is None:
        return answer
    return _pair(row, names, prompt, column)


def _with_system(row: Mapping[str, Any], names: Mapping[str, str], turns: list[Message],
                 more: Sequence[str] = ()) -> list[Message]:
    text = system_of(row, names, more)
    return [message("system", text), *turns] if text and (not turns or turns[0]["role"] != "system") else turns
