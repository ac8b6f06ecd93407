"""The first step of the Train tab: choose what to learn from, and see what the model will read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.components import Component

from tabs import data_view, describe, theme
from tabs.plainly import plainly
from tabs.studio import Studio
from training.data import ChatData, as_the_model_sees, example_names, lengths_of, make_report, read_data, read_text

SHOWN_CONVERSATIONS = 3
FIRST_EXAMPLE = "pirate"


@dataclass(frozen=True)
class DataStep:
    """The components of this step. `source` is an example's name, DESCRIBED, or OWN_DATA for `file` and `text`."""

    source: gr.Radio
    described: describe.DescribePart
    own: gr.Column
    file: gr.File
    text: gr.Textbox
    summary: gr.HTML
    left_out: gr.Accordion
    reasons: gr.HTML
    seen_title: gr.HTML
    seen: gr.HTML
    others: gr.Button
    turned: gr.State
    lengths: gr.State      # tokens of each conversation, cut at the limit; None where there is none

    def inputs(self) -> dict[str, Component]:
        """What says which data is chosen, by argument of `chosen_data`."""
        return {"source": self.source, "file": self.file, "text": self.text, **self.described.inputs()}


def chosen_data(source: str, file: str | None, text: str | None, **described: Any) -> ChatData:
    """The data that the visitor chose; ValueError says what is wrong with it."""
    if source == theme.DESCRIBED:
        return describe.chosen(described).data()
    if source != theme.OWN_DATA:
        return read_data(source)
    if file:
        return read_data(file)
    if text and text.strip():
        return read_text(text)
    raise ValueError(theme.NO_DATA_YET)


def build(studio: Studio) -> DataStep:
    """Draw the step where this is called."""
    names = sorted(example_names(), key=lambda name: name != FIRST_EXAMPLE)
    sources = (*names, theme.DESCRIBED, theme.OWN_DATA)
    choices = [(theme.EXAMPLES.get(name, name.capitalize()), name) for name in sources]
    theme.markup(f'<h2 class="step-title"><span aria-hidden="true">1</span>{theme.STEPS[0]}</h2>')
    source = gr.Radio(choices, value=choices[0][1],
                      label=theme.DATA_QUESTION, elem_id="source", elem_classes="cards")
    described = describe.build(studio)
    with gr.Column(visible=False, elem_classes="own-data") as own:
        file = gr.File(label=theme.UPLOAD, file_types=[".jsonl", ".json"], type="filepath", height=120,
                       elem_id="upload")
        text = gr.Textbox(label=theme.PASTE, info=theme.OWN_HINT, placeholder=theme.PASTE_HINT, lines=3, max_lines=8,
                          elem_id="paste")
    summary = theme.markup(f'<p class="empty">{theme.READING}</p>', elem_id="data-summary")
    with gr.Accordion("", open=False, visible=False, elem_classes="fold") as left_out:
        reasons = theme.markup()
    seen_title = theme.markup(f'<h3 class="seen-title">{theme.SEEN_TITLE}</h3>{data_view.legend()}')
    seen = theme.markup(elem_id="seen")
    others = gr.Button(theme.SHOW_ANOTHER, elem_classes="quiet fit")
    return DataStep(source, described, own, file, text, summary, left_out, reasons, seen_title, seen, others,
                    gr.State(0), gr.State(None))


def connect(step: DataStep, studio: Studio, max_length: Component, page: gr.Blocks) -> None:
    """Look at the data again whenever the choice changes, and once when the page opens."""
    described = step.described
    shown = [step.own, described.column, step.summary, step.left_out, step.reasons, step.seen_title, step.seen,
             step.others, step.turned, step.lengths]

    @plainly
    def look(max_length: float | None, **chosen: Any) -> dict[Component, Any]:
        return _looked_at(step, studio, chosen, _limit(max_length))

    @plainly
    def turn(turned: int, max_length: float | None, **chosen: Any) -> dict[Component, Any]:
        data = chosen_data(**chosen)
        return {step.seen: _conversations(studio, data, turned + 1, _limit(max_length)), step.turned: turned + 1}

    quietly = {"show_progress": "hidden", "api_visibility": "private", "trigger_mode": "always_last"}
    inputs = {**step.inputs(), "max_length": max_length}
    looking = {"fn": look, "inputs_kwargs": inputs, "outputs": shown, **quietly}
    gr.on([page.load, step.source.change, step.file.change, step.text.change, max_length.change], **looking)
    for changed in describe.connect(described, studio, page):
        changed.success(**looking)
    step.others.click(turn, inputs_kwargs={**inputs, "turned": step.turned}, outputs=[step.seen, step.turned],
                      **quietly)


def _looked_at(step: DataStep, studio: Studio, chosen: dict[str, Any], max_length: int) -> dict[Component, Any]:
    parts = {step.own: gr.update(visible=chosen["source"] == theme.OWN_DATA),
             step.described.column: gr.update(visible=chosen["source"] == theme.DESCRIBED)}
    try:
        data = chosen_data(**chosen)
        report = make_report(data, studio.tokenizer.result(), max_length)
    except ValueError as problem:
        # What is wrong with the data stands where its numbers would stand, and stays there.
        hidden = gr.update(visible=False)
        words = data_view.problem(str(problem), nothing_yet=str(problem) in theme.NOTHING_YET)
        return {**parts, step.summary: words, step.left_out: hidden, step.reasons: "",
                step.seen_title: hidden, step.seen: "", step.others: hidden, step.turned: 0, step.lengths: None}
    rows = "1 row is left out" if report.dropped_total == 1 else f"{report.dropped_total:,} rows are left out"
    return {
        **parts,
        step.summary: data_view.summary(data, report),
        step.left_out: gr.update(label=f"{rows}, and why", visible=report.dropped_total > 0),
        step.reasons: data_view.left_out(report.rows_dropped, report.dropped_total),
        step.seen_title: gr.update(visible=True),
        step.seen: _conversations(studio, data, 0, max_length),
        step.others: gr.update(visible=len(data.conversations) > SHOWN_CONVERSATIONS),
        step.turned: 0,
        step.lengths: lengths_of(data.conversations, studio.tokenizer.result(), max_length),
    }


def _conversations(studio: Studio, data: ChatData, turned: int, max_length: int) -> str:
    first = turned * SHOWN_CONVERSATIONS
    shown = [data.conversations[place % len(data.conversations)]
             for place in range(first, first + min(SHOWN_CONVERSATIONS, len(data.conversations)))]
    tokenizer = studio.tokenizer.result()
    return "".join(data_view.conversation(one.row, as_the_model_sees(tokenizer, one.messages, max_length))
                   for one in shown)


def _limit(max_length: float | None) -> int:
    """What is typed may be half a number; the form says so in its own place."""
    return max(int(max_length), 1) if max_length else 1024
