"""A conversation as tokens through the base's own chat template, and which of them are trained."""

from __future__ import annotations

import copy
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

# Orders of roles that are kept rendered; conversations of a dataset have few.
MOST_FRAMES = 2000
_FOR_PLAIN_TEXT: WeakKeyDictionary[PreTrainedTokenizerFast, PreTrainedTokenizerFast] = WeakKeyDictionary()


class Message(TypedDict):
    """One turn: `role` is system, user or assistant. `train` is False for an answer that is read and never learned, and
    absent otherwise.
    """

    role: str
    content: str
    train: NotRequired[bool]


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


@dataclass(frozen=True)
class Spans:
    """A conversation's length in tokens, and from where to where they are trained."""

    length: int
    trained: tuple[tuple[int, int], ...]


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
        self._begins: dict[tuple[tuple[str, ...], tuple[bool, ...]], tuple[int, ...] | None] = {}

    def encoded(self, conversations: Sequence[Sequence[Message]]) -> list[Encoded]:
        """Each conversation as `encode_conversation` makes it."""
        cut = [list(self._segments(messages, for_answer=False)) for messages in conversations]
        ids = self._all_ids([segment for segments in cut for segment in segments])
        return [self._joined(messages, segments, ids) for messages, segments in zip(conversations, cut, strict=True)]

    def spans(self, conversations: Sequence[Sequence[Message]]) -> list[Spans]:
        """How long each conversation is and what of it is trained, as `encoded` makes it, in a third of the time: each
        is tokenised as one text, and its control tokens tell the turns apart.
        """
        texts = [self._whole(messages) for messages in conversations]
        whole = [text for text in texts if text]
        ids = iter(self._ids([text for text, _ in whole], plain=False))
        found = [self._found(next(ids), text[1]) if text else None for text in texts]
        missing = [place for place, one in enumerate(found) if one is None]
        for place, one in zip(missing, self.encoded([conversations[place] for place in missing]), strict=True):
            found[place] = Spans(len(one.input_ids), tuple(_runs(one.trained)))
        return found

    def _whole(self, messages: Sequence[Message]) -> tuple[str, tuple[int, ...]] | None:
        """The conversation as one text, and which control tokens begin its answers; None where that wouldn't do."""
        if not self.shows_system or not self._is_seamless:
            return None
        roles = tuple(turn["role"] for turn in messages)
        frame, contents = self._frame(roles, for_answer=False), [turn["content"].lstrip() for turn in messages]
        begins = self._begins_of(tuple(map(is_learned, messages)), roles, frame)
        if begins is None or any(self._spelled.search(content) for content in contents):
            return None
        return "".join(piece for pair in zip(frame, contents, strict=False) for piece in pair) + frame[-1], begins

    def _found(self, ids: list[int], begins: tuple[int, ...]) -> Spans | None:
        """Answers stand after the control tokens of these numbers, up to and with the next; the first is the count."""
        import numpy

        places = numpy.flatnonzero(self._marks[numpy.array(ids)]).tolist()
        if len(places) != begins[0]:
            return None
        spans = [(places[begin] + 1, places[begin + 1] + 1) for begin in begins[1:]]
        # A closing token is trained as well: see `_joined`.
        if spans and ids[-1] == self.tokenizer.eos_token_id and spans[-1][1] < len(ids):
            closing = (len(ids) - 1, len(ids))
            spans = [*spans[:-1], (spans[-1][0], len(ids))] if spans[-1][1] == closing[0] else [*spans, closing]
        return Spans(len(ids), tuple(spans))

    def _begins_of(self, learned: tuple[bool, ...], roles: tuple[str, ...],
                   frame: Sequence[str]) -> tuple[int, ...] | None:
        """Count of the template's control tokens, then the number of the one that each answer to be learned follows at
        once; None where one follows none, or the conversation doesn't end with one.
        """
        if (roles, learned) in self._begins:
            return self._begins[roles, learned]
        pieces = self._ids(list(frame), plain=False)
        counts = [sum(token in self._control_ids for token in piece) for piece in pieces]
        answers = [place for place, is_one in enumerate(learned) if is_one]
        fits = learned[-1:] == (True,) and all(
            pieces[place] and pieces[place][-1] in self._control_ids and counts[place + 1] for place in answers)
        upto = list(itertools.accumulate(counts))
        begins = (upto[-1], *(upto[place] - 1 for place in answers)) if fits else None
        if len(self._begins) < MOST_FRAMES:
            self._begins[roles, learned] = begins
        return begins

    @cached_property
    def _marks(self) -> Any:
        """For each token id, whether it is a control token's."""
        import numpy

        marks = numpy.zeros(max(len(self.tokenizer), max(self._control_ids, default=0) + 1), dtype=bool)
        marks[list(self._control_ids)] = True
        return marks

    @cached_property
    def _spelled(self) -> re.Pattern[str]:
        """Finds a control token in a text, the longest first."""
        return re.compile("|".join(re.escape(name) for name in sorted(self.control, key=len, reverse=True)) or r"(?!)")

    @cached_property
    def _is_seamless(self) -> bool:
        """Whether a text is tokenised between control tokens as it is alone."""
        probe: list[Message] = [{"role": role, "content": text} for role, text in (
            ("system", "Be brief. "), ("user", "Hi there,\n you "), ("assistant", "Oh. No \n"), ("user", "é 7"),
            ("assistant", "end"))]
        text = self.tokenizer.apply_chat_template([{**turn, "content": turn["content"].lstrip()} for turn in probe],
                                                  tokenize=False)
        return self._ids([text], plain=False)[0] == self.encoded([probe])[0].input_ids

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """Tokens up to where the assistant's answer begins."""
        whole = [Message(role=turn["role"], content=with_whole_characters(turn["content"])) for turn in messages]
        segments = list(self._segments(whole, for_answer=True))
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
        if messages and is_learned(messages[-1]) and input_ids and input_ids[-1] == self.tokenizer.eos_token_id:
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
        if not plain:
            return ids_of(self.tokenizer, texts)
        ids = plain_ids_of(self.tokenizer, texts)
        # A tokenizer may hold control tokens that it doesn't call special, and then finds them in any text.
        return [self._apart(text) if not self._control_ids.isdisjoint(some) else some
                for text, some in zip(texts, ids, strict=True)]

    def _apart(self, text: str) -> list[int]:
        """Tokens of a text in which a control token is spelled: its first letter is tokenised apart from the rest."""
        places = [found.start() + 1 for found in self._spelled.finditer(text)]
        pieces = [text[start:end] for start, end in zip([0, *places], [*places, len(text)], strict=True)]
        ids = plain_ids_of(self.tokenizer, pieces)
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
            if turn["role"] == "assistant" or self._spelled.search(content):
                yield before, "template"
                yield content, "assistant" if is_learned(turn) else "text"
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
            rest = self._rendered(marked, for_answer)
            kept = []
            for mark in marks:
                head, rest = rest.split(mark, 1)
                kept.append(head)
            kept.append(rest)
            if len(self._frames) < MOST_FRAMES:
                self._frames[roles, for_answer] = kept
        return kept

    def _rendered(self, messages: Sequence[Message], for_answer: bool) -> str:
        """As the template writes them; ValueError where it refuses turns in this order."""
        from jinja2 import TemplateError

        try:
            return self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=for_answer)
        except TemplateError as problem:
            roles = ", ".join(turn["role"] for turn in messages)
            raise ValueError(f"The base's chat template refuses these turns ({roles}): {problem}. Leave some out, or "
                             "join turns of one role.") from None

    def _end_marks(self, ids: list[int]) -> list[bool]:
        """After an answer, everything up to and with the first control token (`<|end|>`) is trained."""
        end = next((place for place, token in enumerate(ids) if token in self._control_ids), -1)
        return [True] * (end + 1) + [False] * (len(ids) - end - 1)


def _runs(trained: list[bool]) -> Iterator[tuple[int, int]]:
    """Where trained tokens begin and end."""
    end = 0
    while True in trained[end:]:
        begin = trained.index(True, end)
        end = trained.index(False, begin) if False in trained[begin:] else len(trained)
        yield begin, end


def ids_of(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> list[list[int]]:
    """The tokens of each text, among them the control tokens that it spells."""
    return _ids_by(tokenizer, texts, split_special_tokens=False)


def plain_ids_of(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> list[list[int]]:
    """The tokens of each text, in which control tokens are letters as others are.

    Whoever calls a tokenizer tells it how to read them, and so tells whatever other thread it works for just then
    (transformers keeps it in the tokenizer): a second one reads all plain text.
    """
    second = _FOR_PLAIN_TEXT.get(tokenizer)
    if second is None:
        second = copy.deepcopy(tokenizer)
        _ids_by(second, [""], split_special_tokens=True)  # nobody else has it yet
        second = _FOR_PLAIN_TEXT.setdefault(tokenizer, second)
    return _ids_by(second, texts, split_special_tokens=True)


def _ids_by(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], **how: bool) -> list[list[int]]:
    return tokenizer(list(texts), add_special_tokens=False, return_attention_mask=False, return_token_type_ids=False,
                     **how)["input_ids"]


def encode_conversation(tokenizer: PreTrainedTokenizerFast, messages: Sequence[Message]) -> Encoded:
    """The whole conversation, as training sees it: answers and the tokens that end them are trained, but for those that
    say otherwise.

    Equal to rendering the template and tokenising the text at once, with two differences that are meant: control
    tokens spelled inside a turn stay plain text (no dataset can forge a turn), and white space at a turn's start
    is dropped, because Phi-3's role tokens swallow it (`rstrip`) and would then be trained themselves.
    """
    return Encoder(tokenizer).encoded([messages])[0]


def encode_prompt(tokenizer: PreTrainedTokenizerFast, messages: Sequence[Message]) -> list[int]:
    """Tokens up to where the assistant's answer begins; a prefix of what training sees, by construction."""
    return Encoder(tokenizer).prompt(messages)


def is_learned(turn: Message) -> bool:
    """Whether a turn is an answer that training learns."""
    return turn["role"] == "assistant" and turn.get("train") is not False


def with_whole_characters(text: str) -> str:
    """Half a character (a lone surrogate), as broken programs leave them, has no bytes: it is replaced by �."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


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
