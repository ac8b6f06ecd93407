"""Presets: settings that follow from the data, the base and the machine, each by a rule that is written down here.

The rules and where they come from:

- Learning rate: 5e-4 · (2000 / width)^0.775, a fit over widths of models after "LoRA Without Regret" (Schulman et al.,
  2025), which also found that the best rate hardly depends on the rank where B·A is scaled by alpha / r. So alpha stays
  32 and one rate serves every preset: about 3.6e-4 for Phi-3-mini, 3.1e-3 for the embedded Phi-3.
- Layers: all linear ones, since attention alone learns less (the same; Dettmers et al., "QLoRA", 2023, found it too).
- Rank: an adapter should hold what the data tells: about 2 bits a parameter (Allen-Zhu and Li, "Physics of Language
  Models: Part 3.3", 2024) against about 1 bit a token (both as "LoRA Without Regret" reckons). From the preset's usual
  rank on, it is doubled until it does. Up to 256, which is ours: the chat's slots hold no more.
- Conversations in a step: 8, and 16 from 2,000 conversations on, as QLoRA's runs have: LoRA bears large batches worse
  than full fine-tuning does ("LoRA Without Regret"). Fewer where an epoch would have under 16 steps; that is ours: few
  conversations in large batches are few steps.
- Epochs: 3 is usual ("balanced"), about what QLoRA's Guanaco was given (its published script makes 1,875 steps of 16
  over some 9,000 conversations). Ours: more where that makes under 90 steps, since with so few B hardly leaves zero,
  and fewer, but whole ones, beyond 2,000. Never above 15, which is what LIMA (Zhou et al., 2023) gave to 1,000.
- Longest conversation: as the data's longest, up to the base's context, and 1,024 at least; it costs nothing where rows
  are shorter. A "quick look" cuts at 512. Ours.
- Held out: a tenth, but no more than so many conversations as tell enough (the error of a mean falls with their root
  only), and 4 at least, up to a fifth. Ours.
- Looks at the model: a quarter of the run apart, half where the GPU is lent, an eighth when "thorough"; checkpoints a
  tenth apart, 100 steps at least, since the clock saves too. Ours.
- What the machine can't hold is made to fit as the plan would (training/fitting.py), the mildest change first.
- "As in the recipe": the numbers of Microsoft's published sample for Phi-3, whatever the data.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from phi3.machine import Machine
from phi3.models import BaseFacts, usual_precision
from phi3.shape import Shape
from training.config import SETTINGS, RunConfig, count_held_out, in_digits
from training.fitting import CHANGES, HARMLESS, made_to_fit
from training.plan import Plan, make_plan
from training.work import Batches, adapted, batches_of

if TYPE_CHECKING:
    from training.data import ChatData
    from training.report import Counted

PRESETS = ("quick", "balanced", "thorough", "recipe")
USUAL_PRESET = "balanced"

# Microsoft's published Phi-3 sample (UltraChat): learning rate, schedule, warm-up, epochs, batch, length, seed, LoRA.
RECIPE: dict[str, Any] = {
    "learning_rate": 5e-6, "lr_scheduler_type": "cosine", "warmup_steps": 0.2, "num_train_epochs": 1.0,
    "per_device_train_batch_size": 4, "gradient_accumulation_steps": 1, "gradient_checkpointing": True,
    "max_length": 2048, "seed": 0, "r": 16, "lora_alpha": 32, "lora_dropout": 0.05, "target_modules": "all-linear",
}
BITS_A_PARAMETER, BITS_A_TOKEN = 2, 1
# What LIMA (Zhou et al., 2023) gave to 1,000 conversations, while its loss on others rose already.
MOST_EPOCHS = 15
MOST_RANK = 256
LARGE_DATA, LARGE_BATCH = 2000, 16
STEPS_AN_EPOCH = 16
# What one forward pass may be asked to hold; more conversations in a step are more passes.
TOKENS_AT_ONCE = 32_768
QUICK_SECONDS, FEWEST_STEPS, QUICK_LIMIT = 50, 10, 512
LEAST_HELD_OUT, MOST_HELD_OUT_SHARE = 4, 0.2


@dataclass(frozen=True)
class Task:
    """What settings follow from: the base's config.json, the machine, and how many tokens each kept conversation has,
    uncut; none while no data is chosen. So many of these conversations the data holds out by itself, and `begins` says
    where the first answer of each begins that is learned, where that is known.
    """

    base: Mapping[str, Any]
    machine: Machine
    lengths: Sequence[int] = ()
    own_held: int = 0
    begins: Sequence[int] = ()

    @classmethod
    def of(cls, facts: BaseFacts, machine: Machine, data: ChatData, counted: Counted) -> Task:
        """That of a run on this data, whose tokens were counted."""
        return cls(facts.config, machine, counted.lengths.tolist(), len(data.own_held), counted.begins().tolist())

    def teaching(self, max_length: int) -> list[int]:
        """The lengths, cut at the limit, of those conversations that don't lose their whole answer so; rising."""
        if not self.begins:
            return sorted(min(length, max_length) for length in self.lengths)
        return sorted(min(length, max_length) for length, begin in zip(self.lengths, self.begins, strict=True)
                      if begin < max_length)


@dataclass(frozen=True)
class Preset:
    """What a preset sets, by setting, and why, in a sentence or two."""

    values: Mapping[str, Any]
    why: str


@dataclass(frozen=True)
class _Size:
    """How large a run of a preset is. `looks` at the model are in between and at the end."""

    epochs: int
    most_epochs: int
    least_steps: int
    most_steps: int
    rank: int
    most_held_out: int
    looks: int
    is_quick: bool = False


_SIZES = {
    "quick": _Size(1, 10, 20, 40, 8, 32, 2, True),
    "balanced": _Size(3, 10, 90, 2000, 16, 256, 4),
    "thorough": _Size(5, MOST_EPOCHS, 150, 3000, 32, 512, 8),
}


def preset_of(name: str, task: Task, fixed: Mapping[str, Any] | None = None) -> Preset:
    """The preset's values for this task; those in `fixed` stay as they are, and the others follow from them too.

    ValueError where there is no preset of that name.
    """
    if name not in PRESETS:
        raise ValueError(f"There is no preset named {name!r}. Choose one of {', '.join(PRESETS)}.")
    fixed = dict(fixed or {})
    values = _usual(task)
    if name == "recipe":
        values |= RECIPE | fixed
        values |= _cadence(values, _SIZES["balanced"], task)
    else:
        size = _SIZES[name]
        values |= _sized(size, task, values | fixed, fixed)
        values |= _fitting(values | fixed, fixed, task)
        values |= _quickened(values | fixed, fixed, task) if size.is_quick else {}
        values |= _cadence(values | fixed, size, task)
    values |= fixed
    return Preset({one: value for one, value in values.items() if one not in fixed}, _why(name, values, task))


def recommended(base: Mapping[str, Any], machine: Machine) -> dict[str, Any]:
    """Settings that follow from the base (its config.json) and the machine alone, whatever the data."""
    on_card, hidden_size = machine.kind != "cpu", base["hidden_size"]
    # Phi-3-mini takes 7.6 GB in bf16, and with its activations at 8 x 1024 tokens nearly all of a 40 GB card. Of one of
    # 80 GB 70 are left beside the page's answers.
    wide = hidden_size >= 2048
    # The default run is to fit one turn of a GPU that is lent: nothing is computed twice, and it is looked at less.
    is_lent = machine.kind == "zerogpu"
    return {
        "learning_rate": rate_for(hidden_size),
        "bf16": usual_precision(Shape.of(base), machine.kind) == "bf16",
        # It costs a processor a quarter of its time, so there `_fitting` turns it on, where nothing milder is enough.
        "gradient_checkpointing": on_card and wide and machine.card_left < 60 and not is_lent,
        **({"eval_steps": 50} if is_lent else {}),
        "method": "qlora" if on_card and wide and machine.card_memory < 14 else "lora",
    }


def rate_for(hidden_size: int) -> float:
    """The learning rate for a base of this width, in two digits."""
    rate = 5e-4 * (2000 / hidden_size) ** 0.775
    return round(rate, 1 - math.floor(math.log10(rate)))


def rank_for(tokens: int, config: RunConfig, shape: Shape, usual: int) -> int:
    """The rank, `usual` or that doubled and doubled again, at which these layers' adapters hold so many tokens."""
    rank = usual
    while rank < MOST_RANK and BITS_A_PARAMETER * shape.lora_weights(rank, adapted(config)) < BITS_A_TOKEN * tokens:
        rank *= 2
    return rank


def sides_of(task: Task, config: RunConfig) -> tuple[list[int], list[int]]:
    """(trained on, held out): the lengths, cut at the limit, as a run divides them; both sides are alike."""
    lengths = task.teaching(config.max_length)
    count = len(lengths)
    held_out = _count_held_out(task, config, count)
    held = [lengths[(2 * place + 1) * count // (2 * held_out)] for place in range(held_out)]
    left = Counter(lengths)
    left.subtract(held)
    return list(left.elements()), held


def _count_held_out(task: Task, config: RunConfig, count: int) -> int:
    """What the data holds out by itself, or else a share; of so many conversations that teach something."""
    if task.own_held and config.held_out:
        return count_held_out(count, task.own_held / len(task.lengths))
    return count_held_out(count, config.held_out)


def steps_of(config: RunConfig, task: Task) -> int:
    """How many optimizer steps a run with these settings makes; 0 without data."""
    train, _ = sides_of(task, config)
    return batches_of(config, train).steps if train else 0


def _usual(task: Task) -> dict[str, Any]:
    """What every preset sets, before the data is looked at."""
    follow = ("max_steps", "held_out", "eval_steps", "save_steps", "method", "bf16")
    suited = recommended(task.base, task.machine)
    return {name: suited.get(name, SETTINGS[name].default) for name in (*RECIPE, *follow)}


def _sized(size: _Size, task: Task, values: Mapping[str, Any], fixed: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that follows from how much data there is, and from what is fixed already."""
    found: dict[str, Any] = {"r": size.rank, "num_train_epochs": float(size.epochs),
                             "max_steps": size.most_steps if size.is_quick else -1}
    if not task.lengths:
        return found
    found["held_out"] = _held_out(len(task.lengths), size)
    found["max_length"] = _longest(task, size)
    config = _config(values, found, fixed)
    train, _ = sides_of(task, config)
    if not train:
        return found
    if not size.is_quick:
        found["r"] = rank_for(sum(train), config, Shape.of(task.base), size.rank)
    found |= _batch(len(train), config.max_length, size, fixed)
    an_epoch = _config(values, found, fixed, {"max_steps": -1, "num_train_epochs": 1.0})
    return found | {"num_train_epochs": _epochs(size, batches_of(an_epoch, train).steps), "max_steps": -1}


def _held_out(count: int, size: _Size) -> float:
    share = min(SETTINGS["held_out"].default, size.most_held_out / count)
    return round(max(share, min(LEAST_HELD_OUT / count, MOST_HELD_OUT_SHARE)), 4)


def _longest(task: Task, size: _Size) -> int:
    """As long as the longest conversation, in steps of 64, within the preset's and the base's limits; the preset's only
    where half of the conversations keep something to learn within it.
    """
    wanted = max(SETTINGS["max_length"].default, 64 * math.ceil(max(task.lengths) / 64))
    is_quick = size.is_quick and 2 * len(task.teaching(QUICK_LIMIT)) >= len(task.lengths)
    return min(wanted, task.base["max_position_embeddings"], QUICK_LIMIT if is_quick else wanted)


def _batch(count: int, longest: int, size: _Size, fixed: Mapping[str, Any]) -> dict[str, int]:
    """Conversations in a step, divided into forward passes that hold no more tokens than one may."""
    if "per_device_train_batch_size" in fixed or "gradient_accumulation_steps" in fixed:
        return {}
    usual = SETTINGS["per_device_train_batch_size"].default
    together = LARGE_BATCH if count >= LARGE_DATA and not size.is_quick else usual
    while together > min(2, count) and count / together < STEPS_AN_EPOCH:
        together //= 2
    at_once = together
    while at_once > 1 and at_once * longest > TOKENS_AT_ONCE:
        at_once //= 2
    return {"per_device_train_batch_size": at_once, "gradient_accumulation_steps": together // at_once}


def _epochs(size: _Size, steps: int) -> float:
    """Epochs of so many steps: as many as usual, more where those are few, fewer where they are many."""
    epochs = size.epochs
    if epochs * steps < size.least_steps:
        epochs = min(size.most_epochs, math.ceil(size.least_steps / steps))
    elif epochs * steps > size.most_steps:
        epochs = max(1, size.most_steps // steps)
    return float(epochs)


def _quickened(values: Mapping[str, Any], fixed: Mapping[str, Any], task: Task) -> dict[str, int]:
    """At most so many steps that the run is over in less than a minute by the plan; none where its epochs are so few
    anyway, or where it was asked for by its epochs.
    """
    asked = steps_of(RunConfig(**values), task)
    steps = min(asked, _SIZES["quick"].most_steps)
    if not asked or {"max_steps", "num_train_epochs"} & fixed.keys():
        return {}
    while steps > FEWEST_STEPS and _plan(_config(values, {"max_steps": steps}), task).total_seconds > QUICK_SECONDS:
        steps = max(FEWEST_STEPS, steps * 3 // 4)
    return {"max_steps": steps} if steps < asked else {}


def _cadence(values: Mapping[str, Any], size: _Size, task: Task) -> dict[str, int]:
    """How often the model is looked at, and saved."""
    steps = steps_of(RunConfig(**values), task)
    if not steps:
        return {}
    looks = min(size.looks, 2) if task.machine.kind == "zerogpu" else size.looks
    return {"eval_steps": max(5, 5 * round(steps / looks / 5)),
            "save_steps": max(SETTINGS["save_steps"].default, steps // 10)}


def _fitting(values: Mapping[str, Any], fixed: Mapping[str, Any], task: Task) -> dict[str, Any]:
    """The fewest changes with which the machine holds the run, beside what it keeps for answers where that changes
    nothing of what is learned; none where what is fixed would have to change, or where nothing is enough: the plan says
    so.
    """
    config = RunConfig(**values)
    if not steps_of(config, task):
        return {}

    def plan_of(changed: RunConfig) -> Plan:
        return _plan(changed, task)

    def beside(changed: RunConfig) -> Plan:
        plan = plan_of(changed)
        return replace(plan, available=0) if plan.alone else plan

    for one, changes in ((beside, HARMLESS), (plan_of, CHANGES)):
        try:
            found = {} if one(config).fits else made_to_fit(config, one, changes)
        except ValueError:
            continue
        if not found.keys() & fixed.keys():
            return found
    return {}


def _plan(config: RunConfig, task: Task) -> Plan:
    return make_plan(config, task.base, *sides_of(task, config), task.machine)


def _config(*layers: Mapping[str, Any]) -> RunConfig:
    """Settings on top of one another; the last ones count."""
    return RunConfig(**{name: value for layer in layers for name, value in layer.items()})


def _why(name: str, values: Mapping[str, Any], task: Task) -> str:
    """What the preset set, and what that follows from."""
    rate = f"{values['learning_rate']:g}"
    if name == "recipe":
        epochs = f"{values['num_train_epochs']:g} {'epoch' if values['num_train_epochs'] == 1 else 'epochs'}"
        but = "" if RECIPE.items() <= values.items() else " but for what you chose,"
        return (f"The numbers of the published sample,{but} whatever your data: {epochs}, rank {values['r']}, a "
                f"learning rate of {rate}.")
    config = RunConfig(**values)
    by_width = f"the learning rate {rate} is the rule's for a base {task.base['hidden_size']:,} wide" \
        if config.learning_rate == rate_for(task.base["hidden_size"]) else f"the learning rate is {rate}"
    train, _ = sides_of(task, config)
    if not train:
        return f"{by_width[0].upper()}{by_width[1:]}; the rest follows from your data."
    batches = batches_of(config, train)
    cut = sum(length > config.max_length for length in task.lengths)
    are = "is" if cut == 1 else "are"
    whole = f"{cut:,} {are} cut at {config.max_length:,} tokens" if cut else "all are read whole"
    return (f"{_seen(len(train), batches)}, {batches.examples_per_step} in a step: {batches.steps:,} steps; "
            f"{whole}. {_about_rank(config, task, sum(train))}; {by_width}.")


def _seen(count: int, batches: Batches) -> str:
    if batches.epochs < 1:
        return f"{batches.steps * batches.examples_per_step:,} of {count:,} conversations, seen once"
    times = "once" if batches.epochs == 1 else f"{in_digits(batches.epochs, 3)} times"
    return f"{count:,} conversation{'' if count == 1 else 's'}, seen {times}"


def _about_rank(config: RunConfig, task: Task, tokens: int) -> str:
    numbers = Shape.of(task.base).lora_weights(config.r, adapted(config))
    enough = "enough" if BITS_A_PARAMETER * numbers >= BITS_A_TOKEN * tokens else "not quite enough"
    return f"Rank {config.r} learns {numbers:,} numbers, {enough} for {tokens:,} tokens"
