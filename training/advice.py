"""Settings that are known to be bad for this base, data or machine, as sentences that say what to do; pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from phi3.models import usual_precision
from phi3.shape import Shape
from training.config import SETTINGS, RunConfig, in_digits
from training.presets import MOST_EPOCHS, Task, rank_for, rate_for, sides_of
from training.work import Batches, adapted, batches_of

# How far from its rule a learning rate may be; ours. Below the second it teaches something in many steps.
RATE_TOO_HIGH, RATE_TOO_LOW, MANY_STEPS = 5, 1 / 20, 2000
# A rank that holds this many times what the data tells is memory and time for nothing.
RANK_TOO_LARGE = 4
# What B·A is multiplied with is 2 as a rule (alpha 32 at rank 16); so far from it, the learning rate's rule is void.
# It holds at low ranks too where alpha is as usual (training/presets.py).
SCALING_TOO_LOW, USUAL_SCALING, SCALING_TOO_HIGH = 1 / 8, 2, 6
DROPOUT_TOO_HIGH = 0.5
WARMUP_SHARE_TOO_HIGH = 0.5
MLP_LAYERS = {"gate_up_proj", "down_proj"}
# A shorter run needn't be looked at in between.
STEPS_TO_LOOK = 10


@dataclass(frozen=True)
class _Case:
    """One run: its settings, what they are for, and what becomes of the data (None while there is none); `tokens` are
    those of an epoch.
    """

    config: RunConfig
    task: Task
    train: int = 0
    held: int = 0
    tokens: int = 0
    batches: Batches | None = None


# The setting's own name, and the rest of its sentence.
_Warnings = Iterator[tuple[str, str]]


def warnings_for(config: RunConfig, task: Task) -> list[str]:
    """A sentence or two for each setting that is known to be bad here: the setting, its value, what happens, and what
    to do; empty where all is well. Without data in the task only what can be said without it.
    """
    train, held = sides_of(task, config)
    case = _Case(config, task, len(train), len(held), sum(train), batches_of(config, train) if train else None)
    return [f"{SETTINGS[name].called} {rest}" for rule in _RULES for name, rest in rule(case)]


def after_diverging(step: int, back: int | None, rate: float, hidden_size: int) -> str:
    """What became of a run whose loss was no number any more at a `step`, which went `back` to another where one was
    saved, and what to do: take the rule's learning rate or, where it was no higher, a tenth.
    """
    became = "and nothing had been saved" if back is None else f"so it ended there and is the adapter of step {back:,}"
    rule = rate_for(hidden_size)
    return (f"The training diverged: at step {step:,} its loss was no number any more (NaN or infinite), {became}. "
            f"Start again with a lower learning rate: it was {rate:g}; try {rule if rule < rate else rate / 10:g}.")


def _about_rate(case: _Case) -> _Warnings:
    rate, rule = case.config.learning_rate, rate_for(case.task.base["hidden_size"])
    about = f"is {rate:g}, and the rule for this base gives {rule:g}"
    if rate > RATE_TOO_HIGH * rule:
        yield "learning_rate", f"{about}: at so high a rate training diverges. Lower it to about {rule:g}."
    elif rate < RATE_TOO_LOW * rule and (not case.batches or case.batches.steps < MANY_STEPS):
        yield "learning_rate", (f"{about}: so low a rate is made for large datasets and teaches little from a small "
                                f"one. Raise it to about {rule:g}.")


def _about_rank(case: _Case) -> _Warnings:
    if not case.batches:
        return
    config, shape, tokens = case.config, Shape.of(case.task.base), case.tokens
    enough = rank_for(tokens, config, shape, SETTINGS["r"].default)
    if config.r > RANK_TOO_LARGE * enough:
        yield "r", (f"is {config.r}: {shape.lora_weights(config.r, adapted(config)):,} numbers to learn {tokens:,} "
                    f"tokens with, which takes memory and teaches nothing more. Rank {enough} holds them.")


def _about_scaling(case: _Case) -> _Warnings:
    config = case.config
    root = math.sqrt(config.r)
    scaling = config.lora_alpha / (root if config.use_rslora else config.r)
    usual = max(1, round(USUAL_SCALING * (root if config.use_rslora else config.r)))
    how = "with rsLoRA" if config.use_rslora else "without rsLoRA"
    about = f"is {config.lora_alpha}, so at rank {config.r} {how} the adapter counts {scaling:.3g} times"
    keeps_the_rule = not config.use_rslora and config.lora_alpha <= SETTINGS["lora_alpha"].default
    if scaling > SCALING_TOO_HIGH and not keeps_the_rule:
        yield "lora_alpha", (f"{about}: each step moves the answers too far. Lower it to {usual}, or the learning rate "
                             "with it.")
    elif scaling < SCALING_TOO_LOW:
        more = "" if config.use_rslora else ", or tick rsLoRA, which is made for high ranks"
        yield "lora_alpha", f"{about}: it hardly learns. Raise it to {usual}{more}."


def _about_dropout(case: _Case) -> _Warnings:
    if case.config.lora_dropout >= DROPOUT_TOO_HIGH:
        yield "lora_dropout", (f"is {case.config.lora_dropout:g}: the adapter sees less than half of what it should "
                               "learn from. 0.05 to 0.1 is usual.")


def _about_layers(case: _Case) -> _Warnings:
    if not MLP_LAYERS & set(adapted(case.config)):
        yield "target_modules", (f"is {case.config.target_modules}: adapters beside attention alone learn less than "
                                 "those beside the larger layers, however high their rank. Choose all-linear.")


def _about_epochs(case: _Case) -> _Warnings:
    if case.batches and case.batches.epochs > MOST_EPOCHS:
        name = "max_steps" if case.config.max_steps > 0 else "num_train_epochs"
        value = case.config.max_steps if case.config.max_steps > 0 else f"{case.config.num_train_epochs:g}"
        times = in_digits(case.batches.epochs, 3)
        yield name, (f"is {value}, so each of the {case.train:,} conversations is seen {times} times: they are "
                     "learned by heart, and answers to anything else get worse. 3 to 10 times is usual; more "
                     "conversations help more.")


def _about_warmup(case: _Case) -> _Warnings:
    warmup, steps = case.config.warmup_steps, case.batches.steps if case.batches else 0
    if case.config.lr_scheduler_type == "constant":
        return  # it knows no warm-up
    if steps == 1 and warmup:
        yield "warmup_steps", (f"is {warmup:g}, and the run has one step, which a warm-up makes at a rate of 0: it "
                               "learns nothing. Set it to 0, or train for more steps.")
    elif 1 < steps <= warmup:
        yield "warmup_steps", (f"is {warmup:g}, and the run has {steps:,}: the learning rate never gets as high as it "
                               "should. A tenth (0.1) is usual.")
    elif WARMUP_SHARE_TOO_HIGH < warmup < 1:
        yield "warmup_steps", (f"is {warmup:g}: for more than half of the run the learning rate only rises. A tenth "
                               "(0.1) is usual.")


def _about_batch(case: _Case) -> _Warnings:
    if not case.batches or case.batches.examples_per_step <= case.train:
        return
    name = "per_device_train_batch_size" if case.config.per_device_train_batch_size > case.train else \
        "gradient_accumulation_steps"
    yield name, (f"is {getattr(case.config, name)}: a step asks for {case.batches.examples_per_step:,} conversations, "
                 f"and there {'is' if case.train == 1 else 'are'} {case.train:,} to train on, so that every epoch is a "
                 "single step. Make it smaller.")


def _about_precision(case: _Case) -> _Warnings:
    shape = Shape.of(case.task.base)
    if case.config.bf16 and usual_precision(shape, case.task.machine.kind) == "fp32":
        yield "bf16", ("is on, and a processor's caches hold a base as small as this one: there fp32 is as fast, and "
                       "more exact. Leave it off.")
    elif not case.config.bf16 and not shape.is_small and case.config.method != "qlora":
        yield "bf16", ("is off: the base takes twice the memory so, and each step several times as long. Phi-3's "
                       "weights are published in bf16.")


def _about_length(case: _Case) -> _Warnings:
    context = case.task.base["max_position_embeddings"]
    if case.config.max_length > context:
        yield "max_length", (f"is {case.config.max_length:,}, and the base reads {context:,} tokens: what lies beyond "
                             f"is at positions that it never learned. Lower it to {context}.")


def _about_looks(case: _Case) -> _Warnings:
    steps = case.batches.steps if case.batches else 0
    if steps >= STEPS_TO_LOOK and case.config.eval_steps > steps:
        yield "eval_steps", (f"is {case.config.eval_steps:,}, and the run ends after {steps:,}: the model is looked at "
                             f"only before and after it. {max(1, steps // 4)} shows how it gets on.")


def _about_held_out(case: _Case) -> _Warnings:
    if not case.config.held_out:
        yield "held_out", ("is 0, so a validation part of the data's own is trained on as well, and nothing tells "
                           "whether the model learned or only memorised. 0.1 holds that out, or else a tenth.")
    elif case.batches and not case.held:
        yield "held_out", (f"is {case.config.held_out:g}, and of a single conversation none can be spared: nothing "
                           "tells whether the model learned or only memorised. Give it more conversations.")


def _about_stopping(case: _Case) -> _Warnings:
    is_blind = not case.config.held_out or bool(case.batches and not case.held)
    if case.config.early_stopping and is_blind:
        yield "early_stopping", (f"is {case.config.early_stopping}, and nothing is held out: no loss tells when to "
                                 "stop, so the run goes on to its end. Hold some conversations out.")


_RULES: tuple[Callable[[_Case], _Warnings], ...] = (
    _about_rate, _about_scaling, _about_length, _about_epochs, _about_batch, _about_warmup, _about_rank, _about_layers,
    _about_dropout, _about_precision, _about_held_out, _about_stopping,
    _about_looks)
