"""How much work a run is: steps, padding, operations; and how long a machine takes for it; pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from phi3.machine import Machine
from phi3.shape import WIDTHS, Shape
from training.config import LINEAR_LAYERS, RunConfig


@dataclass(frozen=True)
class Batches:
    """How the rows become steps: each step's rows lie end to end in packs. Tokens and passes are of the whole run."""

    examples_per_step: int
    steps: int
    forwards: int          # packs over all steps
    epochs: float
    tokens: int
    budget: int            # tokens of a pack at most
    longest_row: int       # tokens
    largest: int           # tokens of the largest pack that is to be expected
    squares: float         # the mean length of a token's row, each token counted: what attention's work grows with


@dataclass(frozen=True)
class Work:
    """What passes through the machine; each of the three has its own price.

    `passes`: of one layer, forward or backward, whatever it holds; `operations`: of matrix multiplications, in 1e9;
    `written`: bytes of what the layers and the head write, in 1e9.
    """

    passes: float
    operations: float
    written: float

    def parts(self) -> tuple[float, float, float]:
        """The three, in the order of `Speed.prices`."""
        return self.passes, self.operations, self.written

    def times(self, count: int) -> Work:
        """So many times as much."""
        return Work(*(count * one for one in self.parts()))

    def plus(self, other: Work) -> Work:
        """Both together."""
        return Work(*(one + more for one, more in zip(self.parts(), other.parts(), strict=True)))


@dataclass(frozen=True)
class Speed:
    """Seconds: `prices` of each unit of a `Work`, `load` before the first step and after the last, `word` for a token
    that is spoken, for each layer of the base.
    """

    prices: tuple[float, float, float]
    load: float
    word: float

    def seconds(self, work: Work) -> float:
        """How long this machine takes for it."""
        return sum(price * part for price, part in zip(self.prices, work.parts(), strict=True))


# Seconds on a machine that trained nothing yet: for a pass of a layer, 1e9 operations, 1e9 bytes; to load; for a spoken
# token and layer. On a CPU operations and bytes are for one thread. A card's operations, which all else is part of, are
# here those of one whose rate isn't known, and a pass is what it takes to begin its kernels: on an H200's machine 66 of
# them took 0.09 s.
GUESSED = {
    "cpu": Speed((1e-3, 0.02, 0.3), 8.0, 1e-3),
    "cuda": Speed((1.4e-3, 1 / 180e3, 0.0), 25.0, 1.3e-3),
    "zerogpu": Speed((1.4e-3, 1 / 120e3, 0.0), 6.0, 1.3e-3),
}
# The share of the rate in a card's data sheet that a step reaches: on an H200 459 of 1,070 teraflops.
REACHED = 0.4
# What an operation of bf16 takes on a processor that multiplies it by itself, of one that doesn't and of float32.
BF16_TIMES = 0.2
# Bytes a second that a processor reads, from its disk while it loads a base, and of the base's layers as it speaks.
LOADED, READ = 1e9, 20e9
# Weights a second that bitsandbytes quantises on a processor.
QUANTISED = 60e6
# What writes to memory for each number that a block keeps, in a pass; and the head's passes over its logits.
WRITES_PER_KEPT = 2
HEAD_WRITES = 4


def guessed_speed(machine: Machine, shape: Shape, width: int, is_quantised: bool = False) -> Speed:
    """The speed of such a machine with a base of these sizes, which computes with numbers of so many bytes. Where it
    `is_quantised` as it is loaded, that takes its time, too.
    """
    guess = GUESSED[machine.kind]
    start, operation, byte = guess.prices
    if machine.kind != "cpu":
        known = 1 / (1e3 * REACHED * machine.teraflops) if machine.teraflops else operation
        return replace(guess, prices=(start, known, byte))
    operation *= BF16_TIMES if width == WIDTHS["bf16"] and machine.multiplies_bf16 else 1
    layers = width * shape.linear_weights()
    load = guess.load + layers / LOADED + (shape.linear_weights() / QUANTISED if is_quantised else 0)
    return Speed((start, operation / machine.threads, byte / machine.threads), load,
                 guess.word + layers / shape.layers / READ)


def training_work(config: RunConfig, shape: Shape, batches: Batches, kept: float, recomputed: int) -> Work:
    """All steps: forward, backward, and forward again in the blocks that forget what they computed.

    `kept`: bytes that one block keeps for a token; `recomputed`: how many of the blocks forget it.
    """
    passes = 2 + recomputed / shape.layers
    each = flops_per_token(shape, config, recomputed) + attention_flops(shape, batches.squares, recomputed)
    return Work(batches.forwards * (shape.layers + 1) * passes, batches.tokens * each / 1e9,
                (batches.tokens * _written(shape, kept, passes)
                 + batches.forwards * passes * _made_whole(config, shape)) / 1e9)


def looking_work(config: RunConfig, shape: Shape, held: Sequence[int], kept: float, budget: int) -> Work:
    """One evaluation: the forward pass over the held-out rows, in packs of at most so many tokens."""
    tokens, forwards = sum(held), math.ceil(sum(held) / budget)
    weights = (shape.linear_weights() + shape.vocabulary * shape.hidden
               + shape.lora_weights(config.r, adapted(config)))
    each = 2 * weights + 4 * _squares(held) * shape.queries * shape.layers
    return Work(forwards * (shape.layers + 1), tokens * each / 1e9,
                (tokens * _written(shape, kept, 1) + forwards * _made_whole(config, shape)) / 1e9)


def times_spoken(config: RunConfig, shape: Shape, width: int, machine: Machine, besides: Work) -> float:
    """How many tokens of the base alone one with the adapter takes the time of, where each takes a forward pass with
    this work `besides`. A processor reads the adapter's weights as well; a card's time goes into the calls, of which
    the guess counts the adapter's already.
    """
    guess = guessed_speed(machine, shape, width)
    read = width * shape.lora_weights(config.r, adapted(config)) / READ if machine.kind == "cpu" else 0
    return 1 + (read + guess.seconds(besides)) / (guess.word * shape.layers)


def flops_per_token(shape: Shape, config: RunConfig, recomputed: int) -> float:
    """Operations of a step per token: 2 per weight forward and 2 backward, since a frozen weight needs no gradient of
    its own; 2 more in each block that computes its forward pass again; 6 per LoRA weight (Kaplan et al., "Scaling Laws
    for Neural Language Models", 2020, section 2.1, without the frozen weights' gradients). The head is counted as if
    every token were trained.
    """
    again = recomputed / shape.layers
    return (2 * (2 + again) * shape.linear_weights() + 4 * shape.vocabulary * shape.hidden
            + 6 * shape.lora_weights(config.r, adapted(config)))


def attention_flops(shape: Shape, length: float, recomputed: int) -> float:
    """Scores and their sum over the values, per token of a row so long: 4 per position and query number, and 2.5 times
    that backward, where they are computed again (Dao et al., "FlashAttention", 2022, section 3.1).
    """
    return (3.5 + recomputed / shape.layers) * 4 * length * shape.queries * shape.layers


def batches_of(config: RunConfig, train: Sequence[int]) -> Batches:
    """Steps as `Trainer` counts them: the last, smaller batch of an epoch is a step too.

    A pack may hold what the largest padded forward pass would: as many rows as one has, of the longest's length.
    """
    size, examples = config.per_device_train_batch_size, config.per_device_train_batch_size \
        * config.gradient_accumulation_steps
    per_epoch = math.ceil(len(train) / examples)
    steps = config.max_steps if config.max_steps > 0 else max(1, math.ceil(config.num_train_epochs * per_epoch))
    epochs, at_once = steps / per_epoch, min(examples, len(train))
    whole, more = divmod(steps, per_epoch)  # the smaller batch is an epoch's last
    longest, mean = max(train), sum(train) / len(train)
    budget = min(size, len(train)) * longest
    packs = 1 if config.gradient_accumulation_steps == 1 else max(1, math.ceil(at_once * mean / budget))
    largest = round(min(budget, expected_most(train, at_once, steps)))
    tokens = round(whole * sum(train) + more * examples * mean)
    return Batches(examples, steps, steps * packs, epochs, tokens, budget, longest, largest, _squares(train))


def expected_most(lengths: Sequence[int], size: int, steps: int) -> float:
    """Tokens of the largest of so many batches of `size` rows: their sums are nearly normal, and of n normal numbers
    the largest lies about √(2 ln n) deviations above the mean (Cramér, "Mathematical Methods of Statistics", 1946,
    section 28.6). No batch is larger than the longest rows together, or smaller than the mean.
    """
    count = len(lengths)
    mean = sum(lengths) / count
    spread = math.sqrt(sum((length - mean) ** 2 for length in lengths) / count * size * (1 - size / count))
    most = size * mean + spread * math.sqrt(2 * math.log(max(steps, 1)))
    return min(most, sum(sorted(lengths)[-size:]))


def adapted(config: RunConfig) -> Sequence[str]:
    """The names of the linear layers that get an adapter."""
    layers = config.layers()
    return LINEAR_LAYERS if layers == "all-linear" else layers


def _squares(lengths: Sequence[int]) -> float:
    return sum(length * length for length in lengths) / max(1, sum(lengths))


def _written(shape: Shape, kept: float, passes: float) -> float:
    return shape.layers * kept * passes * WRITES_PER_KEPT + shape.vocabulary * 4 * HEAD_WRITES


def _made_whole(config: RunConfig, shape: Shape) -> float:
    """Bytes of the 4-bit weights made whole, in every pass."""
    return 4 * shape.linear_weights() if config.method == "qlora" else 0.0
