"""The components of the Chat tab: up to four lanes, the message box below them, and what may be set."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.components import Component

from chat.conversation import (
    LETTERS,
    MOST_LANES,
    Asking,
    Talk,
    Talks,
    can_be_voted_on,
    has_answers,
    picked,
)
from chat.drawing import SAMPLING_LABELS
from chat.memory import as_text, talks_from
from phi3.lane import STRONGEST, Sampling
from tabs import lane_view, theme
from tabs.events import COPYING, hidden_text
from tabs.run_panel import ANNOUNCED

SECONDS_BETWEEN_LOOKS = 3
# A pane that scrolls by itself must be reachable by keyboard.
PANE = """const pane = element.closest('.pane'); pane.tabIndex = 0; pane.setAttribute('role', 'region');
pane.setAttribute('aria-label', 'Conversation ' + pane.className.match(/pane-(.)/)[1]);"""
# What can be done with a turn: its text is copied here, as the model wrote it (what is drawn has lost the numbers of
# lists), and everything else becomes an event of that name.
TURN_TOOLS = COPYING + """element.addEventListener('click', async (event) => {
  const button = event.target.closest('button[data-does]');
  if (!button) return;
  if (button.dataset.does !== 'copy') return trigger(button.dataset.does, {sent: Number(button.dataset.sent)});
  await copy(button.dataset.text);
  button.textContent = 'Copied';
});"""
# Escape closes an open editor, which is this component's `clear`; from outside of it, answers that come stop first.
ESCAPE = """document.addEventListener('keydown', (event) => {
  if (event.key !== 'Escape' || event.isComposing) return;
  const [editor, stop] = ['#editor', '#stop-answer'].map((one) => document.querySelector(one));
  if (!editor || (stop && !editor.contains(event.target))) return stop?.click();
  document.querySelector('#message textarea').focus();
  trigger('clear');
});"""


@dataclass(frozen=True)
class LaneParts:
    """The components of one lane; `before` is what was said, `newest` the turn that may still stream."""

    column: gr.Column
    picker: gr.Dropdown
    strength: gr.Slider
    remove: gr.Button
    before: gr.HTML
    newest: gr.HTML


@dataclass(frozen=True)
class ChatPanel:
    """`talks` holds the conversations of this browser tab, `said` the same for the browser to keep, `first` those of a
    page on which nothing was done yet; whoever takes both asks `now` for them. `known` are the adapters that its
    pickers offer. `at_work` ticks on a page that shows lanes at work; `late` changes where they are so no more, and
    `unanswered` where nobody has begun.
    """

    lanes: tuple[LaneParts, ...]
    first: Talks
    talks: gr.State
    said: gr.Textbox
    late: gr.Textbox
    unanswered: gr.Textbox
    at_work: gr.Timer
    known: gr.State
    announced: gr.HTML
    message: gr.Textbox
    send: gr.Button
    stop: gr.Button
    suggestions: gr.Row
    suggested: tuple[gr.Button, ...]
    retry: gr.Button
    undo: gr.Button
    clear: gr.Button
    add: gr.Button
    blind: gr.Checkbox
    votes: gr.Row
    voting: tuple[gr.Button, ...]
    system: gr.Textbox
    sampling: dict[str, Component]

    def outputs(self) -> list[Component]:
        """Everything that any of these may change. Gradio makes each output of an event anew whenever it ends or says
        something, changed or not, so what happens often has a list of its own.
        """
        placed = [part for lane in self.lanes for part in (lane.column, lane.picker, lane.strength)]
        return [*self.shown(), self.known, self.message, *self.voting, *placed]

    def offered(self) -> list[Component]:
        """What `offer` may change."""
        return [self.known, *(lane.picker for lane in self.lanes)]

    def shown(self) -> list[Component]:
        """What `show` may change."""
        parts = [part for lane in self.lanes for part in (lane.remove, lane.before, lane.newest)]
        return [self.talks, self.said, self.at_work, self.announced, self.suggestions, self.send, self.stop,
                self.retry, self.undo, self.clear, self.add, self.votes, *parts]

    def streamed(self) -> list[Component]:
        """What `stream` may change."""
        return [self.talks, self.announced, *(lane.newest for lane in self.lanes)]

    def talking(self) -> dict[str, Component]:
        """What a handler asks `now` with, by argument."""
        return {"talks": self.talks, "said": self.said}

    def now(self, talks: Talks, said: str, given: Mapping[str, Any] | None = None) -> Talks:
        """The lanes of this page: as the server knows them or, where it has forgotten the page or was itself begun
        anew, as the page keeps them. An answer to what the page asked must never empty it. What is picked in them is
        `given` by the arguments of `picking`.
        """
        return picked(talks or talks_from(said) or self.first, given or {})

    def picking(self) -> dict[str, Component]:
        """`talking`, and what the lanes answer with from now on, and how strongly, by argument."""
        lanes = list(zip(LETTERS, self.lanes, strict=True))
        return {**self.talking(),
                **{f"picked_{letter}": lane.picker for letter, lane in lanes},
                **{f"strength_{letter}": lane.strength for letter, lane in lanes}}

    def offer(self, choices: list[str]) -> dict[Component, Any]:
        """The adapters that the pickers know; what is picked stays."""
        return {self.known: choices, **{lane.picker: gr.update(choices=choices) for lane in self.lanes}}

    def show(self, talks: Talks, answering: bool = False) -> dict[Component, Any]:
        """What was said in the lanes that there are. While they answer, Send is Stop, and whatever would change the
        lanes rests.

        Pickers stay as they are: the visitor may be choosing another adapter this very moment.
        """
        resting = gr.update(interactive=not answering)
        shown: dict[Component, Any] = {
            self.talks: talks, self.said: as_text(talks), self.announced: lane_view.announcement(talks),
            self.at_work: gr.Timer(active=answering), self.suggestions: gr.update(visible=not has_answers(talks)),
            self.send: gr.update(visible=not answering), self.stop: gr.update(visible=answering),
            self.retry: resting, self.undo: resting, self.clear: resting,
            self.add: gr.update(interactive=_may_grow(talks, answering)),
            self.votes: gr.update(visible=can_be_voted_on(talks) and not answering),
        }
        for lane, talk in zip(self.lanes, talks, strict=False):
            shown |= {lane.remove: resting, lane.before: lane_view.said_before(talk),
                      lane.newest: lane_view.newest(talk)}
        return shown

    def place(self, talks: Talks, answering: bool = False) -> dict[Component, Any]:
        """The lanes where their number or order changed: as `show`, and all that stands around them follows."""
        resting = {"interactive": not answering}
        placed: dict[Component, Any] = {
            self.add: gr.update(visible=len(talks) < MOST_LANES, interactive=_may_grow(talks, answering)),
            **{button: gr.update(visible=place < len(talks)) for place, button in enumerate(self.voting[:MOST_LANES])},
        }
        for place, lane in enumerate(self.lanes):
            placed |= {lane.column: gr.update(visible=place < len(talks)),
                       lane.remove: gr.update(visible=len(talks) > 1, **resting)}
        for lane, talk in zip(self.lanes, talks, strict=False):
            placed |= {lane.picker: talk.adapter, lane.strength: talk.strength}
        return {**self.show(talks, answering), **placed}

    def asked_as(self, asking: Asking) -> dict[Component, Any]:
        """The system message and how answers are drawn, as an address says."""
        values = dataclasses.asdict(asking.sampling)
        shown = {part: "\n".join(values[name]) if name == "stop_texts" else values[name]
                 for name, part in self.sampling.items()}
        return {self.system: asking.system, **shown}

    def stream(self, talks: Talks, why_waiting: str = "") -> dict[Component, Any]:
        """Only what changes while answers come in, or what they wait for."""
        newest = {self.lanes[place].newest: lane_view.newest(talk, why_waiting) for place, talk in enumerate(talks)}
        return {self.talks: talks, self.announced: why_waiting or lane_view.announcement(talks), **newest}


def _may_grow(talks: Talks, answering: bool) -> bool:
    """Whether a lane may be added: one that nobody voted on would end the vote."""
    return not answering and not any(talk.is_unnamed for talk in talks)


def build(talks: Talks, choices: list[str]) -> ChatPanel:
    """Draw the tab where this is called."""
    with gr.Row(elem_classes="lanes"):
        drawn = tuple(_lane(place, talks, choices) for place in range(MOST_LANES))
    with gr.Column(elem_classes="composer"):
        announced = theme.markup(js_on_load=ANNOUNCED + ESCAPE, elem_classes="heard", elem_id="chat-state")
        with gr.Row(elem_classes="suggestions") as suggestions:
            suggested = tuple(gr.Button(question, elem_classes="chip fit") for question in theme.TRY_ASKING)
        with gr.Row(elem_classes="message-row"):
            message = gr.Textbox(label=theme.MESSAGE, placeholder=theme.MESSAGE_HINT, lines=1, max_lines=6,
                                 elem_id="message", elem_classes="grow unlabelled")
            send = gr.Button(theme.SEND, variant="primary", elem_id="send", elem_classes="fit")
            stop = gr.Button(theme.STOP_ANSWER, visible=False, elem_id="stop-answer", elem_classes="fit")
        with gr.Row(visible=False, elem_classes="votes") as votes:
            voting = tuple(gr.Button(words, elem_id=name, elem_classes="fit") for name, words in (
                *((f"best-{letter}", theme.BEST.format(letter=letter)) for letter in LETTERS),
                ("tie", theme.TIE), ("all-bad", theme.ALL_BAD)))
        with gr.Row(elem_classes="tools"):
            blind = gr.Checkbox(label=theme.BLIND, info=theme.BLIND_LEAD, elem_id="blind", elem_classes="fit",
                                container=False)
            tools = [gr.Button(words, elem_id=name, elem_classes="quiet fit") for name, words in (
                ("retry", theme.RETRY), ("undo", theme.UNDO), ("clear", theme.CLEAR), ("add-lane", theme.ADD_LANE))]
        with gr.Accordion(theme.SAMPLING, open=False, elem_classes="fold"):
            system = gr.Textbox(label=theme.SYSTEM_MESSAGE, info=theme.SYSTEM_HINT, lines=2, elem_id="system")
            with gr.Row(elem_classes="numbers-row"):
                sampling = {one.name: _setting(one.name, one.default) for one in dataclasses.fields(Sampling)}
    hidden = [hidden_text() for _ in ("said", "late", "unanswered")]
    at_work = gr.Timer(SECONDS_BETWEEN_LOOKS, active=False)
    return ChatPanel(drawn, talks, gr.State(()), *hidden, at_work, gr.State(choices), announced, message, send, stop,
                     suggestions, suggested, *tools, blind, votes, voting, system, sampling)


def _lane(place: int, talks: Talks, choices: list[str]) -> LaneParts:
    talk = talks[place] if place < len(talks) else Talk()
    letter = LETTERS[place]
    with gr.Column(visible=place < len(talks), min_width=280, elem_classes=f"lane lane-{letter}") as column:
        theme.markup(theme.LANE_PICKER.format(letter=letter), elem_classes="lane-name")
        with gr.Row(elem_classes="lane-top"):
            picker = gr.Dropdown(choices, value=talk.adapter, label=theme.LANE_PICKER.format(letter=letter),
                                 allow_custom_value=True, elem_id=f"picker-{letter}", elem_classes="grow")
            remove = gr.Button(theme.REMOVE_LANE.format(letter=letter), visible=len(talks) > 1,
                               elem_id=f"remove-{letter}", elem_classes="remove fit")
        strength = gr.Slider(0, STRONGEST, talk.strength, step=0.05, label=theme.STRENGTH.format(letter=letter),
                             elem_id=f"strength-{letter}", elem_classes="strength", buttons=[])
        with gr.Column(elem_classes=f"pane pane-{letter}"), gr.Column(elem_classes="said-here"):
            before = theme.markup(lane_view.said_before(talk), js_on_load=PANE + TURN_TOOLS,
                                  elem_id=f"before-{letter}")
            newest = theme.markup(js_on_load=TURN_TOOLS, elem_id=f"newest-{letter}")
    return LaneParts(column, picker, strength, remove, before, newest)


def _setting(name: str, value: float | tuple[str, ...]) -> Component:
    label, info = SAMPLING_LABELS[name]
    if isinstance(value, tuple):
        return gr.Textbox("\n".join(value), label=label, info=info, lines=1, max_lines=4, elem_id=f"sampling-{name}")
    return gr.Number(value, label=label, info=info, elem_id=f"sampling-{name}")
