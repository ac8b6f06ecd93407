"""The sizes of a Phi-3, from its config alone: how many weights there are, and how many LoRA adds; pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from phi3.machine import GIBIBYTE, MEBIBYTE, Machine

# What a core's caches hold; a second layout of so little is no burden. One row's step that reads no more than this
# gains nothing by a second thread, and where somebody else computes as well, each of its two hundred calls would wait
# for that thread to get a turn.
SMALL_BASE = 32 * MEBIBYTE
# Bytes of a number.
WIDTHS = {"fp32": 4, "bf16": 2}
# Quantised weights hold half a byte each, one byte of scale per 64 of them, and for 256 of those scales a float32
# (double quantisation; Dettmers et al., "QLoRA", 2023, section 3).
NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)


@dataclass(frozen=True)
class Shape:
    """The sizes of a Phi-3, from its config.json."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    intermediate: int
    vocabulary: int
    tied: bool

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Shape:
        """From the config's own names."""
        return cls(config["num_hidden_layers"], config["hidden_size"], config["num_attention_heads"],
                   config.get("num_key_value_heads") or config["num_attention_heads"], config["intermediate_size"],
                   config["vocab_size"], bool(config.get("tie_word_embeddings", False)))

    @property
    def queries(self) -> int:
        """Width of all query heads together."""
        return self.heads * (self.hidden // self.heads)

    @property
    def keys(self) -> int:
        """Width of all key heads together; values are as wide."""
        return self.kv_heads * (self.hidden // self.heads)

    def widths(self) -> dict[str, tuple[int, int]]:
        """(in, out) of each linear layer of a block."""
        return {"qkv_proj": (self.hidden, self.queries + 2 * self.keys), "o_proj": (self.queries, self.hidden),
                "gate_up_proj": (self.hidden, 2 * self.intermediate), "down_proj": (self.intermediate, self.hidden)}

    def linear_weights(self) -> int:
        """Weights of the blocks' linear layers."""
        return self.layers * sum(into * out for into, out in self.widths().values())

    def table_weights(self) -> int:
        """Weights of the embedding and, where it has its own, the head; norms are counted with them."""
        tables = (1 if self.tied else 2) * self.vocabulary * self.hidden
        return tables + (2 * self.layers + 1) * self.hidden

    def lora_weights(self, rank: int, names: Iterable[str] | None = None) -> int:
        """A (rank x in) and B (out x rank) beside each adapted layer (Hu et al., "LoRA", 2021); of all layers where no
        names are given.
        """
        names = self.widths() if names is None else names
        return self.layers * sum(rank * sum(self.widths()[name]) for name in names)

    def cache_bytes(self, width: int) -> int:
        """Of a token's keys and values in all layers, in numbers of so many bytes."""
        return 2 * self.layers * self.keys * width

    def weights(self) -> int:
        """All of them."""
        return self.linear_weights() + self.table_weights()

    @property
    def is_small(self) -> bool:
        """Whether the caches of a processor may hold all of its weights as float32."""
        return WIDTHS["fp32"] * self.weights() <= SMALL_BASE

    def lies_twice(self, machine: Machine) -> bool:
        """Whether a processor that multiplies bf16 has its weights a second time, in the order that suits it, for
        answers: where the machine's memory would hold them three times.
        """
        return not self.is_small and machine.multiplies_bf16 and \
            3 * WIDTHS["bf16"] * self.weights() <= machine.memory * GIBIBYTE
