"""Corrections of an adapter's answers: kept, shown, taken away, and trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.components import Component

from adapters.fetch import here
from chat.conversation import BASE, Talks, who_can_answer
from tabs import editor as editing
from tabs import form, theme
from tabs.chat_panel import ChatPanel
from tabs.editor import Edited, Editor
from tabs.events import AT_ONCE, QUIETLY, Changes, hidden_text, saves
from tabs.hub import Reach, reach_of
from tabs.lengths import lengths_in
from tabs.openings import Openings, begin_run
from tabs.plainly import plainly
from tabs.text import count, escaped
from tabs.visitor import FETCHED
from training.config import RunConfig
from training.corrections import Correction, Corrections, as_jsonl, lesson, lesson_settings, old_rows
from training.data import ChatData
from training.owners import owner_by_key

REMOVES = """element.addEventListener('click', (event) => {
  const button = event.target.closest('button[data-place]');
  if (button) trigger('clear', {place: Number(button.dataset.place)});
});"""


@dataclass(frozen=True)
class Lessons:
    """The components: whose corrections are shown, and what becomes of them."""

    fold: gr.Accordion
    who: gr.Dropdown
    rows: gr.HTML
    train: gr.Button
    take: gr.Button
    file: gr.Textbox

    def outputs(self) -> list[Component]:
        """What `shown` changes."""
        return [self.fold, self.who, self.rows, self.train, self.take]

    def shown(self, kept: Corrections, choices: list[str], is_open: bool = True) -> Changes:
        """These corrections, and what can be done with them."""
        corrections = kept.all()
        can = gr.update(visible=bool(corrections))
        return {self.fold: gr.update(open=is_open), self.who: gr.update(value=kept.adapter, choices=choices),
                self.rows: listed(corrections, kept.adapter), self.train: can, self.take: can}


def build() -> Lessons:
    """Draw them where this is called."""
    with gr.Accordion(theme.CORRECTIONS, open=False, elem_classes="fold", elem_id="corrections") as fold:
        who = gr.Dropdown([BASE], value=BASE, label=theme.CORRECTIONS, allow_custom_value=True, elem_id="corrected",
                          elem_classes="unlabelled")
        rows = theme.markup(f'<p class="empty">{theme.NO_CORRECTIONS}</p>', js_on_load=REMOVES,
                            elem_id="correction-rows")
        with gr.Row(elem_classes="tools"):
            train = gr.Button(theme.TRAIN_CORRECTIONS, variant="primary", visible=False, elem_id="train-corrections",
                              elem_classes="fit")
            take = gr.Button(theme.DOWNLOAD_CORRECTIONS, visible=False, elem_id="take-corrections",
                             elem_classes="quiet fit")
            file = hidden_text()
    return Lessons(fold, who, rows, train, take, file)


def connect(lessons: Lessons, editor: Editor, panel: ChatPanel, runs: Openings, tabs: gr.Tabs) -> None:
    """Keep what the editor holds; show, remove, take away and train on what was kept."""
    studio, keys = runs.studio, runs.keys

    def keep(text: str, what: Edited | None, talks: Talks, said: str, system: str | None, held: Any,
             request: gr.Request) -> Changes:
        lane, turn = editing.answered_by(panel.now(talks, said), what)
        reach = reach_of(studio, request, held)
        kept = corrections_of(reach, turn.by)
        kept.add(Correction(lane.messages(system or "", turn.sent), text.strip(), turn.answer.text))
        gr.Info(theme.CORRECTION_KEPT)
        studio.stand_by()
        return {**editor.closed(), **lessons.shown(kept, who_can_answer(reach.visitor.library)), keys: reach.keys}

    def look(who: str, held: Any, request: gr.Request) -> Changes:
        reach = reach_of(studio, request, held)
        return lessons.shown(corrections_of(reach, who or BASE), who_can_answer(reach.visitor.library))

    def unfold(who: str, held: Any, request: gr.Request) -> Changes:
        reach = reach_of(studio, request, held)
        return lessons.shown(found_first(reach, who or BASE), who_can_answer(reach.visitor.library))

    def remove(who: str, held: Any, request: gr.Request, row: gr.EventData) -> Changes:
        reach = reach_of(studio, request, held)
        kept = corrections_of(reach, who or BASE)
        kept.remove(row.place)
        return lessons.shown(kept, who_can_answer(reach.visitor.library))

    def take(who: str, held: Any, request: gr.Request) -> str:
        return as_jsonl(corrections_of(reach_of(studio, request, held), who or BASE).all())

    def train(who: str, held: Any, request: gr.Request) -> Changes:
        reach = reach_of(studio, request, held)
        visitor, run = begin_run(reach.visitor, *taught(reach, who or BASE))
        return {tabs: gr.Tabs(selected="train"), **runs.begun(visitor, run)}

    chosen = [lessons.who, keys]
    editor.keep.click(plainly(keep), [editor.text, editor.what, *panel.talking().values(), panel.system, keys],
                      [*editor.outputs(), *lessons.outputs(), keys], **AT_ONCE)
    lessons.fold.expand(plainly(unfold), chosen, lessons.outputs(), **AT_ONCE)
    lessons.who.input(plainly(look), chosen, lessons.outputs(), **AT_ONCE)
    lessons.rows.clear(plainly(remove), chosen, lessons.outputs(), **AT_ONCE)
    saves(lessons.take, take, lessons.file, "corrections.jsonl", inputs=chosen)
    lessons.train.click(plainly(train), chosen, [tabs, *runs.outputs()], **QUIETLY)


def corrections_of(reach: Reach, adapter: str) -> Corrections:
    """This visitor's corrections of an adapter's answers; with a name also those from before they signed in."""
    visitor = reach.visitor
    own = Corrections(visitor.studio.home, reach.owner, adapter)
    key = dict(visitor.keys).get(FETCHED)
    if visitor.name and key:
        own.take_over(Corrections(visitor.studio.home, owner_by_key(key), adapter))
    return own


def found_first(reach: Reach, adapter: str) -> Corrections:
    """This visitor's corrections of an adapter's answers; where there are none, of the first one that has some."""
    of_each = [corrections_of(reach, one) for one in (adapter, *who_can_answer(reach.visitor.library))]
    return next((one for one in of_each if one.all()), of_each[0])


def taught(reach: Reach, adapter: str) -> tuple[RunConfig, ChatData]:
    """(settings, rows) of a run that goes on from this adapter, or begins with the base, and learns the corrections;
    its length follows from them, as the usual preset has it. ValueError where there are none.
    """
    studio = reach.visitor.studio
    library = reach.visitor.library
    found = None if adapter == BASE else here(adapter, library)
    began = found.name if found else BASE
    name = library.free(f"{began[:50]}-taught", promised=studio.runs.coming_names(library.owners))
    data = lesson(corrections_of(reach, adapter).all(), old_rows(found, studio.runs), name)
    lengths = lengths_in(data, studio.tokenizer.result())
    asked = {**lesson_settings(data), "name": name, "start_from": found.name if found else ""}
    return form.suited_settings(studio, asked, lengths), data


def listed(corrections: list[Correction], who: str) -> str:
    """Each with its question, what it said and what it should have said."""
    if not corrections:
        return f'<p class="empty">{theme.NO_CORRECTIONS}</p>'
    rows = "".join(
        f'<li><p class="asked" dir="auto">{escaped(one.asked[-1]["content"])}</p>'
        f'<p class="was" dir="auto"><span>{theme.CORRECTED_FROM}</span> {escaped(one.was)}</p>'
        f'<p class="should" dir="auto">{escaped(one.answer)}</p>'
        f'<button type="button" data-place="{place}">{theme.FORGET_ONE}</button></li>'
        for place, one in enumerate(corrections))
    head = theme.CORRECTIONS_OF.format(count=count(len(corrections), "correction"), who=escaped(who))
    return f'<p class="muted" dir="auto">{head}</p><ul class="corrections">{rows}</ul>'
