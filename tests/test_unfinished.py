"""What was set up for a run that isn't begun: what a page takes back of what its browser kept."""

import json

import gradio as gr
import pytest

from tabs import form
from tabs.unfinished import LONGEST_PASTE, Unfinished, by_hand


@pytest.fixture
def kept():
    """A form of three settings, and some of what stands beside it."""
    with gr.Blocks():
        parts = {"source": gr.Radio(), "text": gr.Textbox(), "no_repeats": gr.Checkbox(), "preset": gr.Radio(),
                 "several_setting_0": gr.Dropdown()}
        return Unfinished(gr.Textbox(), form.drawn(["r", "use_dora", "name"], {}), parts)


def taken(kept: Unfinished, told: object) -> dict[str, object]:
    """The same by name."""
    names = {part: name for name, part in {**kept.parts, **kept.form}.items()}
    changes = kept.restored(told if isinstance(told, str) else json.dumps(told))
    return {names[part]: value for part, value in changes.items() if part is not kept.by_hand}


def test_what_was_set_up_comes_back(kept):
    was = {"source": "own", "text": "a paste", "no_repeats": True, "preset": "thorough", "several_setting_0": "r"}
    changed = {"r": 7, "use_dora": True, "name": "mine"}
    assert taken(kept, {**was, "by_hand": json.dumps(changed)}) == {**was, **changed}


@pytest.mark.parametrize("told", ["", "{", "null", "[1]", "[" * 100_000, {"by_hand": "[1]"}, {"by_hand": 3}])
def test_what_is_damaged_brings_nothing_back(kept, told):
    assert taken(kept, told) == {}


@pytest.mark.parametrize(("name", "value"), [
    ("source", "nothing of ours"), ("source", ["own"]), ("text", 7), ("text", "x" * (LONGEST_PASTE + 1)),
    ("no_repeats", "yes"), ("preset", "thoroughly"), ("preset", {}), ("several_setting_0", "base"), ("other", 1)])
def test_what_can_not_be_is_left_as_it_is(kept, name, value):
    assert taken(kept, {name: value}) == {}


@pytest.mark.parametrize(("name", "value"), [
    ("r", 0), ("r", "many"), ("r", None), ("r", []), ("base", "https://elsewhere"), ("nothing", 1)])
def test_a_setting_that_is_no_value_is_left_as_it_is(kept, name, value):
    assert taken(kept, {"by_hand": json.dumps({name: value, "name": "mine"})}) == {"name": "mine"}


def test_settings_as_they_were_filled_are_not_kept():
    assert json.loads(by_hand({"r": 16, "learning_rate": 0.1, "name": "", "max_steps": None},
                              {"r": 16, "learning_rate": 0.2})) == {"learning_rate": 0.1}
