"""What to change where a run doesn't fit its machine: the fewest settings, and the mildest of them; pure."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from training.config import SETTINGS, RunConfig
from training.plan import Plan

# After memory ran out, and nobody said for want of how much, the next run is to need this share of it at most.
CAUTION = 0.9


Change = Callable[[RunConfig], list[dict[str, Any]]]
Planner = Callable[[RunConfig], Plan]


def made_to_fit(config: RunConfig, plan_of: Planner, changes: Sequence[Change] | None = None) -> dict[str, Any]:
    """The fewest of these changes, or of all, with which the run fits, as settings; ValueError where none are enough.

    What costs least is tried first: gradient checkpointing costs time, a smaller batch with as many more forward passes
    a little more of it, QLoRA some precision, and a shorter longest conversation what is cut off.
    """
    steps = [change for change in changes or CHANGES if change(config)]
    for count in range(1, len(steps) + 1):
        for chosen in itertools.combinations(steps, count):
            found = _least_of(config, chosen, plan_of)
            if found is not None:
                return found
    raise ValueError("No change of the settings makes this run fit. Choose a smaller base, or a machine with more "
                     "memory.")


def one_change(config: RunConfig, plan_of: Planner) -> dict[str, Any]:
    """The mildest single change with which the run fits, as settings; empty where more than one is needed, or none
    is enough.
    """
    chances = (_least_of(config, [change], plan_of) for change in CHANGES if change(config))
    return next(filter(None, chances), {})


def change_after_memory_ran_out(config: RunConfig, plan_of: Planner, held: int,
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


def _least_of(config: RunConfig, chosen: Sequence[Change], plan_of: Planner) -> dict[str, Any] | None:
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
# What is learned stays the same.
HARMLESS: tuple[Change, ...] = (_checkpointing, _smaller_batch)
