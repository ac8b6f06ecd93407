"""The form is made from the settings: one component each, and what it holds comes back as the same RunConfig."""

import gradio as gr
import pytest

from tabs import form, theme
from training.config import SETTINGS, RunConfig
from training.presets import PRESETS, Preset

SUITED = {"learning_rate": 3.1e-3, "bf16": False, "method": "lora", "gradient_checkpointing": False}
GROUPS = ("run", "main", "training", "lora")


@pytest.fixture
def fields() -> form.Form:
    with gr.Blocks():
        return {name: component for group in GROUPS for name, component in form.drawn(form.group(group), {}).items()}


def test_every_setting_has_one_component(fields):
    assert set(fields) == set(SETTINGS)


def test_a_component_shows_the_settings_own_label_and_default(fields):
    for name, setting in SETTINGS.items():
        assert fields[name].label == setting.label
        assert fields[name].value == setting.default


@pytest.mark.parametrize("name", [name for name, one in SETTINGS.items() if one.choices])
def test_a_choice_offers_what_the_core_allows(fields, name):
    assert tuple(value for _, value in fields[name].choices) == SETTINGS[name].choices


def test_what_the_form_holds_comes_back_as_a_run_config(fields):
    held = {name: component.preprocess(component.postprocess(component.value)) if name != "method" else component.value
            for name, component in fields.items()}
    assert form.asked(held, {}) == RunConfig()


def test_other_values_come_back_too():
    config = RunConfig.from_settings({"r": 8, "use_rslora": True, "target_modules": "qkv_proj", "method": "qlora"})
    assert form.asked(config.settings(), SUITED) == config


def test_an_emptied_field_takes_what_suits_the_base():
    assert form.asked({"learning_rate": None, "r": 4}, SUITED).learning_rate == 3.1e-3


def test_a_value_out_of_its_range_is_refused_by_the_core():
    with pytest.raises(ValueError, match=r"Rank \(r\) is 0, and must be between 1 and 512"):
        form.asked({"r": 0}, SUITED)


def test_every_preset_has_a_name_on_the_page():
    assert tuple(theme.PRESETS) == PRESETS


def test_what_differs_from_what_was_filled_in_was_set_by_hand():
    filled = {"r": 16, "num_train_epochs": 3.0, "learning_rate": 3.1e-3}
    held = {"r": 8, "num_train_epochs": 3, "learning_rate": None, "weight_decay": 0.5}
    assert form.changed_by_hand(held, filled) == {"r": 8}
    with pytest.raises(ValueError, match=r"Rank \(r\) is 0"):
        form.changed_by_hand({**held, "r": 0}, filled)
    assert form.about_preset(Preset({}, "So it is."), {"r": 8}) == "So it is. As you set it: Rank (r)."
    assert form.about_preset(Preset({}, "So it is."), {}) == "So it is."
