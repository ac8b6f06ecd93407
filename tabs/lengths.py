"""How long the conversations are, and how many the data holds out, as a value that Gradio can keep for a page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from training.data import ChatData
from training.report import whole_lengths

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


class Lengths(Sequence[int]):
    """Tokens of each conversation, uncut, so many of which the data holds out by itself. Its hash is taken once.

    Before and after every word that a handler says, Gradio hashes each state that the handler may change and that
    somebody listens to, on the thread that serves all visitors. Of a list it hashes one number after another: 0.15 s
    for 200,000 of them (`gradio.utils.deep_hash`, 6.31).
    """

    def __init__(self, numbers: Iterable[int], own_held: int = 0) -> None:
        self._numbers, self.own_held = tuple(numbers), own_held
        self._hash = hash((self._numbers, own_held))

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, place: Any) -> Any:
        return self._numbers[place]

    def __iter__(self) -> Iterator[int]:
        return iter(self._numbers)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Lengths) and (self._numbers, self.own_held) == (other._numbers, other.own_held)

    def __hash__(self) -> int:
        return self._hash


def lengths_in(data: ChatData, tokenizer: PreTrainedTokenizerFast) -> Lengths:
    """Those of this data."""
    return Lengths(whole_lengths(data.conversations, tokenizer), len(data.own_held))
