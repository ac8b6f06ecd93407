"""What a row's columns are by their names: which one asks, which one answers; or as a person said it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from training.turns import bare

PROMPTS = ("prompt", "question", "query", "instruction", "input", "inputs", "user", "human", "request", "problem", "q",
           "user_input", "user_message", "user_prompt", "message", "utterance", "questions", "instructions", "prompts",
           "ask")
ANSWERS = ("completion", "answer", "response", "output", "outputs", "reply", "assistant", "gpt", "bot", "chatgpt",
           "target", "targets", "solution", "a", "answers", "assistant_response", "bot_response",
           "completions", "model_response", "assistant_message", "responses", "ideal", "ideal_response",
           "reference_answer", "tgt", "chatgpt_answer", "answer_text", "replies", "label_text", "ai",
           "correct_answer", "answer_key", "answerkey")


@dataclass(frozen=True)
class Columns:
    """Which columns hold question and answer, where a person said so."""

    prompt: str
    answer: str


def guess_columns(rows: Sequence[Mapping[str, Any]]) -> Columns | None:
    """The likeliest pair of columns, by their names, then by how long their texts are; where no name says which of the
    two answers, it is the latter. None with fewer than two.
    """
    lengths: dict[str, list[int]] = {}
    for row in rows:
        for name, value in row.items():
            if isinstance(value, (str, int, float)) and not isinstance(value, bool):
                lengths.setdefault(str(name), []).append(len(str(value)))
    if len(lengths) < 2:
        return None
    mean = {name: sum(some) / len(some) for name, some in lengths.items()}
    says = {name: _says(name, ANSWERS) - _says(name, PROMPTS) for name in mean}
    answer = max(mean, key=lambda name: (says[name], mean[name]))
    others = [name for name in mean if name != answer]
    prompt = max(others, key=lambda name: (_says(name, PROMPTS), mean[name]))
    if says[prompt] == says[answer]:
        prompt, answer = (name for name in mean if name in (prompt, answer))
    return Columns(prompt, answer)


def _says(name: str, words: Sequence[str]) -> bool:
    return any(word in bare(name) for word in words if len(word) > 3)


def columns_by_name(row: Mapping[Any, Any]) -> dict[str, str]:
    """Bare names of the columns → as they are spelled; the first of two that are alike."""
    return dict(_by_bare_name(tuple(row)))


@lru_cache(maxsize=16)
def _by_bare_name(columns: tuple[Any, ...]) -> Mapping[str, Any]:
    """Rows of one file have the same columns, a hundred thousand times."""
    names: dict[str, Any] = {}
    for name in columns:
        names.setdefault(bare(name), name)
    return names


def find(names: Mapping[str, str], wanted: Sequence[str]) -> str | None:
    """The first of these columns that there is, as it is spelled."""
    return next((names[name] for name in wanted if name in names), None)


def question_in(names: Mapping[str, str]) -> str | None:
    """The column that asks; `source` does beside a target, and says elsewhere where a row comes from."""
    is_pair = find(names, ("target", "targets", "tgt")) is not None
    return find(names, (*PROMPTS, "source", "src") if is_pair else PROMPTS)


def answer_in(names: Mapping[str, str]) -> str | None:
    """The column that answers; `model` does where `user` asks, and says elsewhere who answered."""
    is_pair = "user" in names and question_in(names) == names["user"]
    return find(names, (*ANSWERS, "model") if is_pair else ANSWERS)
