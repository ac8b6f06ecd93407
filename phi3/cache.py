"""Keys and values of the rows that are answered, each of its own length, at places that a captured step counts on."""

from __future__ import annotations

from collections.abc import Sequence

import torch

# The cache grows by so many tokens, so that it is seldom moved.
TOKENS_AT_A_TIME = 128
# It is made anew where it has so many times the room that is needed.
ROOMY = 8


class Cache:
    """Keys and values of every row, (rows, kept heads, tokens, head size) each a layer; `lengths` in tokens.

    Tokens stand next to each other: so attention on a CPU takes half the time that it takes across heads. `moves`
    counts how often they got other places; where it `stays`, those of rows that are done are there for the next.
    """

    def __init__(self, layers: int, kept: int, head_size: int, stays: bool = False) -> None:
        self._layers, self._width, self._stays = layers, (kept, head_size), stays
        self.moves = 0
        self._keys: list[torch.Tensor] = []
        self._values: list[torch.Tensor] = []
        self._shape = (0, 0)
        self.lengths: list[int] = []

    def reserve(self, rows: int, tokens: int, like: torch.Tensor) -> None:
        """Room for so many rows more, of so many tokens each; all of it, or none where memory is too short."""
        rows += len(self.lengths)
        rounded = -(-tokens // TOKENS_AT_A_TIME) * TOKENS_AT_A_TIME
        if not self.lengths and not self._suits(rows, rounded, like):
            self._keys, self._values, self._shape = [], [], (0, 0)
        if rows > self._shape[0] or tokens > self._shape[1]:
            self._grow(max(rows, self._shape[0]), max(self._shape[1], rounded), like)

    def put(self, layer: int, keys: torch.Tensor, values: torch.Tensor) -> None:
        """What was found for new rows (rows, kept heads, tokens, head size), after those that are there."""
        first, rows, tokens = len(self.lengths), keys.shape[0], keys.shape[2]
        for held, new in ((self._keys[layer], keys), (self._values[layer], values)):
            held[first:first + rows, :, :tokens] = new
            # Of whoever was here before: what a mask hides is still multiplied, and may not be infinite.
            held[first:first + rows, :, tokens:] = 0

    def lengthen(self) -> None:
        """Every row gets a token more; the cache grows where the longest has no room for it."""
        if max(self.lengths) == self.room:
            self._grow(self._shape[0], self.room + max(TOKENS_AT_A_TIME, self.room // 4), self._keys[0])
        self.lengths = [length + 1 for length in self.lengths]

    @property
    def room(self) -> int:
        """Tokens that a row may have before the cache grows."""
        return self._shape[1]

    def where(self, lengths: torch.Tensor) -> torch.Tensor:
        """The place of each row's newest token under each head, counted through all of them, of lengths (rows,)."""
        heads = torch.arange(-1, self._width[0] * len(lengths) * self.room - 1, self.room, device=lengths.device)
        return (heads.view(len(lengths), -1) + lengths[:, None]).flatten()

    def add(self, layer: int, where: torch.Tensor, key: torch.Tensor, value: torch.Tensor,
            longest: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Put in each row's newest (rows, kept heads, head size); the first `longest` of all, as (rows, kept heads,
        tokens, head size).
        """
        rows = key.shape[0]
        keys, values, size = self._keys[layer], self._values[layer], self._width[1]
        keys.view(-1, size).index_copy_(0, where, key.reshape(-1, size))
        values.view(-1, size).index_copy_(0, where, value.reshape(-1, size))
        return keys[:rows, :, :longest], values[:rows, :, :longest]

    def held(self, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values as they lie, (at least rows, kept heads, room, head size) each."""
        return self._keys[layer], self._values[layer]

    def is_all_seen(self, window: int) -> bool:
        """Whether every row sees every token, as far as the longest row goes."""
        return min(self.lengths) == max(self.lengths) <= window

    def mask(self, lengths: torch.Tensor, longest: int, window: int, like: torch.Tensor) -> torch.Tensor:
        """What is added to the scores (rows, 1, 1, longest) of rows of these lengths (rows,): nothing where a row sees
        the token.
        """
        back = lengths[:, None] - 1 - torch.arange(longest, device=like.device)
        unseen = (back < 0) | (back >= window)
        return like.new_zeros(back.shape).masked_fill_(unseen, -torch.inf)[:, None, None]

    def keep(self, places: Sequence[int]) -> None:
        """Go on with these rows only, given in rising order."""
        longest, before = max((self.lengths[place] for place in places), default=0), max(self.lengths, default=0)
        for held in (*self._keys, *self._values) if longest else ():
            for row, place in enumerate(places):
                if row != place:
                    held[row, :, :longest] = held[place, :, :longest]
                    # As in `put`: a longer row may have been here.
                    held[row, :, longest:before] = 0
        self.lengths = [self.lengths[place] for place in places]

    def _suits(self, rows: int, tokens: int, like: torch.Tensor) -> bool:
        """Whether new rows take the places of those that are done: not where much more was needed once."""
        return self._stays and bool(self._keys) and self._keys[0].dtype is like.dtype and \
            self._shape[0] * self._shape[1] <= ROOMY * rows * tokens

    def _grow(self, rows: int, tokens: int, like: torch.Tensor) -> None:
        """Other places, one layer after another, so that no more than one of them lies there twice."""
        self.moves += 1
        is_done = False
        try:
            for held in (self._keys, self._values):
                for layer in range(self._layers):
                    held[layer:layer + 1] = [self._moved(held[layer:layer + 1], rows, tokens, like)]
            is_done = True
        finally:
            if is_done:
                self._shape = (rows, tokens)
            else:
                self._shrink(like)

    def _shrink(self, like: torch.Tensor) -> None:
        """As it was before it grew, where memory was too short for the last layers."""
        for held in (self._keys, self._values):
            if not self._shape[0]:
                held.clear()
            for layer in range(len(held)):
                if (held[layer].shape[0], held[layer].shape[2]) != self._shape:
                    # What is kept waits in the processor's memory: beside the larger place there may be no room.
                    held[layer] = held[layer][:len(self.lengths), :, :max(self.lengths, default=0)].cpu()
                    held[layer] = self._moved(held[layer:layer + 1], *self._shape, like)

    def _moved(self, old: Sequence[torch.Tensor], rows: int, tokens: int, like: torch.Tensor) -> torch.Tensor:
        """A layer's keys or values with other room; `old` is none where there were none."""
        longest, (kept, size) = max(self.lengths, default=0), self._width
        # Zeros, and not whatever memory held: what a mask hides is still multiplied, and may not be infinite.
        new = like.new_zeros(rows, kept, tokens, size)
        for held in old:
            new[:len(self.lengths), :, :longest] = held[:len(self.lengths), :, :longest]
        return new
