"""Below the lanes: a message or an answer as it should have been."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import gradio as gr
from gradio.components import Component

from chat.conversation import Talk, Talks, Turn, turn_of, with_answer_of
from tabs import theme
from tabs.chat_panel import ChatPanel
from tabs.events import AT_ONCE, Changes
from tabs.plainly import plainly
from tabs.text import escaped

INTO_VIEW = """() => {
  const editor = document.querySelector('#editor');
  if (!editor) return;
  editor.scrollIntoView({block: 'nearest'});
  editor.querySelector('textarea')?.focus();
}"""


@dataclass(frozen=True)
class Edited:
    """What is being edited: a turn's question or its answer, as both were when the editor was opened."""

    turn: Turn
    is_answer: bool = False


@dataclass(frozen=True)
class Editor:
    """The editor's components; `what` is an Edited while it is open, or put aside with what was written."""

    group: gr.Column
    title: gr.HTML
    text: gr.Textbox
    send: gr.Button
    keep: gr.Button
    cancel: gr.Button
    what: gr.State

    def outputs(self) -> list[Component]:
        """Everything that changes when it opens or closes."""
        return [self.group, self.title, self.text, self.send, self.keep, self.what]

    def opened(self, what: Edited, aside: Edited | None = None) -> Changes:
        """Open, with the answer or the question in it, or what was written where just that was put aside. Who doesn't
        see the title hears it as the text's name.
        """
        if what == aside:
            return {self.group: gr.update(visible=True)}
        turn, is_answer = what.turn, what.is_answer
        name, lead = ((words.format(who=turn.by) for words in (theme.TEACH_TITLE, theme.TEACH_LEAD)) if is_answer
                      else (theme.EDIT_TITLE, theme.EDIT_LEAD))
        title = f'<h3 dir="auto">{escaped(name)}</h3><p class="muted" dir="auto">{escaped(lead)}</p>'
        text = gr.update(value=turn.answer.text if is_answer else turn.question, label=name)
        return {self.group: gr.update(visible=True), self.title: title, self.text: text, self.what: what,
                self.send: gr.update(visible=not is_answer), self.keep: gr.update(visible=is_answer)}

    def closed(self) -> Changes:
        """Nothing is edited."""
        return {self.group: gr.update(visible=False), self.text: "", self.what: None}


def build() -> Editor:
    """Draw it, closed, where this is called."""
    with gr.Column(visible=False, elem_id="editor", elem_classes="card") as group:
        title = theme.markup()
        text = gr.Textbox(label=theme.EDIT_TITLE, info=theme.ESCAPE_CLOSES, lines=2, max_lines=12, elem_id="edited",
                          elem_classes="unlabelled")
        with gr.Row(elem_classes="tools"):
            send = gr.Button(theme.SEND_AGAIN, variant="primary", elem_id="send-again", elem_classes="fit")
            keep = gr.Button(theme.TEACH_IT, variant="primary", elem_id="teach-it", elem_classes="fit")
            cancel = gr.Button(theme.CANCEL, elem_id="cancel-edit", elem_classes="quiet fit")
    return Editor(group, title, text, send, keep, cancel, gr.State(None))


def connect(editor: Editor, panel: ChatPanel) -> None:
    """Open it from each lane's turns, and close it."""
    def opening(place: int, is_answer: bool) -> Callable[..., Changes]:
        def opened(talks: Talks, said: str, aside: Edited | None, turn: gr.EventData) -> Changes:
            return editor.opened(Edited(turn_of(panel.now(talks, said), place, _sent(turn)), is_answer), aside)
        return opened

    for place, lane in enumerate(panel.lanes):
        for turns in (lane.before, lane.newest):
            for event, is_answer in ((turns.edit, False), (turns.like, True)):
                opened = event(plainly(opening(place, is_answer)), outputs=editor.outputs(),
                               inputs_kwargs={**panel.talking(), "aside": editor.what}, **AT_ONCE)
                opened.success(None, js=INTO_VIEW, **AT_ONCE)
    editor.cancel.click(editor.closed, outputs=editor.outputs(), **AT_ONCE)
    panel.announced.clear(lambda: gr.update(visible=False), outputs=editor.group, **AT_ONCE)


def answered_by(talks: Talks, what: Edited | None) -> tuple[Talk, Turn]:
    """(lane, turn) of an answer that is being corrected; ValueError where it is gone."""
    if what is None:
        raise ValueError("Nothing is being edited.")
    return with_answer_of(talks, what.turn)


def _sent(turn: gr.EventData) -> int:
    """A browser sends whatever somebody wrote there."""
    return turn.sent if isinstance(turn.sent, int) else -1
