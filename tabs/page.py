"""The page: its title, its two tabs, and what leads from one to the other."""

import gradio as gr

from tabs import api, chat, chat_api, remembering, signin, theme, train
from tabs.asking import Entrance
from tabs.stream import Page
from tabs.studio import Studio
from tabs.text import escaped
from tabs.visitor import keys_state

# Uploads and downloads lie in Gradio's cache for a day; what a run needs of them is in its folder.
HOUR, DAY = 3600, 86_400
# Gradio names each radio by itself, and anew when it is chosen: to a keyboard and a screen reader each would be a
# choice of one.
CHOICES = """const asOne = () => {
  for (const choice of document.querySelectorAll('fieldset')) {
    const [first, ...others] = choice.querySelectorAll('input[type=radio]');
    others.forEach((radio) => { radio.name = first.name; });
  }
};
document.addEventListener('focusin', asOne);
document.addEventListener('keydown', asOne);"""
# Whoever presses a button by keyboard and makes it go away would be at the page's beginning again: they go on at what
# came in its place.
STAYING = """let pressed = null;
const places = '.setup input:checked, #run-heading [tabindex], #message textarea';
const watching = new ResizeObserver(() => {
  if (pressed.checkVisibility()) return;
  watching.disconnect();
  if (![document.body, pressed].includes(document.activeElement)) return;
  [...document.querySelectorAll(places)].find((place) => place.checkVisibility())?.focus();
});
document.addEventListener('click', (event) => {
  watching.disconnect();
  pressed = event.detail === 0 ? event.target.closest('button') : null;
  if (pressed) watching.observe(pressed);
});"""


def build(studio: Studio) -> gr.Blocks:
    """The whole page, ready to be served."""
    with Page(title=theme.TITLE, analytics_enabled=False, fill_width=True, delete_cache=(HOUR, DAY)) as page:
        api.build(studio)  # first: names that are taken get a number
        chat_api.build(studio)
        with gr.Column(elem_classes="top"):
            theme.markup(_masthead(studio), js_on_load=CHOICES + STAYING, elem_classes="masthead")
            signin.build(studio, page)
        keys, known = keys_state(studio), gr.State(None)
        presence = remembering.build()
        with gr.Tabs(selected="train", elem_id="tabs") as tabs:
            with gr.Tab(theme.TRAIN, id="train"):
                trained = train.build(studio, page, keys, known)
            with gr.Tab(theme.CHAT, id="chat"):
                leads_here = Entrance(trained.compare, trained.run_id, trained.runs, tabs, keys, known)
                chat.build(studio, page, leads_here, presence)
    return page


def _masthead(studio: Studio) -> str:
    return (f'<header><h1><span aria-hidden="true">φ</span>{theme.TITLE}</h1><p>{theme.LEAD}</p>'
            f'<p class="here">Base: <b>{escaped(studio.facts.id)}</b> · {escaped(studio.machine.sentence())}</p>'
            "</header>")
