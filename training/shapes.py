"""One row of chat data, in any of the shapes that people use, as a list of messages."""

from dataclasses import dataclass
from typing import Any

from phi3.template import Message

COLUMNS_WE_KNOW = ("Known are: messages (role, content), conversations (from, value), instruction/input/output, "
                   "prompt/completion.")

# Spellings of ShareGPT's and OpenAI's roles.
_ROLES = {"system": "system", "developer": "system", "user": "user", "human": "user",
          "assistant": "assistant", "gpt": "assistant", "bot": "assistant", "model": "assistant"}


@dataclass(frozen=True)
class BadLine:
    """A line that didn't parse, in its place among the rows, so that row numbers stay a person's."""

    why: str


def shape_of(row: Any) -> str:
    """Which shape a row has: messages, sharegpt, alpaca or prompt-completion; ValueError where none."""
    if isinstance(row, BadLine):
        raise ValueError(row.why)
    if not isinstance(row, dict):
        raise ValueError("not an object with named columns")
    if "messages" in row:
        return "messages"
    if "conversations" in row:
        return "sharegpt"
    if "instruction" in row and "output" in row:
        return "alpaca"
    if "prompt" in row and "completion" in row:
        return "prompt-completion"
    raise ValueError("its columns aren't known")


def as_messages(row: Any) -> list[Message]:
    """The row's turns, ending with the assistant's. ValueError gives the reason in words."""
    shape = shape_of(row)
    if shape == "messages":
        turns = _turns(row["messages"], "role", "content")
    elif shape == "sharegpt":
        turns = _turns(row["conversations"], "from", "value")
    elif shape == "alpaca":
        turns = _alpaca(row)
    else:
        turns = _prompt_completion(row["prompt"], row["completion"])
    return _usable(turns)


def _turns(listed: Any, role_key: str, text_key: str) -> list[Message]:
    if not isinstance(listed, list) or not listed:
        raise ValueError("no list of turns")
    return [_turn(one, role_key, text_key) for one in listed]


def _turn(one: Any, role_key: str, text_key: str) -> Message:
    if not isinstance(one, dict):
        raise ValueError("a turn is not an object")
    # Either family's keys, whichever the turn has.
    named = one.get(role_key, one.get("role", one.get("from")))
    role = _ROLES.get(str(named).strip().lower())
    if role is None:
        raise ValueError(f"unknown role {named!r}")
    return {"role": role, "content": _text(one.get(text_key, one.get("content", one.get("value"))))}


def _text(content: Any) -> str:
    """A string, or OpenAI's list of text parts."""
    if isinstance(content, list) and all(isinstance(part, dict) and part.get("type") == "text" for part in content):
        content = "".join(str(part.get("text", "")) for part in content)
    if not isinstance(content, str):
        raise ValueError("a turn without text")
    return content


def _alpaca(row: dict[str, Any]) -> list[Message]:
    question = _text(row["instruction"])
    more = row.get("input")
    if isinstance(more, str) and more.strip():
        question += "\n\n" + more
    system = row.get("system")
    first: list[Message] = [{"role": "system", "content": system}] if isinstance(system, str) and system.strip() else []
    return [*first, {"role": "user", "content": question}, {"role": "assistant", "content": _text(row["output"])}]


def _prompt_completion(prompt: Any, completion: Any) -> list[Message]:
    before = _turns(prompt, "role", "content") if isinstance(prompt, list) \
        else [Message(role="user", content=_text(prompt))]
    after = _turns(completion, "role", "content") if isinstance(completion, list) \
        else [Message(role="assistant", content=_text(completion))]
    return before + after


def _usable(turns: list[Message]) -> list[Message]:
    """Join turns of one role, drop what follows the last answer, and insist on a question and an answer."""
    joined: list[Message] = []
    for turn in turns:
        if not turn["content"].strip():
            if turn["role"] == "system":
                continue
            raise ValueError(f"empty {turn['role']} turn")
        if joined and joined[-1]["role"] == turn["role"]:
            joined[-1] = {"role": turn["role"], "content": joined[-1]["content"] + "\n\n" + turn["content"]}
        else:
            joined.append(turn)
    while joined and joined[-1]["role"] != "assistant":
        joined.pop()
    if not joined:
        raise ValueError("no answer by the assistant")
    if not any(turn["role"] == "user" for turn in joined):
        raise ValueError("no question by the user")
    return joined
