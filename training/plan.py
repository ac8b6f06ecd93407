"""What a run will do and need, before it starts: precision, batch, steps, memory by term and seconds; pure."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from phi3.machine import GIBIBYTE, Machine
from training.config import LINEAR_LAYERS, RunConfig

# Quantised weights hold half a byte each, one byte of scale per 64 of them, and for 256 of those scales a float32
# (double quantisation; Dettmers et al., "QLoRA", 2023, section 3).
NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)
# AdamW keeps two moments for each trained weight (Loshchilov and Hutter, 2019).
MOMENTS = 2
# What a trainer's process takes before it holds a model: Python with torch, transformers, PEFT and TRL on a CPU; the
# CUDA context and its libraries on a card.
PROCESS_BYTES = {"cpu": 0.95 * GIBIBYTE, "cuda": 0.6 * GIBIBYTE, "zerogpu": 0.6 * GIBIBYTE}
# Share of the machine's memory that a run may plan with: allocators leave gaps, and the page needs some too.
USABLE_SHARE = 0.92


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
    epochs: float
    tokens: int
    padded: int
    longest_batch: int     # tokens of the largest forward pass, padding included


@dataclass(frozen=True)
class Speed:
    """Seconds of a step: `per_step`, and `per_token` for each computed token; `load` is spent before the first."""

    per_step: float
    per_token: float
    load: float


@dataclass(frozen=True)
class Plan:
    """What will be done. `memory` is in bytes by term, `seconds` by part."""

    precision: str
    attention: str
    gradient_checkpointing: bool
    batches: Batches
    trainable: int
    memory: dict[str, int]
    available: int
    seconds: dict[str, float]
    is_measured: bool

    @property
    def peak(self) -> int:
        """Bytes at the worst moment of a step."""
        return sum(self.memory.values())

    @property
    def fits(self) -> bool:
        """Whether the machine holds it."""
        return self.peak <= self.available

    @property
    def total_seconds(self) -> float:
        """From Start to the finished adapter."""
        return sum(self.seconds.values())

    def as_json(self) -> dict[str, Any]:
        """Plain values, with the sums."""
        return {**asdict(self), "peak": self.peak, "fits": self.fits, "total_seconds": self.total_seconds}


def make_plan(config: RunConfig, base: Mapping[str, Any], train: Sequence[int], held: Sequence[int], machine: Machine,
              slower: float | None = None) -> Plan:
    """The plan of a run over rows of `train` and `held` tokens each (already cut at `max_length`), on a base with
    this config.json; ValueError where no row is left to train on.

    `slower` is how many times as long as guessed such a run took on this machine (training/speed.py), if one did.
    """
    if not train:
        raise ValueError("No conversation is left to train on.")
    shape = Shape.of(base)
    batches = batches_of(config, train)
    precision = "nf4" if config.method == "qlora" else "bf16" if config.bf16 and machine.kind != "cpu" else "fp32"
    speed = guessed_speed(shape, config, machine, slower or 1.0)
    return Plan(precision, config.attn_implementation, config.gradient_checkpointing, batches,
                shape.lora_weights(config.r, _names(config)), memory_of(config, shape, precision, batches, machine),
                int(_memory(machine) * USABLE_SHARE), seconds_of(config, batches, held, speed), slower is not None)


def made_to_fit(config: RunConfig, plan_of: Callable[[RunConfig], Plan]) -> dict[str, Any]:
    """The fewest changes with which the run fits, as settings; ValueError where none of them is enough.

    What costs least is tried first: gradient checkpointing costs time, a smaller batch with as many more forward passes
    a little more of it, QLoRA some precision, and a shorter longest conversation what is cut off.
    """
    steps = [change for change in (_checkpointing, _smaller_batch, _quantised, _shorter) if change(config)]
    for count in range(1, len(steps) + 1):
        for chosen in itertools.combinations(steps, count):
            changes = _least_of(config, chosen, plan_of)
            if changes is not None:
                return changes
    raise ValueError("No change of the settings makes this run fit. Choose a smaller base, or a machine with more "
                     "memory.")


Change = Callable[[RunConfig], list[dict[str, Any]]]


def _least_of(config: RunConfig, chosen: Sequence[Change],
              plan_of: Callable[[RunConfig], Plan]) -> dict[str, Any] | None:
    """The mildest way in which these changes together make it fit."""
    for together in itertools.product(*(change(config) for change in chosen)):
        changes = {name: value for one in together for name, value in one.items()}
        if plan_of(replace(config, **changes)).fits:
            return changes
    return None


def _checkpointing(config: RunConfig) -> list[dict[str, Any]]:
    return [] if config.gradient_checkpointing else [{"gradient_checkpointing": True}]


def _smaller_batch(config: RunConfig) -> list[dict[str, Any]]:
    """Halved again and again, with as many more forward passes in a step: its examples stay what was asked."""
    size, accumulated = config.per_device_train_batch_size, config.gradient_accumulation_steps
    return [{"per_device_train_batch_size": size // parts, "gradient_accumulation_steps": accumulated * parts}
            for parts in (2, 4, 8, 16, 32, 64, 128) if size % parts == 0]


def _quantised(config: RunConfig) -> list[dict[str, Any]]:
    return [] if config.method == "qlora" else [{"method": "qlora"}]


def _shorter(config: RunConfig) -> list[dict[str, Any]]:
    return [{"max_length": config.max_length // parts} for parts in (2, 4, 8) if config.max_length // parts >= 128]


def batches_of(config: RunConfig, train: Sequence[int]) -> Batches:
    """Steps as `Trainer` counts them: the last, smaller batch of an epoch is a step too."""
    size, accumulated = config.per_device_train_batch_size, config.gradient_accumulation_steps
    forwards = math.ceil(len(train) / size)
    per_epoch = max(1, math.ceil(forwards / accumulated))
    steps = config.max_steps if config.max_steps > 0 else max(1, math.ceil(config.num_train_epochs * per_epoch))
    epochs = steps / per_epoch
    padded = expected_longest(train, size) * len(train)
    longest = sorted(train)[-size:]
    return Batches(size * accumulated, steps, epochs, round(sum(train) * epochs), round(padded * epochs),
                   len(longest) * longest[-1])


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


def memory_of(config: RunConfig, shape: Shape, precision: str, batches: Batches, machine: Machine) -> dict[str, int]:
    """Bytes by term at the worst moment of a step: the backward pass of the largest batch."""
    width = {"fp32": 4, "bf16": 2, "nf4": 4 if machine.kind == "cpu" else 2}[precision]
    linear = shape.linear_weights() * (NF4_BYTES if precision == "nf4" else width)
    adapter_width = adapter_bytes(precision)
    trainable = shape.lora_weights(config.r, _names(config))
    terms = {
        "base": linear + shape.table_weights() * width,
        "adapter": trainable * adapter_width,
        "gradients": trainable * adapter_width,
        "optimizer": trainable * adapter_width * MOMENTS,
        "activations": activation_bytes(config, shape, width, batches.longest_batch, machine),
        "logits": logit_bytes(shape, batches.longest_batch, width),
        "overhead": PROCESS_BYTES[machine.kind],
    }
    return {name: int(value) for name, value in terms.items()}


def adapter_bytes(precision: str) -> int:
    """PEFT keeps an adapter's weights in float32 beside a bf16 base; TRL trains QLoRA's in bf16."""
    return 2 if precision == "nf4" else 4


def activation_bytes(config: RunConfig, shape: Shape, width: int, tokens: int, machine: Machine) -> float:
    """What the backward pass needs of the forward one, for the largest batch.

    Counted tensor by tensor over a block of the native Phi-3 with a frozen base, where a linear layer's own input need
    not be kept (only its LoRA's), after the way of Korthikanti et al., "Reducing Activation Recomputation in Large
    Transformer Models", 2022, section 4. With gradient checkpointing each block keeps its input, and one at a time
    all of this.
    """
    block = tokens * block_bytes_per_token(config, shape, width, machine)
    if not config.gradient_checkpointing:
        return shape.layers * block
    return shape.layers * tokens * shape.hidden * width + block


def block_bytes_per_token(config: RunConfig, shape: Shape, width: int, machine: Machine) -> float:
    """Bytes that one block keeps for each token."""
    norms = 2 * 4 * shape.hidden                       # RMSNorm computes in float32
    attention = width * (2 * shape.queries + 2 * shape.keys)     # queries, keys, values, and what comes out
    gates = width * 3 * shape.intermediate             # gate, up, and the gate's SiLU
    # PEFT hands A the layer's input in float32; dropout keeps its result and a mask: booleans on a card, on a CPU the
    # scaled noise itself.
    mask = (4 if machine.kind == "cpu" else 1) if config.lora_dropout else 0
    lora = sum((4 + mask) * shape.widths()[name][0] + 4 * config.r for name in _names(config))
    return norms + attention + gates + lora


def logit_bytes(shape: Shape, tokens: int, width: int) -> float:
    """The head's output for the largest batch, its float32 copy and its gradient."""
    return tokens * shape.vocabulary * (4 + width)


def seconds_of(config: RunConfig, batches: Batches, held: Sequence[int], speed: Speed) -> dict[str, float]:
    """Seconds by part. An evaluation is a forward pass over the held-out rows: a third of a step's work per token."""
    training = batches.steps * speed.per_step + batches.padded * speed.per_token
    evaluations = 2 + max(0, (batches.steps - 1) // config.eval_steps) if held else 0
    padded = expected_longest(held, config.per_device_train_batch_size) * len(held) if held else 0.0
    forwards = math.ceil(len(held) / config.per_device_train_batch_size)
    each = forwards * speed.per_step / 3 + padded * speed.per_token / 3
    return {"loading": speed.load, "training": training, "evaluation": evaluations * each}


def flops_per_token(shape: Shape, config: RunConfig) -> float:
    """Operations of a step per token: 2 per weight forward and 2 backward, since a frozen weight needs no gradient of
    its own; 2 more where checkpointing computes the forward pass again; 6 per LoRA weight. Attention's share is left
    out: below 4 % at 2,048 tokens of Phi-3-mini.
    """
    weights = shape.linear_weights() + shape.vocabulary * shape.hidden
    passes = 3 if config.gradient_checkpointing else 2
    return 2 * passes * weights + 6 * shape.lora_weights(config.r, _names(config))


# Operations per second and thread (or card) that the plain recipe reached where it was measured, seconds of a step's
# fixed cost, and seconds to load. What a run on this machine took corrects them.
GUESSED = {"cpu": (22e9, 0.15, 8.0), "cuda": (90e12, 0.12, 25.0), "zerogpu": (60e12, 0.12, 6.0)}


def guessed_speed(shape: Shape, config: RunConfig, machine: Machine, slower: float = 1.0) -> Speed:
    """The speed of such a machine, or of this one where it is known to be so many times slower."""
    rate, per_step, load = GUESSED[machine.kind]
    threads = machine.threads if machine.kind == "cpu" else 1
    return Speed(per_step * slower, flops_per_token(shape, config) / (rate * threads) * slower, load * slower)


def in_words(plan: Plan) -> list[str]:
    """The plan as lines for a person."""
    batches = plan.batches
    how = "measured" if plan.is_measured else "guessed"
    fits = "fits" if plan.fits else "does not fit"
    checkpointing = ", with gradient checkpointing" if plan.gradient_checkpointing else ""
    return [
        f"{plan.precision} base, {plan.attention} attention{checkpointing}; {plan.trainable:,} weights are trained.",
        f"{batches.steps:,} steps of {batches.examples_per_step} conversations, {batches.epochs:.2g} epochs: "
        f"{batches.tokens:,} tokens, {batches.padded:,} with padding.",
        f"Memory: {plan.peak / GIBIBYTE:.2f} GiB at most, and it {fits} into {plan.available / GIBIBYTE:.1f} GiB.",
        *(f"  {name:12} {value / GIBIBYTE:7.2f} GiB" for name, value in plan.memory.items()),
        f"Time: about {plan.total_seconds:.0f} s ({how}).",
        *(f"  {name:12} {value:7.0f} s" for name, value in plan.seconds.items()),
    ]


def _names(config: RunConfig) -> Sequence[str]:
    layers = config.layers()
    return LINEAR_LAYERS if layers == "all-linear" else layers


def _memory(machine: Machine) -> float:
    return (machine.memory if machine.kind == "cpu" else machine.card_memory) * GIBIBYTE
