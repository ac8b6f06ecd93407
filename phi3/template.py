"""A conversation as tokens through the base's own chat template, and which of them are trained."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

# Orders of roles that are kept rendered; conversations of a dataset have few.
MOST_FRAMES = 2000


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


class Encoder:
    """Conversations as tokens, many at once; what a template makes of the roles alone is rendered once for each order
    of roles, since the text of the turns only stands in between.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.tokenizer = tokenizer
        self.shows_system = has_system_role(tokenizer)
        self.control = tokenizer.get_added_vocab()
        self._control_ids = set(self.control.values())
        self._frames: dict[tuple[tuple[str, ...], bool], list[str]] = {}

    def encoded(self, conversations: Sequence[Sequence[Message]]) -> list[Encoded]:
        """Each conversation as `encode_conversation` makes it."""
        cut = [list(self._segments(messages, for_answer=False)) for messages in conversations]
        ids = self._all_ids([segment for segments in cut for segment in segments])
        return [self._joined(messages, segments, ids) for messages, segments in zip(conversations, cut, strict=True)]

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """Tokens up to where the assistant's answer begins."""
        segments = list(self._segments(messages, for_answer=True))
        return [token for ids in self._all_ids(segments) for token in ids]

    def _joined(self, messages: Sequence[Message], segments: Sequence[tuple[str, str]],
                ids: Iterator[list[int]]) -> Encoded:
        """The next segments' tokens, one after another, with what is trained of them."""
        input_ids: list[int] = []
        trained: list[bool] = []
        answered = False
        for _, kind in segments:
            some = next(ids)
            trained += self._end_marks(some) if answered and kind == "template" else [kind == "assistant"] * len(some)
            input_ids += some
            answered = kind == "assistant"
        # A conversation's closing token (`<|endoftext|>`) is trained as well, as TRL's template marks it.
        if messages and messages[-1]["role"] == "assistant" and input_ids and \
                input_ids[-1] == self.tokenizer.eos_token_id:
            trained[-1] = True
        return Encoded(input_ids, trained)

    def _all_ids(self, segments: Sequence[tuple[str, str]]) -> Iterator[list[int]]:
        """The tokens of each segment, in order; the tokenizer works on all of one kind at once."""
        found: dict[bool, Iterator[list[int]]] = {}
        for plain in (False, True):
            texts = [text for text, kind in segments if (kind != "template") is plain]
            found[plain] = iter(self._ids(texts, plain))
        return (next(found[kind != "template"]) for _, kind in segments)

    def _ids(self, texts: list[str], plain: bool) -> list[list[int]]:
        if not texts:
            return []
        ids = self.tokenizer(texts, add_special_tokens=False, split_special_tokens=plain, return_attention_mask=False,
                             return_token_type_ids=False)["input_ids"]
        if plain:
            # A tokenizer may hold control tokens that it doesn't call special, and then finds them in any text.
            return [self._apart(text) if not self._control_ids.isdisjoint(some) else some
                    for text, some in zip(texts, ids, strict=True)]
        return ids

    def _apart(self, text: str) -> list[int]:
        """Tokens of a text in which a control token is spelled: its first letter is tokenised apart from the rest."""
        names = re.compile("|".join(re.escape(name) for name in sorted(self.control, key=len, reverse=True)))
        places = [found.start() + 1 for found in names.finditer(text)]
        pieces = [text[start:end] for start, end in zip([0, *places], [*places, len(text)], strict=True)]
        ids = self.tokenizer(pieces, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        return [token for some in ids for token in some if token not in self._control_ids]

    def _segments(self, messages: Sequence[Message], for_answer: bool) -> Iterator[tuple[str, str]]:
        """The rendered text in pieces: (text, "template" | "text" | "assistant").

        Turns of the user and the system join the template's text around them, so that both are tokenised as one, except
        where they spell a control token.
        """
        if not self.shows_system:
            messages = _without_system(messages)
        frame = self._frame(tuple(turn["role"] for turn in messages), for_answer)
        before = ""
        for turn, head in zip(messages, frame, strict=False):
            content = turn["content"].lstrip()
            before += head
            if turn["role"] == "assistant" or any(token in content for token in self.control):
                yield before, "template"
                yield content, "assistant" if turn["role"] == "assistant" else "text"
                before = ""
            else:
                before += content
        yield before + frame[-1], "template"

    def _frame(self, roles: tuple[str, ...], for_answer: bool) -> list[str]:
        """What the template writes before each turn's text, and after the last one's."""
        kept = self._frames.get((roles, for_answer))
        if kept is None:
            marks = [f"\ue000{index}\ue001" for index in range(len(roles))]
            marked = [{"role": role, "content": mark} for role, mark in zip(roles, marks, strict=True)]
            rest = self.tokenizer.apply_chat_template(marked, tokenize=False, add_generation_prompt=for_answer)
            kept = []
            for mark in marks:
                head, rest = rest.split(mark, 1)
                kept.append(head)
            kept.append(rest)
            if len(self._frames) < MOST_FRAMES:
                self._frames[roles, for_answer] = kept
        return kept

    def _end_marks(self, ids: list[int]) -> list[bool]:
        """After an answer, everything up to and with the first control token (`<|end|>`) is trained."""
        end = next((place for place, token in enumerate(ids) if token in self._control_ids), -1)
        return [True] * (end + 1) + [False] * (len(ids) - end - 1)


def encode_conversation(tokenizer: PreTrainedTokenizerFast, messages: Sequence[Message]) -> Encoded:
    """The whole conversation, as training sees it: answers and the tokens that end them are trained.

    Equal to rendering the template and tokenising the text at once, with two differences that are meant: control
    tokens spelled inside a turn stay plain text (no dataset can forge a turn), and white space at a turn's start
    is dropped, because Phi-3's role tokens swallow it (`rstrip`) and would then be trained themselves.
    """
    return Encoder(tokenizer).encoded([messages])[0]


def encode_prompt(tokenizer: PreTrainedTokenizerFast, messages: Sequence[Message]) -> list[int]:
    """Tokens up to where the assistant's answer begins; a prefix of what training sees, by construction."""
    return Encoder(tokenizer).prompt(messages)


def has_system_role(tokenizer: PreTrainedTokenizerFast) -> bool:
    """Whether the base's template shows system messages to the model (Phi-3's first revision dropped them)."""
    probe: list[Message] = [{"role": "system", "content": "probe"}, {"role": "user", "content": "x"}]
    return "probe" in tokenizer.apply_chat_template(probe, tokenize=False)


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
        elif waiting and kept and kept[-1]["role"] == "user":
            kept[-1] = {"role": "user", "content": f"{kept[-1]['content']}\n\n{waiting.rstrip()}"}
            kept.append(turn)
            waiting = ""
        else:
            kept.append(turn)
    return kept
