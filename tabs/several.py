"""Several values of a setting or two in the form: what is tried, and what the runs of one Start take together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.components import Component

from tabs import theme
from tabs.studio import Studio
from tabs.text import duration, escaped
from training.config import SETTINGS
from training.group import MOST_SETTINGS, TRYABLE, values_of
from training.plan import Plan


@dataclass(frozen=True)
class Several:
    """For each setting that may be tried: which one, and its values as somebody writes them."""

    settings: tuple[gr.Dropdown, ...]
    values: tuple[gr.Textbox, ...]

    def inputs(self) -> dict[str, Component]:
        """What `taken` reads, by name."""
        return dict(zip(NAMES, (*self.settings, *self.values), strict=True))


NAMES = tuple(f"several_{kind}_{number}" for kind in ("setting", "values") for number in range(MOST_SETTINGS))


def build(studio: Studio) -> Several:
    """Draw the fold where this is called; not to be seen where a GPU is lent, since runs go one by one there."""
    choices = [(theme.SEVERAL_NOTHING, ""), *((SETTINGS[name].label, name) for name in TRYABLE)]
    settings, values = [], []
    with gr.Accordion(theme.SEVERAL, open=False, visible=studio.lend is None, elem_id="several", elem_classes="fold"):
        theme.markup(f'<p class="muted">{theme.SEVERAL_LEAD}</p>')
        for number, (setting, its_values) in enumerate(zip(theme.SEVERAL_SETTINGS, theme.SEVERAL_VALUES, strict=True)):
            with gr.Row(elem_classes="several-row"):
                settings.append(gr.Dropdown(choices, value="", label=setting, elem_id=f"several-setting-{number + 1}"))
                values.append(gr.Textbox(label=its_values, placeholder=theme.SEVERAL_HINT, max_lines=1,
                                         elem_id=f"several-values-{number + 1}"))
    return Several(tuple(settings), tuple(values))


def taken(form: dict[str, Any]) -> dict[str, tuple[Any, ...]]:
    """The values of each setting that is tried, taken out of what the form holds; empty where none is. ValueError where
    a value is none, or where values stand beside no setting.
    """
    said = [form.pop(name, None) or "" for name in NAMES]
    tried: dict[str, tuple[Any, ...]] = {}
    for name, text in zip(said[:MOST_SETTINGS], said[MOST_SETTINGS:], strict=True):
        if text.strip() and not name:
            raise ValueError(theme.SEVERAL_OF_WHAT)
        if name in tried:
            raise ValueError(f"{SETTINGS[name].label} is chosen twice. Write all its values in one line.")
        if text.strip():
            tried[name] = values_of(name, text)
    return tried


def planned(plans: Sequence[Plan]) -> str:
    """What several runs take together; nothing for one."""
    if len(plans) < 2:
        return ""
    together = duration(sum(plan.total_seconds for plan in plans))
    return f'<p id="several-plan">{escaped(theme.SEVERAL_PLAN.format(count=len(plans), time=together))}</p>'


def start_words(count: int) -> str:
    """What the button says that begins so many runs."""
    return theme.START if count < 2 else theme.START_SEVERAL.format(count=count)
