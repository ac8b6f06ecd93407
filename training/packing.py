"""A step's rows without padding: best-fit packing to a token budget, and the collator that does it."""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from phi3.packed import Packed


def packed(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """The places of rows in as few bins of at most `budget` tokens as best-fit finds, longest rows first (Johnson,
    1973: at most 11/9 of the fewest, and one). A row that is longer than the budget has a bin of its own.
    """
    bins: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (tokens left, bin), rising
    for place in sorted(range(len(lengths)), key=lambda place: (-lengths[place], place)):
        length = lengths[place]
        found = bisect.bisect_left(room, (length, -1))
        if found == len(room):
            bins.append([place])
            left, which = budget - length, len(bins) - 1
        else:
            left, which = room.pop(found)
            bins[which].append(place)
            left -= length
        if left > 0:
            bisect.insort(room, (left, which))
    return bins


@dataclass(frozen=True)
class Collator:
    """One optimizer step's rows (`input_ids`, `labels`) → {"packs": [Packed …], "labels": (tokens,)}, and the
    same as "shift_labels", since each stands one place before its word.

    However the rows are divided into packs, the step has these examples and no others, and each token of theirs counts
    as it would in a padded batch.
    """

    budget: int

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        import torch

        packs = packs_of([(row["input_ids"], row["labels"]) for row in rows], self.budget)
        targets = torch.cat([pack.targets for pack in packs])
        return {"packs": packs, "labels": targets, "shift_labels": targets}


def packs_of(rows: Sequence[tuple[Sequence[int], Sequence[int]]], budget: int) -> list[Packed]:
    """These rows' ids and labels, in packs of at most so many tokens."""
    from phi3.packed import Packed

    return [Packed.of([rows[place] for place in places])
            for places in packed([len(ids) for ids, _ in rows], budget)]
