"""Corrections of an adapter's answers: kept, shown, taken away, and trained on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component

from adapters.library import Library
from chat.conversation import BASE, Talks
from tabs import editor as editing
from tabs import theme
from tabs.chat_panel import ChatPanel
from tabs.editor import Edited, Editor
from tabs.hub import Reach, reach_of
from tabs.openings import Openings, begin_run
from tabs.plainly import plainly
from tabs.studio import Studio
from tabs.text import count, escaped
from tabs.visitor import PARCELS
from training.config import RunConfig
from training.corrections import Correction, Corrections, as_jsonl, lesson, old_rows

Changes = dict[Component, Any]
AT_ONCE = {"show_progress": "hidden", "api_visibility": "private", "concurrency_limit": None}
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
    file: gr.DownloadButton

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
            file = gr.DownloadButton(visible="hidden", elem_id="corrections-file", elem_classes="unseen")
    return Lessons(fold, who, rows, train, take, file)


def connect(lessons: Lessons, editor: Editor, panel: ChatPanel, runs: Openings, tabs: gr.Tabs) -> None:
    """Keep what the editor holds; show, remove, take away and train on what was kept."""
    studio, keys = runs.studio, runs.keys

    def keep(text: str, what: Edited | None, talks: Talks, system: str | None, held: Any,
             request: gr.Request) -> Changes:
        lane, turn = editing.answered_by(talks, what)
        reach = reach_of(studio, request, held)
        kept = corrections_of(reach, turn.by)
        kept.add(Correction(lane.messages(system or "", turn.sent), text.strip(), turn.answer.text))
        gr.Info(theme.CORRECTION_KEPT)
        return {**editor.closed(), **lessons.shown(kept, _choices(reach.visitor.library)), keys: reach.keys}

    def look(who: str, held: Any, request: gr.Request) -> Changes:
        reach = reach_of(studio, request, held)
        return lessons.shown(corrections_of(reach, who or BASE), _choices(reach.visitor.library))

    def remove(who: str, held: Any, request: gr.Request, row: gr.EventData) -> Changes:
        reach = reach_of(studio, request, held)
        kept = corrections_of(reach, who or BASE)
        kept.put([one for place, one in enumerate(kept.all()) if place != row.place])
        return lessons.shown(kept, _choices(reach.visitor.library))

    def take(who: str, held: Any, request: gr.Request) -> str:
        kept = corrections_of(reach_of(studio, request, held), who or BASE)
        return str(written(f"corrections-of-{Path(who or BASE).name}.jsonl", as_jsonl(kept.all())))

    def train(who: str, held: Any, request: gr.Request) -> Changes:
        reach = reach_of(studio, request, held)
        visitor, run = begin_run(reach.visitor, *taught(reach, who or BASE, studio))
        return {tabs: gr.Tabs(selected="train"), **runs.begun(visitor, run)}

    chosen = [lessons.who, keys]
    editor.keep.click(plainly(keep), [editor.text, editor.what, panel.talks, panel.system, keys],
                      [*editor.outputs(), *lessons.outputs(), keys], **AT_ONCE)
    gr.on([lessons.fold.expand, lessons.who.input], plainly(look), chosen, lessons.outputs(), **AT_ONCE)
    lessons.rows.clear(plainly(remove), chosen, lessons.outputs(), **AT_ONCE)
    lessons.take.click(plainly(take), chosen, lessons.file, **AT_ONCE).success(
        None, js="() => document.querySelector('#corrections-file').click()", show_progress="hidden")
    lessons.train.click(plainly(train), chosen, [tabs, *runs.outputs()], show_progress="hidden",
                        api_visibility="private")


def corrections_of(reach: Reach, adapter: str) -> Corrections:
    """This visitor's corrections of an adapter's answers."""
    return Corrections(reach.visitor.studio.home, reach.owner, adapter)


def taught(reach: Reach, adapter: str, studio: Studio) -> tuple[RunConfig, Any]:
    """(settings, rows) of a run that goes on from this adapter, or begins with the base, and learns the corrections;
    ValueError where there are none.
    """
    found = None if adapter == BASE else reach.visitor.library.get(adapter)
    name = free_name(f"{adapter[:50]}-taught", reach.visitor.library)
    data = lesson(corrections_of(reach, adapter).all(), old_rows(found, reach.visitor.studio.runs), name)
    asked = {**studio.suited, "base": studio.facts.id, "name": name, "start_from": adapter if found else ""}
    return RunConfig.from_settings(asked), data


def free_name(name: str, library: Library) -> str:
    """The name, or with a number behind it where it is taken."""
    return next(one for one in (name, *(f"{name}-{number}" for number in range(2, 1000))) if not library.has(one))


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


def written(name: str, text: str) -> Path:
    """A file of this text in a folder of its own, to be downloaded."""
    import tempfile

    PARCELS.mkdir(parents=True, exist_ok=True)
    path = Path(tempfile.mkdtemp(dir=PARCELS)) / name
    path.write_text(text, encoding="utf-8")
    return path


def _choices(library: Library) -> list[str]:
    return [BASE, *library.names()]
