"""What a run will do and need, before it starts: precision, batch, steps, memory by term, seconds, GPU turns; pure."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from phi3.machine import GIBIBYTE, LOGITS_AT_ONCE, Machine
from phi3.models import Precision, usual_precision
from phi3.shape import WIDTHS, Shape
from training import dora
from training.config import SETTINGS, RunConfig
from training.quota import Turns, Visit, turns_of
from training.work import (
    SPOKEN_TOKENS,
    Batches,
    Speed,
    Work,
    adapted,
    batches_of,
    guessed_speed,
    looking_work,
    times_spoken,
    training_work,
)

# Quantised weights hold half a byte each, one byte of scale per 64 of them, and for 256 of those scales a float32
# (double quantisation; Dettmers et al., "QLoRA", 2023, section 3).
NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)
# AdamW keeps two moments for each trained weight (Loshchilov and Hutter, 2019).
MOMENTS = 2
# What a trainer's process takes before it holds a model, measured as resident memory: Python with torch, transformers,
# PEFT and TRL on a CPU, and what they allocate at the first step; the CUDA context and its libraries on a card.
PROCESS_BYTES = {"cpu": 0.56 * GIBIBYTE, "cuda": 0.6 * GIBIBYTE, "zerogpu": 0.6 * GIBIBYTE}
# Blocks of many sizes leave gaps in the C library's heap: resident memory over what torch asked for, as measured on
# a CPU (benchmarks/plan.py): 1.1 with packs of 10,000 tokens, up to 1.4 with some of 2,000. A card's allocator is
# counted by what it gave out.
HEAP = {"cpu": 1.27, "cuda": 1.0, "zerogpu": 1.0}
# Share of the machine's memory that a run may plan with: allocators leave gaps, and the page needs some too.
USABLE_SHARE = 0.92
# A 4-bit base is made whole once where the run then needs this share of what it may plan with, and else in every pass.
# On a processor that is worth all that is left: bitsandbytes takes 20 ms for a layer of Phi-3-mini, however few rows.
EXPANDED_SHARE = {"cpu": 1.0, "cuda": 0.75, "zerogpu": 0.75}
# How many tokens of a whole base one in 4 bits takes the time of, on a processor.
SPOKEN_IN_4_BITS = 8
# With gradient checkpointing, no more blocks compute their forward pass twice than it takes to need this share of the
# memory, and this share of what the run would need without: whoever asks for it may know better than the plan.
RECOMPUTED_SHARE, RECOMPUTED_LESS = 0.5, 0.75
# After memory ran out, and nobody said for want of how much, the next run is to need this share of it at most.
CAUTION = 0.9


@dataclass(frozen=True)
class Plan:
    """What will be done. `memory` is in bytes by term, `seconds` by part, `turns` only where a GPU is lent.

    `work` is that of all steps and `spoken` the tokens, times layers, that the model says in between: what a machine's
    speed is learned from. `expanded`: the 4-bit base is made whole once, and trained on as LoRA's is. `recomputed` of
    the blocks forget what they computed, and compute it again in the backward pass (gradient checkpointing).
    """

    precision: str
    attention: str
    recomputed: int
    batches: Batches
    trainable: int
    memory: dict[str, int]
    available: int
    seconds: dict[str, float]
    is_measured: bool
    work: Work
    spoken: int
    turns: Turns | None = None
    expanded: bool = False

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
        left = {"turns": {**asdict(self.turns), "left": self.turns.left}} if self.turns else {}
        return {**asdict(self), **left, "peak": self.peak, "fits": self.fits, "total_seconds": self.total_seconds}


def make_plan(config: RunConfig, base: Mapping[str, Any], train: Sequence[int], held: Sequence[int], machine: Machine,
              measured: Speed | None = None, visit: Visit | None = None) -> Plan:
    """The plan of a run over rows of `train` and `held` tokens each (already cut at `max_length`), on a base with
    this config.json; ValueError where no row is left to train on.

    `measured` is how fast such runs were on this machine (training/speed.py), if one was; `visit` counts only where
    the GPU is lent.
    """
    if not train:
        raise ValueError("No conversation is left to train on.")
    shape = Shape.of(base)
    batches = batches_of(config, train)
    asked, available = config, int(_memory(machine, shape) * USABLE_SHARE)
    whole = replace(config, method="lora", bf16=usual_precision(shape, machine.kind) == "bf16")
    forgotten = shape.layers if config.gradient_checkpointing else 0
    peak = sum(memory_of(whole, shape, precision_of(whole), batches, machine, forgotten).values())
    expanded = config.method == "qlora" and peak <= EXPANDED_SHARE[machine.kind] * available
    if expanded:
        config = whole
    precision = precision_of(config)
    width = _width(precision, shape, machine)
    recomputed = _recomputed(config, shape, precision, batches, machine, RECOMPUTED_SHARE * available)
    kept = block_bytes_per_token(config, shape, width, machine, 0)
    work = training_work(config, shape, batches, kept, recomputed)
    looks, speed = looks_of(config, batches), measured or guessed_speed(machine, shape, width, asked.method == "qlora")
    look = looking_work(config, shape, held, kept, batches.budget) if held else Work(0, 0, 0)
    times = times_spoken(config, shape, width, machine)
    if config.use_dora:
        slowdown = dora.slowdown(width, adapter_bytes(config.method), machine)
        work = work.plus(dora.training_work(config, shape, batches, recomputed, slowdown))
        look = look.plus(dora.passes(config, shape, math.ceil(sum(held) / batches.budget)))
        times += dora.times_spoken(config, shape, width, machine)
    spoken = round(SPOKEN_TOKENS * shape.layers * times)
    if precision == "nf4" and machine.kind == "cpu":
        spoken *= SPOKEN_IN_4_BITS
    # At its end base and adapter answer held-out rows once each; where time is lent, only if some is left over.
    answers = looks + (2 if held and machine.kind != "zerogpu" else 0)
    seconds = {"loading": speed.load, "training": speed.seconds(work), "evaluation": looks * speed.seconds(look),
               "speaking": answers * spoken * speed.word}
    longest = (seconds["training"] / batches.steps) + (seconds["evaluation"] + seconds["speaking"]) / looks
    turns = turns_of(sum(seconds.values()), speed.load, longest, visit or Visit()) \
        if machine.kind == "zerogpu" else None
    return Plan(precision_of(asked), config.attn_implementation, recomputed, batches,
                trained_weights(config, shape),
                memory_of(config, shape, precision, batches, machine, recomputed), available, seconds,
                measured is not None, work, answers * spoken, turns, expanded)


def precision_of(config: RunConfig) -> Precision:
    """What the base is held in: "nf4", "bf16" or "fp32"."""
    if config.method == "qlora":
        return "nf4"
    return "bf16" if config.bf16 else "fp32"


def width_of(config: RunConfig, base: Mapping[str, Any], machine: Machine) -> int:
    """Bytes of a number that passes from layer to layer of the base with this config.json."""
    return _width(precision_of(config), Shape.of(base), machine)


def looks_of(config: RunConfig, batches: Batches) -> int:
    """How often held-out loss and answers are looked at: before the first step, in between, and after the last."""
    return 2 + max(0, (batches.steps - 1) // config.eval_steps)


def made_to_fit(config: RunConfig, plan_of: Callable[[RunConfig], Plan]) -> dict[str, Any]:
    """The fewest changes with which the run fits, as settings; ValueError where none of them is enough.

    What costs least is tried first: gradient checkpointing costs time, a smaller batch with as many more forward passes
    a little more of it, QLoRA some precision, and a shorter longest conversation what is cut off.
    """
    steps = [change for change in CHANGES if change(config)]
    for count in range(1, len(steps) + 1):
        for chosen in itertools.combinations(steps, count):
            changes = _least_of(config, chosen, plan_of)
            if changes is not None:
                return changes
    raise ValueError("No change of the settings makes this run fit. Choose a smaller base, or a machine with more "
                     "memory.")


def one_change(config: RunConfig, plan_of: Callable[[RunConfig], Plan]) -> dict[str, Any]:
    """The mildest single change with which the run fits, as settings; empty where more than one is needed, or none
    is enough.
    """
    chances = (_least_of(config, [change], plan_of) for change in CHANGES if change(config))
    return next(filter(None, chances), {})


def change_after_memory_ran_out(config: RunConfig, plan_of: Callable[[RunConfig], Plan], held: int,
                                asked: int) -> dict[str, Any]:
    """What to change where a run held so many bytes and got no `asked` more, whatever its plan said: the mildest single
    change, or the fewest together, by which the plan shrinks as much as was missing (`asked` 0: not known). Empty
    where nothing is enough.
    """
    plan = plan_of(config)
    # A plan that said beforehand that it won't fit must fit now as well.
    allowed = min(plan.available, int(plan.peak * (held / (held + asked) if asked else CAUTION)))

    def bounded(changed: RunConfig) -> Plan:
        return replace(plan_of(changed), available=allowed)

    try:
        return one_change(config, bounded) or made_to_fit(config, bounded)
    except ValueError:
        return {}


def changes_in_words(config: RunConfig, changes: Mapping[str, Any]) -> str:
    """Each setting by its label, before and after."""
    return "; ".join(f"{SETTINGS[name].label}: {_said(getattr(config, name))} → {_said(value)}"
                     for name, value in changes.items())


def _said(value: Any) -> Any:
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else value


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


# What costs least comes first.
CHANGES: tuple[Change, ...] = (_checkpointing, _smaller_batch, _quantised, _shorter)


def _recomputed(config: RunConfig, shape: Shape, precision: Precision, batches: Batches, machine: Machine,
                allowed: float) -> int:
    """With gradient checkpointing, the fewest blocks that have to compute their forward pass again, or all where none
    are enough; else none.
    """
    if not config.gradient_checkpointing:
        return 0
    peaks = [sum(memory_of(config, shape, precision, batches, machine, count).values())
             for count in range(shape.layers + 1)]
    allowed = min(allowed, RECOMPUTED_LESS * peaks[0])
    return next((count for count, peak in enumerate(peaks) if peak <= allowed), shape.layers)


def memory_of(config: RunConfig, shape: Shape, precision: Precision, batches: Batches, machine: Machine,
              recomputed: int) -> dict[str, int]:
    """Bytes by term at the worst moment of a step: the backward pass of the largest pack.

    It begins with the head's buffers beside what all blocks keep; once they are gone, a block's own gradients come,
    and what it computes again where it forgot it. On a card the larger of the two counts, while a CPU's heap was
    measured to hold both.
    """
    width, tokens = _width(precision, shape, machine), batches.largest
    linear = shape.linear_weights() * (NF4_BYTES if precision == "nf4" else width)
    adapter_width = adapter_bytes(config.method)
    trainable = trained_weights(config, shape)
    block = block_bytes(config, shape, width, machine, tokens, batches.longest_row)
    passing = tokens * gradient_bytes_per_token(shape, width)
    if config.use_dora:
        passing = max(passing, dora.transient_bytes(config, shape, width, adapter_width))
    kept = (shape.layers - recomputed) * block + recomputed * tokens * shape.hidden * width
    head = head_bytes(shape, tokens, width)
    again = passing + (block if recomputed else 0)
    if machine.kind != "cpu":
        head, again = (head if head > again else 0, again if again >= head else 0)
    terms = {
        "base": linear + shape.table_weights() * width,
        "adapter": trainable * adapter_width,
        "gradients": trainable * adapter_width,
        "optimizer": trainable * adapter_width * MOMENTS,
        "activations": (kept + again) * HEAP[machine.kind],
        "logits": head * HEAP[machine.kind],
        "overhead": process_bytes(precision, machine),
    }
    return {name: int(value) for name, value in terms.items()}


def trained_weights(config: RunConfig, shape: Shape) -> int:
    """Numbers that are learned."""
    return shape.lora_weights(config.r, adapted(config)) + dora.magnitudes(config, shape)


def process_bytes(precision: str, machine: Machine) -> float:
    """The trainer's process without a model."""
    return PROCESS_BYTES[machine.kind]


def adapter_bytes(method: str) -> int:
    """PEFT keeps an adapter's weights in float32 beside a bf16 base; TRL trains QLoRA's in bf16."""
    return 2 if method == "qlora" else 4


def block_bytes(config: RunConfig, shape: Shape, width: int, machine: Machine, tokens: int, length: int) -> float:
    """Bytes that one block keeps of the forward pass of so many tokens, in rows so long."""
    once = dora.kept_bytes(config, shape, width, adapter_bytes(config.method)) if config.use_dora else 0
    return once + tokens * block_bytes_per_token(config, shape, width, machine, length)


def block_bytes_per_token(config: RunConfig, shape: Shape, width: int, machine: Machine, length: int) -> float:
    """Bytes that one block keeps of the forward pass for each token of rows so long.

    Counted tensor by tensor over `phi3/learner.py` (after the way of Korthikanti et al., "Reducing Activation
    Recomputation in Large Transformer Models", 2022, section 4); what autograd saves is held to it by a test.
    """
    norms = 2 * (width * shape.hidden + 4)             # each norm's input, and the scale that it found
    # Queries and keys after their rotation, the whole of qkv, of which the values are a view, and for each head the sum
    # of its scores in float32. What comes out is what o_proj sees; on a CPU each group of rows has its own besides.
    out = machine.kind == "cpu" or "o_proj" not in adapted(config)
    attention = width * ((2 + out) * shape.queries + 3 * shape.keys) + 4 * shape.heads
    gates = width * 2 * shape.intermediate
    # What LoRA's A sees, a byte for each number where there is dropout, and A's product.
    # loralib's own layers keep what dropout made of it instead, and on a CPU the scaled noise besides.
    loralib = width * (2 if machine.kind == "cpu" else 1) if config.method == "loralib" else 0
    mask = (loralib or 1) if config.lora_dropout else 0
    lora = sum((width + mask) * shape.widths()[name][0] + width * config.r for name in adapted(config))
    if config.use_dora:
        lora = dora.kept_bytes_per_token(config, shape, width, adapter_bytes(config.method), machine)
    return norms + attention + gates + lora + score_bytes(config, shape, width, length)


def score_bytes(config: RunConfig, shape: Shape, width: int, length: int) -> float:
    """Bytes a token that attention keeps for each position: eager attention every head's scores, in float32 and as they
    were multiplied; the others none.
    """
    return shape.heads * (4 + width) * length if config.attn_implementation == "eager" else 0


def gradient_bytes_per_token(shape: Shape, width: int) -> float:
    """What the backward pass of one block holds at once besides: the MLP's gradients, and their halves."""
    return width * 5 * shape.intermediate


def head_bytes(shape: Shape, tokens: int, width: int) -> float:
    """A tile of logits in float32 and, where they are narrower, as they were multiplied and as their gradient is; the
    last norm's input and result, what of it is trained, and its gradient.
    """
    tile = min(tokens * shape.vocabulary, LOGITS_AT_ONCE) * (4 + (2 * width if width < 4 else 0))
    return tile + tokens * shape.hidden * 4 * width


def in_words(plan: Plan) -> list[str]:
    """The plan as lines for a person."""
    batches = plan.batches
    how = "measured" if plan.is_measured else "guessed"
    fits = "fits" if plan.fits else "does not fit"
    checkpointing = f", gradient checkpointing in {plan.recomputed} blocks" if plan.recomputed else ""
    made_whole = " made whole once" if plan.expanded else ""
    return [
        f"{plan.precision} base{made_whole}, {plan.attention} attention{checkpointing}; {plan.trainable:,} weights are "
        "trained.",
        f"{batches.steps:,} steps of {batches.examples_per_step} conversations, {batches.epochs:.2g} epochs: "
        f"{batches.tokens:,} tokens, without padding.",
        f"Memory: {plan.peak / GIBIBYTE:.2f} GiB at most, and it {fits} into {plan.available / GIBIBYTE:.1f} GiB.",
        *(f"  {name:12} {value / GIBIBYTE:7.2f} GiB" for name, value in plan.memory.items()),
        f"Time: about {plan.total_seconds:.0f} s ({how}).",
        *(f"  {name:12} {value:7.0f} s" for name, value in plan.seconds.items()),
        *(_turns_in_words(plan.turns) if plan.turns else ()),
    ]


def _turns_in_words(turns: Turns) -> list[str]:
    how = "one GPU turn" if turns.count == 1 else f"{turns.count} GPU turns: keep this page open"
    before = f", after {turns.described} s for the questions before it" if turns.described else ""
    after = "enough" if turns.leaves_a_comparison else "too little"
    return [f"{how[0].upper()}{how[1:]}.",
            f"  Counted as {turns.asked} of an anonymous visitor's {turns.quota} s a day{before}; it leaves "
            f"{max(turns.left, 0)} s, {after} for a comparison ({turns.comparison} s)."]


def _width(precision: Precision, shape: Shape, machine: Machine) -> int:
    """Bytes of a number that passes from layer to layer."""
    return WIDTHS[usual_precision(shape, machine.kind) if precision == "nf4" else precision]


def _memory(machine: Machine, shape: Shape) -> float:
    """Bytes, without what the page's own answers take on a processor beside the base, of which there is one for all."""
    if machine.kind != "cpu":
        return machine.card_memory * GIBIBYTE
    return machine.memory * GIBIBYTE - (WIDTHS["bf16"] * shape.weights() if shape.lies_twice(machine) else 0)
