"""Training speed: TRL as it comes, TRL tuned, and the studio, in turns; the roofline's share; where the time goes."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from benchmarks.card.bench import Bench, free_memory, on_card
from benchmarks.card.figure import FOUR_BITS, TRAINING, Check, Figure, Section
from benchmarks.card.rates import matmul_rate
from benchmarks.card.steps import Peak, largest_kernels
from benchmarks.goals import AGAINST_DEFAULTS, AGAINST_TUNED, AGAINST_UNSLOTH, GRADIENTS, QLORA_SPEED, ROOFLINE

GIGABYTE = 1e9
REPEATS = 5
OURS, OURS_IN_4_BITS, OURS_CAPTURED = "studio", "studio, NF4", "studio, captured"
RACE = "race, {}.json"
REAL, LONG = "real lengths", "all 2047"


@dataclass
class Arm:
    """One way to train the same rows: what was seen of it so far, or why it is out of the race."""

    name: str
    rates: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    padding: float = 0.0
    peak: int = 0
    out: str = ""

    @property
    def rate(self) -> float:
        """Real tokens a second, the median."""
        return statistics.median(self.rates)

    def told(self) -> str:
        """What stands beside its figure."""
        return (f"{statistics.median(self.seconds):.3f} s a step, {self.padding:.0%} padding, "
                f"{self.peak / GIGABYTE:.1f} GB; {len(self.rates)} times, {min(self.rates):.0f} to "
                f"{max(self.rates):.0f}")


def _raced(bench: Bench, lengths: str) -> Iterator[Figure]:
    """All arms in turn, again and again, over the same rows, with as many conversations in a step."""
    from benchmarks.training import config_of
    from phi3.models import base_facts

    rows, examples = _rows(bench, lengths)
    bases, arms = _bases(bench), [Arm(name) for name in _makers()]
    config = replace(config_of(base_facts(str(bench.base())), "lora", examples=examples), max_length=bench.tokens(2048))
    longest = 0.0
    for turn in range(bench.size(REPEATS, 1)):
        for arm in arms:
            began = time.monotonic()
            if bench.left() > 2 * longest and not arm.out:
                _run(bench, arm, bases, rows, config)
                longest = max(longest, time.monotonic() - began)
        if turn == 0 or bench.left() <= 2 * longest * len(arms):
            yield from _standing(lengths, arms)
        if bench.left() <= 2 * longest * len(arms):
            break
    yield from _standing(lengths, arms)
    ran = {arm.name: arm for arm in arms if arm.rates}
    yield from _against_each_other(lengths, ran)
    (bench.work / RACE.format(lengths)).write_text(json.dumps({name: arm.rate for name, arm in ran.items()}),
                                                   encoding="utf-8")
    if lengths == LONG:
        yield from _roofline(bench, arms, rows, config)


def _makers() -> dict[str, Any]:
    """How each arm's trainer is built: those of `benchmarks.training`, with Liger's kernels, and ours in 4 bits."""
    import importlib.util

    from benchmarks.training import ARMS, packed, studio

    ours = {OURS_IN_4_BITS: studio} if _has_four_bits() else {}
    liger = {"tuned, packed, Liger": partial(packed, use_liger_kernel=True)} \
        if importlib.util.find_spec("liger_kernel") and on_card() else {}
    captured = {OURS_CAPTURED: partial(studio, captures=True)} if on_card() else {}
    return {**ARMS, **liger, **captured, **ours}


def _has_four_bits() -> bool:
    import importlib.util

    return all(importlib.util.find_spec(name) for name in FOUR_BITS)


def _bases(bench: Bench) -> dict[str, Any]:
    """The base of each arm that has one of its own; all others share one."""
    from benchmarks.training import base_for

    source = str(bench.base())
    whole = base_for(source, "lora")
    return {"": whole, **({OURS_IN_4_BITS: base_for(source, "qlora")} if _has_four_bits() else {})}


def _rows(bench: Bench, lengths: str) -> tuple[list[dict[str, list[int]]], int]:
    """(rows, conversations in a step). Fewer of long ones: a card with 80 GB holds no more in PEFT's own layers."""
    from benchmarks.training import LONGEST, rows_of

    examples, steps = bench.size((8, 6), (4, 2)) if lengths == REAL else bench.size((4, 4), (2, 2))
    length = None if lengths == REAL else bench.tokens(LONGEST)
    return rows_of(length, examples * steps, scale=bench.size(1.0, 0.25)), examples


def _run(bench: Bench, arm: Arm, bases: dict[str, Any], rows: list[Any], config: Any) -> None:
    """Once through all rows. An arm that runs out of memory is out, and the others go on."""
    import torch

    from benchmarks.training import timed

    base = bases.get(arm.name, bases[""])
    settings = replace(config, method="qlora") if arm.name == OURS_IN_4_BITS else config
    peak = Peak()
    try:
        with _classes_as_they_were():
            trainer = _makers()[arm.name](base, rows, bench.work / "trainer", settings)
            clock = timed(trainer)
    except torch.OutOfMemoryError as problem:
        arm.out = f"out of memory: {str(problem)[:200]}"
    else:
        rate, seconds = clock.rate()
        arm.rates.append(rate)
        arm.seconds.append(seconds)
        arm.padding, arm.peak = 1 - clock.tokens / clock.computed, peak.bytes()
        del trainer
    free_memory()


@contextmanager
def _classes_as_they_were() -> Iterator[None]:
    """Liger puts its own classes into transformers' module of Phi-3, where every later model would be made of them."""
    from transformers.models.phi3 import modeling_phi3

    before = dict(vars(modeling_phi3))
    try:
        yield
    finally:
        vars(modeling_phi3).update(before)


def _standing(lengths: str, arms: Sequence[Arm]) -> Iterator[Figure]:
    for arm in arms:
        name = f"{lengths}: {arm.name}"
        if arm.rates:
            yield Figure(name, round(arm.rate), "real tokens/s", arm.told())
        else:
            yield Figure(name, arm.out or "no time was left for it")


def _against_each_other(lengths: str, arms: dict[str, Arm]) -> Iterator[Figure]:
    """The ratios that the goals are about, as far as both arms ran."""
    ours, tuned = arms.get(OURS), [arm.rate for name, arm in arms.items() if name.startswith("tuned")]
    if ours and "plain" in arms:
        yield Figure(f"{lengths}: studio ÷ TRL's defaults", round(ours.rate / arms["plain"].rate, 2),
                     goal=AGAINST_DEFAULTS)
    if ours and tuned:
        yield Figure(f"{lengths}: studio ÷ best-tuned TRL", round(ours.rate / max(tuned), 2), goal=AGAINST_TUNED)
    if ours and OURS_IN_4_BITS in arms:
        yield Figure(f"{lengths}: QLoRA ÷ LoRA, both the studio's", round(arms[OURS_IN_4_BITS].rate / ours.rate, 3),
                     goal=QLORA_SPEED)


def _roofline(bench: Bench, arms: Sequence[Arm], rows: Sequence[Any], config: Any) -> Iterator[Figure]:
    """Operations that a token can't do without, times tokens, against what a matrix product reaches just now."""
    needed, rate = _operations_a_token(bench, rows, config), matmul_rate()
    for arm in (arm for arm in arms if arm.rates):
        yield Figure(f"share of the roofline: {arm.name}", round(arm.rate * needed / rate, 3), "",
                     f"{needed / 1e9:.2f} GFLOP a token, {rate / 1e12:.3g} TFLOP/s: {rate / needed:.0f} tokens/s at "
                     "most", ROOFLINE if arm.name.startswith(OURS) else None)


def _operations_a_token(bench: Bench, rows: Sequence[Any], config: Any) -> float:
    """Without checkpointing; a token sees half of its row in the mean, since it sees no later ones."""
    from phi3.shape import Shape
    from training.work import attention_flops, flops_per_token

    shape = Shape.of(json.loads((bench.base() / "config.json").read_text(encoding="utf-8")))
    lengths = [len(row["input_ids"]) for row in rows]
    squares = sum(length * length for length in lengths) / sum(lengths)
    return flops_per_token(shape, config, 0) + attention_flops(shape, squares / 2, 0)


def _gradients(bench: Bench, method: str) -> Iterator[Figure]:
    """The step is the same step: its gradients against plain PEFT's in float32."""
    from benchmarks.training import gradients

    cosine = gradients(str(bench.base()), method, bench.size(1.0, 0.25))
    yield Figure(f"{method}: gradients", round(cosine, 7), "cosine to plain PEFT's in float32",
                 "all LoRA weights of a batch together", GRADIENTS, Check("the same step", cosine >= GRADIENTS.wanted))


def _profiles(bench: Bench) -> Iterator[Figure]:
    """What a step of the slowest arm is spent on, and what one of ours is."""
    from benchmarks.training import base_for, config_of

    rows, examples = _rows(bench, REAL)
    rates = json.loads((bench.work / RACE.format(REAL)).read_text(encoding="utf-8"))
    base = base_for(str(bench.base()), "lora")
    config = config_of(base.facts, "lora", steps=2, examples=examples)
    for name in dict.fromkeys((min(rates, key=rates.get), OURS)):
        kernels = largest_kernels(_makers()[name](base, rows, bench.work / "trainer", config))
        for place, kernel in enumerate(kernels, 1):
            yield Figure(f"{name}, kernel {place}: {kernel['kernel']}", kernel["milliseconds"], "ms",
                         f"{kernel['share']:.0%} of a step, {kernel['times']} times", details=kernel)
        free_memory()


def _unsloth(bench: Bench) -> Iterator[Figure]:
    """Unsloth on the same rows, last of all: importing it changes transformers and TRL for whoever comes after."""
    from unsloth import FastLanguageModel  # isort: skip - it must come before TRL
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    from benchmarks.training import config_of, timed
    from phi3.models import base_facts

    rows, examples = _rows(bench, REAL)
    config = config_of(base_facts(str(bench.base())), "lora", examples=examples)
    model, tokenizer = FastLanguageModel.from_pretrained(str(bench.base()), max_seq_length=config.max_length,
                                                         load_in_4bit=False)
    peft = config.peft_config()
    model = FastLanguageModel.get_peft_model(model, r=peft["r"], lora_alpha=peft["lora_alpha"], lora_dropout=0,
                                             target_modules=["qkv_proj", "o_proj", "gate_up_proj", "down_proj"])
    arguments = SFTConfig(output_dir=str(bench.work / "trainer"), num_train_epochs=1.0, report_to="none", bf16=True,
                          save_strategy="no", per_device_train_batch_size=examples)
    trainer = SFTTrainer(model=model, args=arguments, train_dataset=Dataset.from_list(rows), processing_class=tokenizer)
    rate = timed(trainer).rate()[0]
    yield Figure(f"{REAL}: Unsloth", round(rate), "real tokens/s")
    ours = json.loads((bench.work / RACE.format(REAL)).read_text(encoding="utf-8"))[OURS]
    yield Figure(f"{REAL}: studio ÷ Unsloth", round(ours / rate, 2), goal=AGAINST_UNSLOTH)


SECTIONS = (
    Section("gradients", partial(_gradients, method="lora"), TRAINING),
    Section(REAL, partial(_raced, lengths=REAL), TRAINING),
    Section(LONG, partial(_raced, lengths=LONG), TRAINING),
    Section("profiles", _profiles, TRAINING),
    Section("gradients in 4 bits", partial(_gradients, method="qlora"), (*TRAINING, *FOUR_BITS)),
    Section("Unsloth", _unsloth, (*TRAINING, "unsloth")),
)
