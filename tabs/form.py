"""The settings of a run as components, made from training/config.py; no setting is named a second time."""

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import gradio as gr
from gradio.components import Component

from tabs import theme
from training.config import SETTINGS, RunConfig, Setting, presets

Form = dict[str, Component]


def drawn(names: Iterable[str], suited: Mapping[str, Any]) -> Form:
    """These settings' components, drawn where this is called; `suited` gives what differs from the defaults."""
    return {name: _component(SETTINGS[name], suited.get(name, SETTINGS[name].default)) for name in names}


def group(name: Literal["run", "main", "training", "lora"]) -> list[str]:
    """The settings of one group, in the order of declaration."""
    return [setting.name for setting in SETTINGS.values() if setting.group == name]


def asked(settings: Mapping[str, Any], suited: Mapping[str, Any]) -> RunConfig:
    """What the form holds as a RunConfig; an emptied field means what suits this base and machine."""
    filled = {name: value for name, value in settings.items() if value is not None}
    return RunConfig.from_settings({**suited, **filled})


def preset_values(preset: str, suited: Mapping[str, Any]) -> dict[str, Any]:
    """The values that the named preset puts into the form, by field."""
    return presets(suited)[preset]


def _component(setting: Setting, value: Any) -> Component:
    about = {"label": setting.label, "info": setting.help, "value": value, "elem_id": f"setting-{setting.name}"}
    if setting.name == "base":
        return gr.Textbox(**{**about, "info": theme.BASE_INFO}, interactive=False)
    if setting.name == "method":
        choices = [(theme.METHODS.get(name, name), name) for name in setting.choices]
        return gr.Radio(choices, **{**about, "info": None}, elem_classes="cards")
    if setting.choices:
        return gr.Radio(list(setting.choices), **about)
    if setting.type is bool:
        return gr.Checkbox(**about)
    if setting.type is str:
        return gr.Textbox(**about, max_lines=1)
    # No limits here: the core checks them, and its sentence names the setting and the value.
    return gr.Number(**about)
