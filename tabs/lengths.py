"""How long the conversations are, as a value that Gradio can keep for a page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any


class Lengths(Sequence[int]):
    """Tokens of each conversation. Its hash is taken once.

    Before and after every word that a handler says, Gradio hashes each state that the handler may change and that
    somebody listens to, on the thread that serves all visitors. Of a list it hashes one number after another: 0.15 s
    for 200,000 of them (`gradio.utils.deep_hash`, 6.31).
    """

    def __init__(self, numbers: Iterable[int]) -> None:
        self._numbers = tuple(numbers)
        self._hash = hash(self._numbers)

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, place: Any) -> Any:
        return self._numbers[place]

    def __iter__(self) -> Iterator[int]:
        return iter(self._numbers)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Lengths) and self._numbers == other._numbers

    def __hash__(self) -> int:
        return self._hash
