"""What stands in a row beside what is said: what of it isn't learned, or where it went, in words for the report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from phi3.template import Message
from training.columns import columns_by_name
from training.turns import UNSAID, cell, text_of, unpacked

# Columns that tell the assistant how to be, and what a conversation stands on.
SYSTEMS = ("system", "system_prompt", "system_message", "sys", "system_instruction", "systeminstruction",
           "custom_instructions", "custom_instruction")
CONTEXT = "context"
_REASONING = {"reasoning_content", "reasoning", "thinking", "thoughts", "thought", "chain_of_thought", "cot",
              "complex_cot", "reasoning_trace", "thinking_trajectories"}
_TOOLS = ("tools", "functions", "available_tools", "tool_definitions", "function_definitions", "python_tools",
          "xml_tools")
# What SmolTalk and others hand on to the chat template.
_GIVEN = "chat_template_kwargs"

REASONED = "what the assistant reasoned before its answer, kept apart from it, isn't learned"
TOOLED = "definitions of tools are left out: this base's template has no place for them"
TOLD_TWICE = "a system message beside turns that begin with another was left out"
CHOICES_UNDER = "the choices beside the question were put under it"
CONTEXT_FIRST = "the context beside the turns was put before them as the system message"

_CHOICES = ("choices", "options")
_LETTERS = "ABCDEFGHIJ"
# How tables name a column for each choice.
_CHOICE_COLUMNS = [{letter: form.format(letter.lower()) for letter in _LETTERS}
                   for form in ("{}", "option_{}", "option{}", "choice_{}", "choice{}", "op{}")]

# What of a row may have to be told of.
_TELLING = {*SYSTEMS, CONTEXT, *_CHOICES, *_TOOLS, *_REASONING, _GIVEN,
            *(name for some in _CHOICE_COLUMNS for name in some.values())}


def choices_of(row: Mapping[str, Any], names: Mapping[str, str], answer: str = "") -> dict[str, str]:
    """What can be chosen from as the answer, which stands in the column `answer`, each by its label; empty where there
    is nothing to choose from.
    """
    column = next((names[name] for name in _CHOICES if name in names), None)
    value = unpacked(row[column]) if column else next(
        ({letter: row[names[name]] for letter, name in columns.items() if names.get(name, answer) != answer}
         for columns in _CHOICE_COLUMNS if columns["A"] in names and columns["B"] in names), None)
    if isinstance(value, dict) and isinstance(value.get("text"), list) and isinstance(value.get("label"), list):
        value = dict(zip(map(str, value["label"]), value["text"], strict=False))
    if isinstance(value, list) and all(isinstance(one, dict) and {"key", "value"} <= one.keys() for one in value):
        value = {str(one["key"]): one["value"] for one in value}
    if isinstance(value, list):
        value = dict(zip(_LETTERS, value, strict=False))
    if not isinstance(value, dict):
        return {}
    texts = {label: cell(text) for label, text in value.items() if isinstance(text, str | int | float)}
    texts = {label: text for label, text in texts.items() if text.strip()}
    return texts if len(texts) > 1 else {}


def written_choices(choices: Mapping[str, str]) -> str:
    """A line for each choice."""
    return "\n".join(f"{label}. {text}" for label, text in choices.items())


def system_of(row: Mapping[str, Any], names: Mapping[str, str], more: Sequence[str] = ()) -> str:
    """The system message that stands in a column of its own (`names` are the columns by their bare names), or in one
    of `more`; empty where there is none.
    """
    for column in (names[name] for name in (*SYSTEMS, *more) if name in names):
        said = row[column]
        # As Gemini writes it: a turn, or its parts.
        text = text_of(said) if isinstance(said, dict | list) and said else said
        if isinstance(text, str) and text.strip():
            # As Glaive's function calls have it.
            return text.lstrip().removeprefix("SYSTEM:").strip() if text.lstrip().startswith("SYSTEM:") else text
    given = _given(row)
    return system_of(given, columns_by_name(given)) if given else ""


def _given(row: Mapping[str, Any]) -> dict[str, Any]:
    """What the chat template is to be given beside the turns."""
    given = unpacked(row[_GIVEN]) if _GIVEN in row else None
    return {name: value for name, value in given.items() if name != _GIVEN} if isinstance(given, dict) else {}


def beside(row: Any, turns: Sequence[Message]) -> Iterator[str]:
    """What is to be told of a row that became these turns."""
    names = columns_by_name(row) if isinstance(row, dict) else {}
    if not _TELLING.isdisjoint(names):  # most rows have none such
        first = turns[0]["content"] if turns[0]["role"] == "system" else ""
        system = system_of(row, names) if first else ""
        if system and system.strip() not in first:
            yield TOLD_TWICE
        if first and not system and first == row.get(names.get(CONTEXT)):
            yield CONTEXT_FIRST
        choices = choices_of(row, names) if "\n" in turns[-2]["content"] else {}
        if choices and turns[-2]["content"].endswith(written_choices(choices)):
            yield CHOICES_UNDER
        tools = (row[names[name]] for name in _TOOLS if name in names)
        if any(map(_is_said, (*tools, *map(_given(row).get, _TOOLS)))):
            yield TOOLED
        if any(_is_said(row[names[name]]) for name in _REASONING & names.keys()):
            yield REASONED
            return
    for value in row.values() if isinstance(row, dict) else [row]:
        if any(map(_has_reasoning, _listed(value))):
            yield REASONED
            return


def _listed(value: Any) -> list[Any]:
    """The items of a list, as such or as text; text that doesn't speak of reasoning isn't looked into."""
    if isinstance(value, str):
        speaks = value.lstrip()[:1] == "[" and ("reasoning" in value or "thinking" in value)
        value = unpacked(value) if speaks else ()
    return value if isinstance(value, list) else []


def _has_reasoning(turn: Any) -> bool:
    # Most turns are plain ones, and a large file has millions.
    if not isinstance(turn, dict) or (len(turn) == 2 and isinstance(turn.get("content"), str)):
        return False
    parts = (part for value in turn.values() if isinstance(value, list) for part in value)
    return (any(name in _REASONING and _is_said(value) for name, value in turn.items())
            or any(isinstance(part, dict) and part.get("type") in UNSAID for part in parts))


def _is_said(value: Any) -> bool:
    return bool(value) and value not in ("[]", "{}", "null") and (not isinstance(value, str) or bool(value.strip()))
