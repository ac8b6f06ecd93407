"""What a page takes back of what its browser kept of the chat, and when it loads itself again."""

import json

import gradio as gr
import pytest

from chat.conversation import Asking, Talk, Turn
from chat.memory import as_text
from phi3.lane import Answer, Sampling
from tabs import remembering
from tabs.remembering import Remembered

SAID = (Talk("pirate", (Turn(1, "Hi", "pirate", Answer("Ahoy!", 2, 0.1, "stop")),)),)


def test_what_was_said_and_how_it_was_drawn_come_back():
    asking = {"system": "Be brief.", "temperature": "0.7", "top_k": "5", "seed": "hot", "stop_texts": "END"}
    kept = {"said": as_text(SAID), "asking": asking, "draft": "And", "tab": "Chat"}
    assert Remembered.of(json.dumps(kept)) == Remembered(
        SAID, Asking("Be brief.", Sampling(temperature=0.7, top_k=5, stop_texts=("END",))), "And", True)


@pytest.mark.parametrize("kept", ["", "{", "[]", "3", "[" * 100_000, None, 7, json.dumps(
    {"said": {"a": 1}, "asking": ["x"], "draft": ["x"], "tab": "Train"}), json.dumps({"asking": {"top_k": 5}})])
def test_what_is_damaged_brings_nothing_back(kept):
    assert Remembered.of(kept) == Remembered()


def test_a_page_is_lost_when_the_server_knew_it_once():
    with gr.Blocks():
        presence = remembering.build()

    def told(*known):
        return {part: changed for part, changed in presence.look(*known).items() if part is not presence.was_known}

    assert told(False, "yes", "yes") == {presence.lost: "lost"}
    assert told(False, "", "") == {presence.lost: ""}, "it isn't loaded yet"
    assert told(True, "yes", "yes") == {}
    assert list(told(True, "yes", "")) == [presence.unopened], "it never heard of what it shall begin with"
    assert presence.look(True, "", "yes")[presence.was_known], "it never heard that it is known"
