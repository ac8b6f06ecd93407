"""Runs side by side on the Train tab: several that a visitor chose, or those of a group, followed while they go on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.components import Component

from tabs import compare_view, run_panel, theme
from tabs.events import AT_ONCE, Changes, hidden_text
from tabs.looks import Looks
from tabs.openings import Openings
from tabs.plainly import plainly
from tabs.text import escaped, sign_of
from tabs.visitor import Visitor, visitor_of
from training.compare import FEWEST, compared
from training.group import group_of, runs_of
from training.measured import Yardsticks
from training.run import BUSY, Run

# Older ones are found in the list of runs; nobody chooses among hundreds of boxes.
MOST_LISTED = 40
SECONDS_BETWEEN_LOOKS = 2


@dataclass(frozen=True)
class ComparePart:
    """Components that show runs side by side; `picked` are their ids, `states` the sign of how they stand, and `seen`
    that of what of them is on the page already.
    """

    column: gr.Column
    which: gr.CheckboxGroup
    standing: gr.HTML
    stop: gr.Button
    shown: gr.Column
    chart: gr.HTML
    tables: gr.HTML
    loss_table: gr.HTML
    looks: Looks
    picked: gr.State
    states: gr.Textbox
    seen: gr.Textbox

    def drawn(self) -> list[Component]:
        """Everything that changes with what is compared."""
        return [self.standing, self.stop, self.shown, self.chart, self.tables, self.loss_table, self.picked,
                self.states, self.seen, *self.looks.both()]


def build() -> ComparePart:
    """Draw the part where this is called, hidden until there are runs to compare."""
    with gr.Column(visible=False, elem_classes="card compare", elem_id="compare-runs") as column:
        theme.markup(f'<h2>{theme.COMPARE_RUNS}</h2><p class="muted">{theme.COMPARE_RUNS_LEAD}</p>')
        which = gr.CheckboxGroup([], label=theme.COMPARE_WHICH, elem_id="compare-which")
        with gr.Row(elem_classes="run-ending"):
            standing = theme.markup(_hint(theme.COMPARE_WAITING), elem_id="compare-standing", elem_classes="grow",
                                    js_on_load=run_panel.ANNOUNCED)
            stop = gr.Button(theme.STOP_THESE, visible=False, elem_id="stop-these", elem_classes="fit")
        with gr.Column(visible=False, elem_classes="compared") as shown, gr.Row(elem_classes="split"):
            with gr.Column(scale=5, min_width=320):
                chart = theme.markup(elem_id="compare-chart")
                with gr.Accordion(theme.COMPARED_TABLE, open=False, elem_classes="fold"):
                    loss_table = theme.markup(elem_classes="scroll", js_on_load=run_panel.SCROLLED)
            with gr.Column(scale=7, min_width=320):
                tables = theme.markup(elem_id="compare-tables")
    return ComparePart(column, which, standing, stop, shown, chart, tables, loss_table,
                       Looks.every(SECONDS_BETWEEN_LOOKS), gr.State([]), hidden_text(),
                       hidden_text(elem_id="compare-seen"))


def connect(part: ComparePart, runs: Openings, page: gr.Blocks) -> None:
    """List what can be compared, show what is chosen, and follow it."""
    yardsticks = Yardsticks()
    _connect_choosing(part, runs, page)
    _connect_showing(part, runs, yardsticks)


def _connect_choosing(part: ComparePart, runs: Openings, page: gr.Blocks) -> None:
    """The boxes follow the list of runs; a run that belongs to a group brings the others of it."""
    studio = runs.studio

    def list_runs(picked: list[str], keys: Any, request: gr.Request) -> Changes:
        own = visitor_of(studio, request, keys).runs()
        left = {run.id for run in own}.intersection(picked)
        # What stays isn't sent: somebody may be choosing, or a group may have been chosen meanwhile.
        gone = {"value": [one for one in picked if one in left]} if len(left) < len(picked) else {}
        return _listed(part, own, picked, **gone)

    def choose_group(run_id: str, keys: Any, request: gr.Request) -> Changes:
        visitor = visitor_of(studio, request, keys)
        own = visitor.runs()
        run = next((one for one in own if one.id == run_id), None)
        group = group_of(run) if run else None
        members = runs_of(group.id, own) if group else []
        if len(members) < FEWEST:
            return {part.column: gr.skip(), part.which: gr.skip()}
        chosen = [one.id for one in members]
        return _listed(part, own, chosen, value=chosen)

    outputs = [part.column, part.which]
    gr.on([page.load, runs.past.change], plainly(list_runs), [part.picked, runs.keys], outputs, **AT_ONCE)
    runs.panel.run_id.change(plainly(choose_group), [runs.panel.run_id, runs.keys], outputs, **AT_ONCE)


def _connect_showing(part: ComparePart, runs: Openings, yardsticks: Yardsticks) -> None:
    """What is chosen, as it gets on; and stopping what of it goes on."""
    studio = runs.studio

    def show(picked: list[str], keys: Any, request: gr.Request) -> Changes:
        return _shown(part, _found(visitor_of(studio, request, keys), picked), yardsticks)

    def follow(picked: list[str], seen: str, keys: Any, request: gr.Request) -> Changes:
        return _shown(part, _found(visitor_of(studio, request, keys), picked), yardsticks, seen)

    def stop(picked: list[str], keys: Any, request: gr.Request) -> Changes:
        found = _found(visitor_of(studio, request, keys), picked)
        # Those that wait first: else the next one begins when the one that goes on has stopped.
        for run in sorted(found, key=lambda one: one.state() != "queued"):
            if run.state() in BUSY:
                studio.runs.stop(run)
        return _shown(part, found, yardsticks)

    part.which.change(plainly(show), [part.which, runs.keys], part.drawn(), **AT_ONCE, trigger_mode="always_last")
    part.looks.connect(follow, [part.picked, part.seen, runs.keys], part.drawn())
    part.stop.click(plainly(stop), [part.picked, runs.keys], part.drawn(), **AT_ONCE)
    part.states.change(plainly(runs.list_anew), runs.keys, runs.listing(), **AT_ONCE)


def _listed(part: ComparePart, own: Sequence[Run], picked: Sequence[str], **value: list[str]) -> Changes:
    """A box for each of those that are picked, and of the newest runs; no part where there is nothing to compare."""
    chosen = {run.id for run in own}.intersection(picked)
    listed = [run for run in own if run.id in chosen]
    listed += [run for run in own if run.id not in chosen][:MOST_LISTED]
    return {part.column: gr.update(visible=len(own) >= FEWEST),
            part.which: gr.update(choices=compare_view.choices(listed), **value)}


def _found(visitor: Visitor, picked: Sequence[str]) -> list[Run]:
    """The visitor's runs of these ids, without those that were deleted meanwhile."""
    own = {run.id: run for run in visitor.runs()}
    return [own[one] for one in picked if one in own]


def _shown(part: ComparePart, found: Sequence[Run], yardsticks: Yardsticks, seen: str = "") -> Changes:
    """These runs side by side; nothing where `seen` says that this is on the page."""
    now = [[run.id, run.state(), run.is_asked_to_stop(), (run.folder / "events.jsonl").stat().st_size] for run in found]
    sign = sign_of(now)
    if sign == seen:
        return {part.seen: seen}
    going = [asked for _, state, asked, _ in now if state in BUSY]
    goes_on = bool(going)
    states = sign_of([state for _, state, *_ in now])
    changes = {part.picked: [run.id for run in found], part.states: states, part.seen: sign,
               **part.looks.going(goes_on, may_go_on=bool(found)),
               part.stop: gr.update(visible=goes_on and len(found) >= FEWEST, interactive=not all(going))}
    try:
        if len(found) < FEWEST:
            return {**changes, part.standing: _hint(theme.COMPARE_WAITING), part.shown: gr.update(visible=False)}
        whole = compared(found, yardsticks)
    except ValueError as problem:
        return {**changes, part.standing: f'<p class="problem">{escaped(str(problem))}</p>',
                part.shown: gr.update(visible=False)}
    return {**changes, part.standing: f'<p class="outcome">{escaped(whole.ranking.sentence)}</p>',
            part.shown: gr.update(visible=True), part.chart: compare_view.chart(whole),
            part.tables: compare_view.tables(whole), part.loss_table: compare_view.loss_table(whole)}


def _hint(words: str) -> str:
    return f'<p class="muted">{words}</p>'
