"""What was set up for a run that isn't begun yet: the browser's tab keeps it through a reload.

Settings that are as they were filled are left out, so that other data may still fill them anew.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.components import Component

from chat.memory import MOST_CHARACTERS
from tabs import several, theme
from tabs.data import DataStep
from tabs.events import AT_ONCE, QUIETLY, SAFELY, Changes, hidden_text
from tabs.form import Form, changed_by_hand
from tabs.plainly import plainly
from tabs.text import mapping_of
from training.config import SETTINGS, converted
from training.data import example_names

# A paste that is longer is not kept.
LONGEST_PASTE = MOST_CHARACTERS
LONGEST_LINE = 1_000
KEPT = "phi3-lora-studio-setup"
# Nothing is kept before what was kept is read.
KEEP = f"""(...values) => {{
  {SAFELY}
  if (!window.setupWasRead) return;
  const kept = Object.fromEntries(%s.map((name, place) => [name, values[place]]));
  if (String(kept.text ?? '').length > {LONGEST_PASTE}) delete kept.text;
  safely(() => sessionStorage.setItem('{KEPT}', JSON.stringify(kept)));
}}"""
READ = f"""() => {{
  {SAFELY}
  window.setupWasRead = true;
  return [safely(() => sessionStorage.getItem('{KEPT}')) ?? ''];
}}"""


@dataclass(frozen=True)
class Unfinished:
    """`by_hand` is the JSON of the settings that a visitor changed; `parts` is everything else that is kept."""

    by_hand: gr.Textbox
    form: Form
    parts: dict[str, Component]

    def outputs(self) -> list[Component]:
        """Everything that may come back."""
        return [self.by_hand, *self.parts.values(), *self.form.values()]

    def restored(self, told: str) -> Changes:
        """What the browser kept, where it is what it can be."""
        kept = mapping_of(told)
        parts = {self.parts[name]: value for name, value in kept.items()
                 if name in self.parts and _CAN_BE[name](value)}
        by_hand = mapping_of(kept.get("by_hand"))
        settings = {self.form[name]: value for name, value in by_hand.items()
                    if name in self.form and name != "base" and _is_value(name, value)}
        return {self.by_hand: json.dumps(by_hand) if settings else "", **parts, **settings}


def build(data: DataStep, preset: gr.Radio, form: Form, tries: several.Several) -> Unfinished:
    """Draw what nobody sees, where this is called."""
    own = data.own
    parts = {"source": data.source, "text": own.text, "no_repeats": own.no_repeats, "id": own.id,
             "config": own.config, "split": own.split, "preset": preset, **tries.inputs()}
    return Unfinished(hidden_text(), form, parts)


def connect(kept: Unfinished, page: gr.Blocks) -> Any:
    """Keep it whenever it changes, and bring it back when the page is loaded: the event that does."""
    inputs = {"by_hand": kept.by_hand, **kept.parts}
    gr.on([part.change for part in inputs.values()], None, list(inputs.values()), js=KEEP % json.dumps(list(inputs)),
          **QUIETLY)
    return page.load(plainly(kept.restored), kept.by_hand, kept.outputs(), js=READ, **AT_ONCE)


def by_hand(settings: Mapping[str, Any], filled: Mapping[str, Any]) -> str:
    """The settings that differ from what the form was filled with, as JSON."""
    usual = {name: setting.default for name, setting in SETTINGS.items()}
    return json.dumps(changed_by_hand(settings, {**usual, **filled}))


def _is_value(name: str, value: Any) -> bool:
    try:
        return bool(converted({name: value}))
    except (ValueError, TypeError):
        return False


def _is_line(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= LONGEST_LINE


_CAN_BE: dict[str, Callable[[Any], bool]] = {
    "source": lambda value: value in (*example_names(), theme.DESCRIBED, theme.OWN_DATA),
    "text": lambda value: isinstance(value, str) and len(value) <= LONGEST_PASTE,
    "no_repeats": lambda value: isinstance(value, bool),
    "id": _is_line, "config": _is_line, "split": _is_line,
    "preset": lambda value: isinstance(value, str) and value in theme.PRESETS,
    **{name: (lambda value: isinstance(value, str) and (not value or value in several.TRYABLE))
       if name.startswith("several_setting") else _is_line for name in several.NAMES},
}
