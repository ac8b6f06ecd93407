"""How long the conversations are, and how many the data holds out, as a value that Gradio can keep for a page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from training.data import ChatData
from training.report import Counted, count_steps

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


class Lengths(Sequence[int]):
    """Tokens of each conversation, uncut, so many of which the data holds out by itself, and where the first answer of
    each `begins`, where that is known. Its hash is taken once.

    Before and after every word that a handler says, Gradio hashes each state that the handler may change and that
    somebody listens to, on the thread that serves all visitors. Of a list it hashes one number after another: 0.15 s
    for 200,000 of them (`gradio.utils.deep_hash`, 6.31).
    """

    def __init__(self, numbers: Sequence[int], own_held: int = 0, begins: Sequence[int] = ()) -> None:
        self._numbers, self.own_held, self.begins = tuple(numbers), own_held, tuple(begins)
        self._hash = hash(self._all)

    @classmethod
    def of(cls, counted: Counted, data: ChatData) -> Lengths:
        """Those of this data, whose tokens were counted."""
        return cls(counted.lengths.tolist(), len(data.own_held), counted.begins().tolist())

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, place: Any) -> Any:
        return self._numbers[place]

    def __iter__(self) -> Iterator[int]:
        return iter(self._numbers)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Lengths) and self._all == other._all

    def __hash__(self) -> int:
        return self._hash

    @property
    def _all(self) -> tuple[tuple[int, ...], int, tuple[int, ...]]:
        return self._numbers, self.own_held, self.begins


def lengths_in(data: ChatData, tokenizer: PreTrainedTokenizerFast) -> Lengths:
    """Those of this data."""
    *_, counted = count_steps(data.conversations, tokenizer)
    return Lengths.of(counted, data)
