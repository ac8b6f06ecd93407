"""The settings of a run as components, made from training/config.py; no setting is named a second time."""

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import gradio as gr
from gradio.components import Component

from tabs import theme
from tabs.lengths import Lengths
from tabs.studio import Studio
from training.config import SETTINGS, RunConfig, Setting, converted
from training.presets import USUAL_PRESET, Preset, Task, preset_of

Form = dict[str, Component]


def drawn(names: Iterable[str], suited: Mapping[str, Any]) -> Form:
    """These settings' components, drawn where this is called; `suited` gives what differs from the defaults."""
    return {name: _component(SETTINGS[name], suited.get(name, SETTINGS[name].default)) for name in names}


def group(name: Literal["run", "main", "training", "lora"]) -> list[str]:
    """The settings of one group, in the order of declaration."""
    return [setting.name for setting in SETTINGS.values() if setting.group == name]


def asked(settings: Mapping[str, Any], suited: Mapping[str, Any]) -> RunConfig:
    """What the form holds as a RunConfig; an emptied field means what suits the base, the machine and the data."""
    filled = {name: value for name, value in settings.items() if value is not None}
    return RunConfig.from_settings({**suited, **filled})


def task_of(studio: Studio, lengths: Lengths | None) -> Task:
    """What settings follow from here: the app's base, its machine, and the tokens of each conversation, uncut."""
    if not lengths:
        return Task(studio.facts.config, studio.machine)
    return Task(studio.facts.config, studio.machine, lengths, lengths.own_held, lengths.begins)


def changed_by_hand(settings: Mapping[str, Any], filled: Mapping[str, Any]) -> dict[str, Any]:
    """What a visitor set otherwise than the form was filled, of the settings that it was filled with. ValueError where
    it is no value.
    """
    return converted({name: settings[name] for name, value in filled.items()
                      if name in settings and settings[name] is not None and settings[name] != value})


def suited_settings(studio: Studio, settings: Mapping[str, Any], lengths: Lengths) -> RunConfig:
    """A program's settings, with those of the `preset` that it names among them, or of the usual one, for the rest.
    ValueError where it names another base than the app's.
    """
    given = dict(settings)
    preset = str(given.pop("preset", None) or USUAL_PRESET)
    fixed = converted(given)
    if fixed.setdefault("base", studio.facts.id) != studio.facts.id:
        raise ValueError(theme.OTHER_BASE.format(asked=fixed["base"], base=studio.facts.id))
    RunConfig.from_settings(fixed)
    return RunConfig.from_settings({**preset_of(preset, task_of(studio, lengths), fixed).values, **fixed})


def about_preset(preset: Preset, by_hand: Mapping[str, Any]) -> str:
    """What a preset set and why, and what of the form it left as a visitor had set it."""
    kept = ", ".join(SETTINGS[name].label for name in by_hand)
    return f"{preset.why} {theme.KEPT_BY_HAND.format(settings=kept)}" if kept else preset.why


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
