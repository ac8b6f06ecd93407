"""A conversation as tokens through the base's own chat template, and which of them are trained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


class Message(TypedDict):
    """One turn: `role` is system, user or assistant."""

    role: str
    content: str


@dataclass(frozen=True)
class Encoded:
    """Token ids of one conversation; `trained[i]` says whether the loss counts token i."""

    input_ids: list[int]
    trained: list[bool]

    def cut(self, max_length: int) -> Encoded:
        """The first `max_length` tokens."""
        return Encoded(self.input_ids[:max_length], self.trained[:max_length])

    def labels(self) -> list[int]:
        """Targets as TRL and PEFT expect them: the token's id where it is trained, else -100."""
        return [token if trained else -100 for token, trained in zip(self.input_ids, self.trained, strict=True)]


def encode_conversation(tokenizer: PreTrainedTokenizerFast, messages: Sequence[Message]) -> Encoded:
    """The whole conversation, as training sees it: answers and the tokens that end them are trained.

    Equal to rendering the template and tokenising the text at once, with two differences that are meant: control
    tokens spelled inside a turn stay plain text (no dataset can forge a turn), and white space at a turn's start
    is dropped, because Phi-3's role tokens swallow it (`rstrip`) and would then be trained themselves.
    """
    input_ids: list[int] = []
    trained: list[bool] = []
    answered = False
    for text, kind in _segments(tokenizer, messages, for_answer=False):
        ids = _ids(tokenizer, text, plain=kind != "template")
        if kind == "template":
            marks = _end_marks(tokenizer, ids) if answered else [False] * len(ids)
        else:
            marks = [kind == "assistant"] * len(ids)
        answered = kind == "assistant"
        input_ids += ids
        trained += marks
    if messages and messages[-1]["role"] == "assistant":
        _mark_tail(tokenizer, trained, input_ids)
    return Encoded(input_ids, trained)


def encode_prompt(tokenizer: PreTrainedTokenizerFast, messages: Sequence[Message]) -> list[int]:
    """Tokens up to where the assistant's answer begins; a prefix of what training sees, by construction."""
    ids: list[int] = []
    for text, kind in _segments(tokenizer, messages, for_answer=True):
        ids += _ids(tokenizer, text, plain=kind != "template")
    return ids


def has_system_role(tokenizer: PreTrainedTokenizerFast) -> bool:
    """Whether the base's template shows system messages to the model (Phi-3's first revision dropped them)."""
    probe: list[Message] = [{"role": "system", "content": "probe"}, {"role": "user", "content": "x"}]
    return "probe" in tokenizer.apply_chat_template(probe, tokenize=False)


def _segments(tokenizer: PreTrainedTokenizerFast, messages: Sequence[Message],
              for_answer: bool) -> Iterator[tuple[str, str]]:
    """The rendered text in pieces: (text, "template" | "text" | "assistant").

    Turns of the user and the system join the template's text around them, so that both are tokenised as one, except
    where they spell a control token.
    """
    messages = _without_system(messages) if not has_system_role(tokenizer) else list(messages)
    marks = [f"\ue000{index}\ue001" for index in range(len(messages))]
    marked = [{"role": turn["role"], "content": mark} for turn, mark in zip(messages, marks, strict=True)]
    rest = tokenizer.apply_chat_template(marked, tokenize=False, add_generation_prompt=for_answer)
    control = tokenizer.get_added_vocab()
    before = ""
    for turn, mark in zip(messages, marks, strict=True):
        head, rest = rest.split(mark, 1)
        content = turn["content"].lstrip()
        before += head
        if turn["role"] == "assistant":
            yield before, "template"
            yield content, "assistant"
            before = ""
        elif any(token in content for token in control):
            yield before, "template"
            yield content, "text"
            before = ""
        else:
            before += content
    yield before + rest, "template"


def _without_system(messages: Sequence[Message]) -> list[Message]:
    """System text put before the next user turn, for templates that would drop it."""
    kept: list[Message] = []
    waiting = ""
    for turn in messages:
        if turn["role"] == "system":
            waiting += turn["content"] + "\n\n"
        elif turn["role"] == "user":
            kept.append({"role": "user", "content": waiting + turn["content"]})
            waiting = ""
        else:
            kept.append(turn)
    return kept


def _ids(tokenizer: PreTrainedTokenizerFast, text: str, plain: bool) -> list[int]:
    if not text:
        return []
    return tokenizer(text, add_special_tokens=False, split_special_tokens=plain)["input_ids"]


def _end_marks(tokenizer: PreTrainedTokenizerFast, ids: list[int]) -> list[bool]:
    """After an answer, everything up to and with the first control token (`<|end|>`) is trained."""
    control = set(tokenizer.get_added_vocab().values())
    end = next((place for place, token in enumerate(ids) if token in control), -1)
    return [place <= end for place in range(len(ids))]


def _mark_tail(tokenizer: PreTrainedTokenizerFast, trained: list[bool], input_ids: list[int]) -> None:
    """A conversation's closing token (`<|endoftext|>`) is trained as well, as TRL's template marks it."""
    if input_ids and input_ids[-1] == tokenizer.eos_token_id:
        trained[-1] = True
