"""How the page's events behave, and files that the browser makes of what one of them wrote."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

import gradio as gr
from gradio.components import Component

from tabs.plainly import plainly

# What becomes of some components of the page.
Changes = dict[Component, Any]
# Gradio's page keeps a progress for each output of an event, hidden or not, and draws all of them anew whenever any
# event gets on: with as many parts as this page has, that takes longer than what the event is about.
QUIETLY = {"show_progress": "hidden", "show_progress_on": [], "api_visibility": "private"}
# What costs little, and must never wait for anything else on the page.
AT_ONCE = {**QUIETLY, "concurrency_limit": None}
# What the page asks by itself, again and again: one request that brings its answer, outside of Gradio's queue. It can't
# stream, a notice of its own reaches nobody, and a state that it changes calls nobody.
LOOKING = {**QUIETLY, "queue": False}
# Begins a function of the browser's that reads or writes `sessionStorage`, which belongs to one of its tabs and
# outlives reloads: a page in a frame may be denied it, and it may be full.
SAFELY = "const safely = (act) => { try { return act(); } catch (problem) { console.debug(problem); } };"
# Begins a script that copies a text. On plain http from another machine of one's network there is no clipboard to write
# to, but what is selected can be copied.
COPYING = """const copy = async (text) => {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = Object.assign(document.createElement('textarea'), {value: text, readOnly: true});
  area.style.cssText = 'position: fixed; opacity: 0';
  document.body.append(area);
  area.select();
  document.execCommand('copy');
  area.remove();
};
"""


def anew() -> str:
    """A value that no part ever had: whoever listens to its change is called, once more where nobody heard of it."""
    return secrets.token_hex(4)


def hidden_text(**more: Any) -> gr.Textbox:
    """A text that the page holds or passes on, and nobody sees: a state's value would stay on the server."""
    return gr.Textbox(visible="hidden", elem_classes="never-shown", **more)


def saves(button: gr.Button, write: Callable[..., str], text: gr.Textbox, name: str, **given: Any) -> None:
    """A click writes a text, and the browser takes it as a file of this name: no copy stays on the server."""
    button.click(plainly(write), outputs=text, **given, **AT_ONCE).success(None, text, js=_saved(name),
                                                                           show_progress="hidden")


def _saved(name: str) -> str:
    return f"""(text) => {{
  if (!text) return;
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([text], {{type: 'application/octet-stream'}}));
  link.download = '{name}';
  link.click();
  URL.revokeObjectURL(link.href);
}}"""
