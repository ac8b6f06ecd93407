"""A plan as HTML: what the run will take, in a line, and the numbers behind it."""

from collections.abc import Mapping, Sequence
from typing import Any

from phi3.machine import GIBIBYTE
from tabs import theme
from tabs.text import count, duration, escaped, table
from training.config import RunConfig, in_digits
from training.fitting import changes_in_words
from training.plan import Plan
from training.quota import QUOTA_SECONDS, Turns


def planned(plan: Plan | None, config: RunConfig | None = None, change: Mapping[str, Any] | None = None) -> str:
    """The line, what it takes of a GPU that is lent, that a card is all for it, a warning where the machine can't hold
    the run, with the single `change` of `config` that makes it fit, and the table behind it; empty without a plan.
    """
    if plan is None:
        return ""
    way_out = changes_in_words(config, change) if config and change else ""
    lent = _lent(plan.turns) if plan.turns else ""
    return f'<p class="plan-line">{line(plan)}</p>{lent}{_warning(plan, way_out)}{_behind(plan)}'


def warned(warnings: Sequence[str]) -> str:
    """What is known to be bad about the settings, each in a paragraph."""
    return "".join(f'<p class="warning">{escaped(one)}</p>' for one in warnings)


def line(plan: Plan) -> str:
    """Steps, time, memory, and turns where the GPU is lent."""
    how = "" if plan.is_measured else f" <span>({theme.PLAN_GUESSED})</span>"
    return (f"<strong>{count(plan.batches.steps, 'step')}</strong>, about "
            f"<strong>{duration(plan.total_seconds)}</strong>{how}, {_gigabytes(plan.peak)} of "
            f"{_gigabytes(plan.available)} GB of memory{_turns(plan.turns)}.")


def changed(config: RunConfig, changes: Mapping[str, Any]) -> str:
    """What was changed to make a run fit: each setting by its label, before and after."""
    return f"{theme.MADE_TO_FIT} {changes_in_words(config, changes)}."


def _turns(turns: Turns | None) -> str:
    if turns is None:
        return ""
    words = theme.PLAN_ONE_TURN if turns.count == 1 else theme.PLAN_TURNS.format(count=turns.count)
    return f"; <strong>{words}</strong>"


def _lent(turns: Turns) -> str:
    """What it leaves of a day without a sign-in, and who has more where that is too little."""
    asked = turns.asked + turns.described
    if turns.leaves_a_comparison:
        words = theme.PLAN_LEAVES_ENOUGH.format(asked=asked, quota=turns.quota, left=turns.left)
        return f'<p class="muted">{words}</p>'
    more = theme.PLAN_MORE[turns.tier].format(quota=QUOTA_SECONDS.get(turns.tier, 0))
    words = theme.PLAN_LEAVES_LITTLE.format(asked=asked, quota=turns.quota, more=more)
    return f'<p class="warning">{words}</p>'


def _warning(plan: Plan, way_out: str) -> str:
    if plan.fits:
        return f'<p class="muted">{theme.PLAN_ALONE}</p>' if plan.alone else ""
    words = theme.PLAN_TOO_LARGE.format(needed=_gigabytes(plan.peak), there=_gigabytes(plan.available))
    more = theme.PLAN_ONE_CHANGE.format(change=escaped(way_out)) if way_out else theme.PLAN_TAKES_LESS
    return f'<p class="warning">{words} {more}</p>'


def _behind(plan: Plan) -> str:
    batches = plan.batches
    held = theme.PRECISIONS[plan.precision] + (theme.MADE_WHOLE if plan.expanded else "")
    work = [("Precision of the base", held), ("Attention", plan.attention),
            ("Gradient checkpointing", f"in {plan.recomputed} blocks" if plan.recomputed else "not needed"),
            ("Conversations in a step", f"{batches.examples_per_step:,}"),
            ("Times each is seen", in_digits(batches.epochs, 3)), ("Tokens in all, no padding", f"{batches.tokens:,}"),
            ("Numbers learned", f"{plan.trainable:,}")]
    memory = [(theme.PLAN_MEMORY[name], _size(value)) for name, value in plan.memory.items()]
    time = [(theme.PLAN_TIME[name], duration(value)) for name, value in plan.seconds.items()]
    parts = "".join(map(table, theme.PLAN_TABLES, (work, memory, time)))
    parts += table(theme.PLAN_LENT, _day(plan.turns)) if plan.turns else ""
    return f'<details class="behind"><summary>{theme.PLAN_BEHIND}</summary>{parts}</details>'


def _day(turns: Turns) -> list[tuple[str, str]]:
    seconds = (turns.asked, turns.described, turns.comparison, turns.quota, max(turns.left, 0))
    return [(name, f"{number:,} s") for name, number in zip(theme.PLAN_TURN_ROWS, seconds, strict=True)]


def _size(number: float) -> str:
    """Bytes in the unit that suits them."""
    return f"{number / GIBIBYTE:.2f} GB" if number > GIBIBYTE / 10 else f"{number / 1024**2:.1f} MB"


def _gigabytes(number: float) -> str:
    return f"{number / GIBIBYTE:.1f}"
