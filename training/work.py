"""How much work a run is: a Phi-3's sizes, steps, padding, operations; and how long a machine takes for it; pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from phi3.machine import Machine
from training.config import LINEAR_LAYERS, RunConfig

# At each look at the model its answers are so long at most; all are spoken at once.
SPOKEN_TOKENS = 64


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

    def lora_weights(self, rank: int, names: Sequence[str] = LINEAR_LAYERS) -> int:
        """A (rank x in) and B (out x rank) beside each adapted layer (Hu et al., "LoRA", 2021)."""
        return self.layers * sum(rank * sum(self.widths()[name]) for name in names)


@dataclass(frozen=True)
class Batches:
    """How the rows become steps. Tokens are counted over the whole run; `padded` is what is really computed."""

    examples_per_step: int
    steps: int
    forwards: int          # forward passes over all steps
    epochs: float
    tokens: int
    padded: int
    longest_row: int       # tokens
    longest_batch: int     # tokens of the largest forward pass, padding included


@dataclass(frozen=True)
class Work:
    """What passes through the machine; each of the four has its own price.

    `passes`: of one layer, forward or backward, whatever it holds; `operations`: of matrix multiplications, in 1e9;
    `written`: bytes of what the layers and the head write, in 1e9; `halves`: operations of a QLoRA adapter, in 1e9,
    since TRL trains it in bfloat16, which many a CPU multiplies slowly.
    """

    passes: float
    operations: float
    written: float
    halves: float

    def parts(self) -> tuple[float, float, float, float]:
        """The four, in the order of `Speed.prices`."""
        return self.passes, self.operations, self.written, self.halves


@dataclass(frozen=True)
class Speed:
    """Seconds: `prices` of each unit of a `Work`, `load` before the first step and after the last, `word` for a token
    that is spoken, for each layer of the base.
    """

    prices: tuple[float, float, float, float]
    load: float
    word: float

    def seconds(self, work: Work) -> float:
        """How long this machine takes for it."""
        return sum(price * part for price, part in zip(self.prices, work.parts(), strict=True))


# Seconds on a machine that trained nothing yet: for a pass of a layer, 1e9 operations, 1e9 bytes, 1e9 operations in
# bfloat16; to load; for a spoken token and layer. On a CPU, all but the first are for one thread. A card's come from
# the share of its matrix rate that the plain recipe reaches (about a quarter), which all else is part of.
GUESSED = {
    "cpu": Speed((2e-3, 0.02, 0.5, 0.6), 10.0, 1e-3),
    "cuda": Speed((1.8e-3, 1 / 90e3, 0.0, 0.0), 25.0, 1.3e-3),
    "zerogpu": Speed((1.8e-3, 1 / 60e3, 0.0, 0.0), 6.0, 1.3e-3),
}
# What writes to memory for each number that a block keeps, in a pass; and a head's passes over its logits, on a CPU,
# where TRL has no fused kernel for them (`_forward_tile`, `_backward_tile` of TRL 1.16's chunked_logprob.py).
WRITES_PER_KEPT = 2
HEAD_WRITES = {"forward": 7, "backward": 12}


def guessed_speed(machine: Machine) -> Speed:
    """The speed of such a machine."""
    guess = GUESSED[machine.kind]
    threads = machine.threads if machine.kind == "cpu" else 1
    start, operation, byte, half = guess.prices
    return Speed((start, operation / threads, byte / threads, half / threads), guess.load, guess.word)


def training_work(config: RunConfig, shape: Shape, batches: Batches, square: float, kept: float) -> Work:
    """All steps: forward, backward, and forward again where checkpointing forgets what it computed.

    `square`: the mean padded length, weighted by tokens; `kept`: bytes that one block keeps for a token.
    """
    passes = 3 if config.gradient_checkpointing else 2
    head = HEAD_WRITES["forward"] + HEAD_WRITES["backward"]
    return Work(batches.forwards * (shape.layers + 1) * passes,
                batches.padded * (flops_per_token(shape, config) + attention_flops(shape, config, square)) / 1e9,
                (batches.padded * _written(shape, kept, passes, head)
                 + batches.forwards * passes * _unpacked(config, shape)) / 1e9,
                batches.padded * 6 * _halves(config, shape) / 1e9)


def looking_work(config: RunConfig, shape: Shape, held: Sequence[int], kept: float) -> Work:
    """One evaluation: the forward pass over the held-out rows, in the order and batches of the file."""
    size = config.per_device_train_batch_size
    forwards = math.ceil(len(held) / size)
    padded = expected_longest(held, size) * len(held) if held else 0.0
    weights = shape.linear_weights() + shape.vocabulary * shape.hidden
    return Work(forwards * (shape.layers + 1), padded * 2 * weights / 1e9,
                (padded * _written(shape, kept, 1, HEAD_WRITES["forward"]) + forwards * _unpacked(config, shape)) / 1e9,
                padded * 2 * _halves(config, shape) / 1e9)


def flops_per_token(shape: Shape, config: RunConfig) -> float:
    """Operations of a step per token: 2 per weight forward and 2 backward, since a frozen weight needs no gradient of
    its own; 2 more where checkpointing computes the forward pass again; 6 per LoRA weight (Kaplan et al., "Scaling
    Laws for Neural Language Models", 2020, section 2.1, without the frozen weights' gradients).
    """
    weights = shape.linear_weights() + shape.vocabulary * shape.hidden
    passes = 3 if config.gradient_checkpointing else 2
    return 2 * passes * weights + 6 * shape.lora_weights(config.r, adapted(config))


def attention_flops(shape: Shape, config: RunConfig, length: float) -> float:
    """Scores and their sum over the values, per token of a row so long: 4 per position and query number, and 2.5 times
    that backward, where they are computed again (Dao et al., "FlashAttention", 2022, section 3.1).
    """
    times = 4.5 if config.gradient_checkpointing else 3.5
    return times * 4 * length * shape.queries * shape.layers


def batches_of(config: RunConfig, train: Sequence[int]) -> Batches:
    """Steps as `Trainer` counts them: the last, smaller batch of an epoch is a step too."""
    size, accumulated = config.per_device_train_batch_size, config.gradient_accumulation_steps
    forwards = math.ceil(len(train) / size)
    per_epoch = max(1, math.ceil(forwards / accumulated))
    steps = config.max_steps if config.max_steps > 0 else max(1, math.ceil(config.num_train_epochs * per_epoch))
    epochs = steps / per_epoch
    padded = expected_longest(train, size) * len(train)
    # Few steps may never meet the longest row.
    seen = min(len(train), steps * accumulated * size)
    longest = math.ceil(expected_longest(train, seen))
    return Batches(size * accumulated, steps, math.ceil(epochs * forwards), epochs, round(sum(train) * epochs),
                   round(padded * epochs), longest, min(size, len(train)) * longest)


def mean_square(config: RunConfig, train: Sequence[int]) -> float:
    """The mean padded length of a token's batch, each token counted: what attention's work grows with."""
    size = config.per_device_train_batch_size
    return expected_longest([length * length for length in train], size) / expected_longest(train, size)


def expected_longest(lengths: Sequence[int], size: int) -> float:
    """The mean longest of `size` rows drawn without replacement: to that length a random batch is padded.

    The k-th smallest of n is the longest of a draw with probability C(k-1, size-1) / C(n, size).
    """
    ordered, count = sorted(lengths), len(lengths)
    size = min(size, count)
    chance, mean = 1.0, 0.0
    # From the longest down: the chance that none of the longer ones was drawn, times that this one was.
    for drawn, length in enumerate(reversed(ordered)):
        left = count - drawn
        here = chance * size / left
        mean += here * length
        chance -= here
        if chance <= 1e-12:
            break
    return mean


def adapted(config: RunConfig) -> Sequence[str]:
    """The names of the linear layers that get an adapter."""
    layers = config.layers()
    return LINEAR_LAYERS if layers == "all-linear" else layers


def _written(shape: Shape, kept: float, passes: int, head: int) -> float:
    return shape.layers * kept * passes * WRITES_PER_KEPT + shape.vocabulary * 4 * head


def _unpacked(config: RunConfig, shape: Shape) -> float:
    """Bytes of the 4-bit weights made whole, in every pass."""
    return 4 * shape.linear_weights() if config.method == "qlora" else 0.0


def _halves(config: RunConfig, shape: Shape) -> float:
    return shape.lora_weights(config.r, adapted(config)) if config.method == "qlora" else 0.0
