"""How much is answered at once: rows, their tokens in the cache, and new ones that are read together; pure."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from phi3.machine import GIBIBYTE, Machine
from phi3.shape import Shape

# A step reads all weights once for however many rows, so more of them cost little until arithmetic does.
MOST_ROWS = 64
# Of all rows together, in the cache: 6.4 GB for Phi-3-mini in bf16.
MOST_TOKENS = 16_384
# Of new rows together, read at once while the others wait.
MOST_READ = 8_192
# The cache takes no more than this share of the machine's memory: a processor's fills without a word until the whole
# process is killed.
CACHE_SHARE = 0.25
# A row that is alone may take so many times as much, and so many tokens on any machine.
ALONE, LEAST_ALONE = 1.5, 2_048


@dataclass(frozen=True)
class Bounds:
    """What rows that are answered together may take, and how many tokens a row `alone`, which is always taken in."""

    tokens: int = MOST_TOKENS
    rows: int = MOST_ROWS
    read: int = MOST_READ
    alone: int = sys.maxsize

    def hold(self, wholes: Sequence[int]) -> bool:
        """Whether rows may be answered together that have at most so many tokens each, question and answer."""
        return len(wholes) <= 1 or (len(wholes) <= self.rows and len(wholes) * max(wholes) <= self.tokens)

    def read_at_once(self, prompts: Sequence[int]) -> bool:
        """Whether questions of so many tokens may be read together: each is filled up to the longest."""
        return len(prompts) <= 1 or len(prompts) * max(prompts) <= self.read


USUAL = Bounds()


def bounds_on(machine: Machine, shape: Shape, width: int) -> Bounds:
    """Those of this machine, for a base of these sizes whose cache has numbers of so many bytes."""
    memory = machine.memory if machine.kind == "cpu" else machine.card_memory
    return bounds_within(CACHE_SHARE * memory * GIBIBYTE, shape, width)


def bounds_within(memory: float, shape: Shape, width: int) -> Bounds:
    """Those with which the cache takes so many bytes at most."""
    tokens = int(max(0.0, memory) / shape.cache_bytes(width))
    return Bounds(min(MOST_TOKENS, tokens), alone=max(LEAST_ALONE, int(ALONE * tokens)))
