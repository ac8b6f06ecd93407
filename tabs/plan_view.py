"""A plan as HTML: what the run will take, in a line, and the numbers behind it."""

from collections.abc import Mapping, Sequence
from typing import Any

from phi3.machine import GIBIBYTE
from tabs import theme
from tabs.text import count, duration, escaped
from training.config import SETTINGS, RunConfig
from training.plan import Plan


def planned(plan: Plan | None) -> str:
    """The line, a warning where the machine can't hold the run, and the table behind it; empty without a plan."""
    if plan is None:
        return ""
    return f'<p class="plan-line">{line(plan)}</p>{_warning(plan)}{_behind(plan)}'


def line(plan: Plan) -> str:
    """Steps, time and memory."""
    how = "" if plan.is_measured else f" <span>({theme.PLAN_GUESSED})</span>"
    return (f"<strong>{count(plan.batches.steps, 'step')}</strong>, about "
            f"<strong>{duration(plan.total_seconds)}</strong>{how}, {_gigabytes(plan.peak)} of "
            f"{_gigabytes(plan.available)} GB of memory.")


def changed(config: RunConfig, changes: Mapping[str, Any]) -> str:
    """What was changed to make a run fit: each setting by its label, before and after."""
    told = (f"{SETTINGS[name].label}: {getattr(config, name)} → {value}" for name, value in changes.items())
    return f"{theme.MADE_TO_FIT} {'; '.join(told)}."


def _warning(plan: Plan) -> str:
    if plan.fits:
        return ""
    words = theme.PLAN_TOO_LARGE.format(needed=_gigabytes(plan.peak), there=_gigabytes(plan.available))
    return f'<p class="warning">{words}</p>'


def _behind(plan: Plan) -> str:
    batches = plan.batches
    padding = f"{batches.padded / max(batches.tokens, 1):.1f}"
    work = [("Precision of the base", theme.PRECISIONS[plan.precision]), ("Attention", plan.attention),
            ("Gradient checkpointing", "on" if plan.gradient_checkpointing else "off"),
            ("Conversations in a step", f"{batches.examples_per_step:,}"),
            ("Times each is seen", f"{batches.epochs:.3g}"), ("Tokens in all", f"{batches.tokens:,}"),
            ("Computed, with padding", f"{batches.padded:,} ({padding} times)"),
            ("Numbers learned", f"{plan.trainable:,}")]
    memory = [(theme.PLAN_MEMORY[name], _size(value)) for name, value in plan.memory.items()]
    time = [(theme.PLAN_TIME[name], duration(value)) for name, value in plan.seconds.items()]
    parts = "".join(map(_table, theme.PLAN_TABLES, (work, memory, time)))
    return f'<details class="behind"><summary>{theme.PLAN_BEHIND}</summary>{parts}</details>'


def _table(title: str, rows: Sequence[tuple[str, str]]) -> str:
    lines = "".join(f'<tr><th scope="row">{escaped(name)}</th><td>{escaped(value)}</td></tr>' for name, value in rows)
    return f'<table class="numbers"><caption>{escaped(title)}</caption><tbody>{lines}</tbody></table>'


def _size(number: float) -> str:
    """Bytes in the unit that suits them."""
    return f"{number / GIBIBYTE:.2f} GB" if number > GIBIBYTE / 10 else f"{number / 1024**2:.1f} MB"


def _gigabytes(number: float) -> str:
    return f"{number / GIBIBYTE:.1f}"
