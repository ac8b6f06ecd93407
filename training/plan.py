"""What a run will do and need, before it starts: precision, batch, steps, memory by term, seconds, GPU turns; pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from phi3.bounds import Bounds
from phi3.machine import GIBIBYTE, Machine
from phi3.models import Precision, usual_precision
from phi3.shape import Shape
from training import dora
from training.answers import GENERAL_ROWS, GENERAL_TOKENS, SPOKEN_TOKENS, answers_of, bounds_between_steps
from training.config import RunConfig, in_digits
from training.memory import (
    adapter_bytes,
    block_bytes_per_token,
    machine_bytes,
    memory_of,
    precision_of,
    trained_weights,
    width_in,
)
from training.quota import Turns, Visit, turns_of
from training.work import (
    Batches,
    Speed,
    Work,
    batches_of,
    guessed_speed,
    looking_work,
    times_spoken,
    training_work,
)

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


@dataclass(frozen=True)
class Plan:
    """What will be done. `memory` is in bytes by term, `seconds` by part, `turns` only where a GPU is lent.

    `work` is that of all steps, `reading` that of all prompts that are answered, and `spoken` the tokens, times layers,
    that the model says: what a machine's speed is learned from. No more is answered at once than `bounds` hold.
    `expanded`: the 4-bit base is made whole once, and trained on as LoRA's is. `recomputed` of
    the blocks forget what they computed, and compute it again in the backward pass (gradient checkpointing). `alone`:
    it needs the part of the card that is kept for answers as well, so there are none while it trains.
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
    reading: Work
    bounds: Bounds
    turns: Turns | None = None
    expanded: bool = False
    alone: bool = False

    @property
    def peak(self) -> int:
        """Bytes at the worst moment of a step."""
        return sum(self.memory.values())

    @property
    def fits(self) -> bool:
        """Whether the machine holds it."""
        return self.peak <= self.available

    @property
    def has_room_twice(self) -> bool:
        """Whether what a step computes may lie in memory twice: captured steps have a place of their own."""
        return self.peak + self.memory["activations"] + self.memory["logits"] <= self.available

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
    the GPU is lent. A run is planned beside what is kept of a card for answers where it can be, else in its place.
    """
    if not train:
        raise ValueError("No conversation is left to train on.")
    plan = _plan_on(machine, config, base, (train, held), measured, visit)
    if plan.fits or not machine.card_taken:
        return plan
    return replace(_plan_on(replace(machine, card_taken=0.0), config, base, (train, held), measured, visit), alone=True)


def looks_of(config: RunConfig, batches: Batches) -> int:
    """How often held-out loss and answers are looked at: before the first step, in between, and after the last."""
    return 2 + max(0, (batches.steps - 1) // config.eval_steps)


def _plan_on(machine: Machine, config: RunConfig, base: Mapping[str, Any], sides: tuple[Sequence[int], Sequence[int]],
             measured: Speed | None, visit: Visit | None) -> Plan:
    """The plan of a run that has of the machine what is left of it."""
    shape, (train, held) = Shape.of(base), sides
    batches = batches_of(config, train)
    asked, available = config, int(machine_bytes(machine, shape) * USABLE_SHARE)
    whole = replace(config, method="lora", bf16=usual_precision(shape, machine.kind) == "bf16")
    forgotten = shape.layers if config.gradient_checkpointing else 0
    peak = sum(memory_of(whole, shape, precision_of(whole), batches, machine, forgotten).values())
    expanded = config.method == "qlora" and peak <= EXPANDED_SHARE[machine.kind] * available
    if expanded:
        config = whole
    precision = precision_of(config)
    width = width_in(precision, shape, machine)
    recomputed = _recomputed(config, shape, precision, batches, machine, RECOMPUTED_SHARE * available)
    kept = block_bytes_per_token(config, shape, width, machine, 0)
    work = training_work(config, shape, batches, kept, recomputed)
    memory = memory_of(config, shape, precision, batches, machine, recomputed)
    looks, speed = looks_of(config, batches), measured or guessed_speed(machine, shape, width, asked.method == "qlora")
    general = [GENERAL_TOKENS] * GENERAL_ROWS
    look = looking_work(config, shape, [*held, *general], kept, batches.budget) if held else Work(0, 0, 0)
    besides = Work(0, 0, 0)
    if config.use_dora:
        slowdown = dora.slowdown(width, adapter_bytes(config.method), machine)
        work = work.plus(dora.training_work(config, shape, batches, recomputed, slowdown))
        look = look.plus(dora.passes(config, shape, math.ceil(sum(held) / batches.budget)))
        besides = dora.passes(config, shape, 1)
    spoken = round(SPOKEN_TOKENS * shape.layers * times_spoken(config, shape, width, machine, besides))
    if precision == "nf4" and machine.kind == "cpu":
        spoken *= SPOKEN_IN_4_BITS
    # At its end base and adapter answer held-out rows once each; where time is lent, only if some is left over.
    answers = answers_of(config, shape, held or train, looks, bounds_between_steps(memory, available, shape, width),
                         kept, bool(held) and machine.kind != "zerogpu")
    spoken *= answers.times
    seconds = {"loading": speed.load, "training": speed.seconds(work), "evaluation": looks * speed.seconds(look),
               "speaking": speed.seconds(answers.reading) + spoken * speed.word}
    longest = (seconds["training"] / batches.steps) + (seconds["evaluation"] + seconds["speaking"]) / looks
    turns = turns_of(sum(seconds.values()), speed.load, longest, visit or Visit()) \
        if machine.kind == "zerogpu" else None
    return Plan(precision_of(asked), config.attn_implementation, recomputed, batches,
                trained_weights(config, shape), memory, available, seconds, measured is not None, work, spoken,
                answers.reading, answers.bounds, turns, expanded)


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


def in_words(plan: Plan) -> list[str]:
    """The plan as lines for a person."""
    batches = plan.batches
    how = "measured" if plan.is_measured else "guessed"
    fits = "fits" if plan.fits else "does not fit"
    checkpointing = f", gradient checkpointing in {plan.recomputed} blocks" if plan.recomputed else ""
    made_whole = " made whole once" if plan.expanded else ""
    epochs = f"{in_digits(batches.epochs, 3)} {'epoch' if batches.epochs == 1 else 'epochs'}"
    return [
        f"{plan.precision} base{made_whole}, {plan.attention} attention{checkpointing}; {plan.trainable:,} weights are "
        "trained.",
        f"{batches.steps:,} steps of {batches.examples_per_step} conversations, {epochs}: "
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
