"""Chat: lanes in one batch against one lane, PEFT and the memory's own speed, and their words against PEFT's."""

from __future__ import annotations

import json
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.card.agreement import agreement
from benchmarks.card.bench import Bench, free_memory
from benchmarks.card.figure import FOUR_BITS, Figure, Section
from benchmarks.card.rates import copy_rate
from benchmarks.goals import AGAINST_MIXED, FOUR_LANES, LOAD, ONE_STREAM, SWITCH, UNMERGED, Goal

REPEATS = 3
# Beside more lanes than these, PEFT takes minutes.
BESIDE = (1, 4)
# (what, above, below, goal): of the medians of seconds a step.
RATIOS: tuple[tuple[str, str, str, Goal], ...] = (
    ("four lanes ÷ one, time per token", "slots 4", "slots 1", FOUR_LANES),
    ("PEFT mixed ÷ slots, four lanes", "PEFT mixed 4", "slots 4", AGAINST_MIXED),
    ("base ÷ one unmerged adapter", "base 1", "slots 1", UNMERGED),
)


def _right(bench: Bench, precision: str) -> Iterator[Figure]:
    """Four lanes in one batch, each led along stock PEFT's own words."""
    lanes = _bench(bench, precision, adapters=4)
    found = agreement(lanes.base, list(lanes.folders), "What is the capital of France?", bench.size(48, 8))
    yield Figure(f"{lanes.base.precision}: four lanes beside stock PEFT", round(found.difference, 5),
                 "deviations of the logits", "the largest difference of any logit", check=found.check())


def _lanes(bench: Bench, precision: str) -> Iterator[Figure]:
    """Every arm in turn, again and again; the first round warms up."""
    from benchmarks.chat import arms_of, in_turn

    lanes, took, longest = _bench(bench, precision, adapters=8), defaultdict(list), 0.0
    arms = dict(arms_of(lanes, bench.size(BESIDE, (4,))))
    for turn in range(1 + bench.size(REPEATS, 1)):
        began = time.monotonic()
        for name, arm in in_turn(arms, is_first=not turn):
            once = arm()
            if turn:
                took[name].append(once)
        longest = max(longest, time.monotonic() - began)
        if turn:
            yield from _told(bench, lanes, took)
        if bench.left() < 1.5 * longest:
            return


def _told(bench: Bench, lanes: Any, took: Mapping[str, list[Any]]) -> Iterator[Figure]:
    precision = lanes.base.precision
    steps = {name: statistics.median(one.step for one in some) for name, some in took.items()}
    for name, some in took.items():
        count = int(name.rsplit(" ", 1)[1])
        first = statistics.median(one.first for one in some)
        yield Figure(f"{precision}: {name}", round(1e3 * steps[name], 2), "ms per token",
                     f"first token after {1e3 * first:.0f} ms; {count / steps[name]:.0f} tokens/s; {len(some)} times")
    for what, above, below, goal in RATIOS:
        if {above, below} <= steps.keys():
            yield Figure(f"{precision}: {what}", round(steps[above] / steps[below], 3), goal=goal)
    rate = copy_rate()
    for count in (1, 2, 4, 8):
        read = _bytes_a_step(bench, lanes, count)
        yield Figure(f"{precision}: base {count}, share of the bandwidth roofline",
                     round(read / rate / steps[f"base {count}"], 3), "",
                     f"{read / 1e9:.2f} GB a step, {rate / 1e9:.0f} GB/s: {rate / read:.0f} steps/s at most",
                     ONE_STREAM if count == 1 else None)


def _bytes_a_step(bench: Bench, lanes: Any, count: int) -> float:
    """What a step must read: the linear layers' weights as they are held, the head, and each lane's keys and values."""
    from benchmarks.chat import QUESTION
    from phi3.shape import NF4_BYTES, Shape
    from phi3.template import encode_prompt

    shape = Shape.of(json.loads((bench.base() / "config.json").read_text(encoding="utf-8")))
    width = lanes.base.model.lm_head.weight.element_size()
    linear = NF4_BYTES if lanes.base.precision == "nf4" else width
    said = len(encode_prompt(lanes.base.tokenizer, [{"role": "user", "content": QUESTION}])) + lanes.tokens / 2
    cache = count * said * 2 * shape.keys * shape.layers * width
    return shape.linear_weights() * linear + shape.vocabulary * shape.hidden * width + cache


def _moved(bench: Bench) -> Iterator[Figure]:
    """Between resident adapters, and from a file that the machine has in memory already."""
    from benchmarks.chat import moves

    lanes = _bench(bench, "bf16", adapters=8)
    found = moves(lanes, bench.work / "adapters", bench.size(5, 1))
    goals = {"switch_one_lane": SWITCH, "load_per_50_megabytes": LOAD}
    for name, took in found["milliseconds"].items():
        least = found["least_milliseconds"][name]
        yield Figure(name.replace("_", " "), round(took, 3), "ms", f"the least {least:.3f}", goals.get(name))


def _bench(bench: Bench, precision: str, adapters: int) -> Any:
    """The base in this precision, which never stops by itself, and adapters."""
    from dataclasses import replace

    from benchmarks.chat import Bench as Lanes
    from benchmarks.chat import adapter_of
    from phi3.models import load_base

    free_memory()
    base = load_base(str(bench.base()), precision)
    folder = bench.work / "adapters" / precision
    folders = tuple(Path(adapter_of(base, folder / str(number), number, 16)) for number in range(adapters))
    return Lanes(replace(base, stop_tokens=()), folders, bench.size(48, 6))


SECTIONS = (
    Section("bf16, right", partial(_right, precision="bf16")),
    Section("bf16, lanes", partial(_lanes, precision="bf16")),
    Section("moves", _moved),
    Section("nf4, right", partial(_right, precision="nf4"), FOUR_BITS),
    Section("nf4, lanes", partial(_lanes, precision="nf4"), FOUR_BITS),
)
