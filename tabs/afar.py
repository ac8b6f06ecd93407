"""A Space's disk is lost: a tick that keeps a run's checkpoints on the Hub, and kept runs that are brought back."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from adapters.hub import Hub
from phi3.models import EMBEDDED
from tabs import theme
from tabs.events import AT_ONCE, QUIETLY, Changes
from tabs.openings import Openings
from tabs.plainly import plainly
from tabs.run_panel import ANNOUNCED
from tabs.studio import Studio
from tabs.text import escaped
from tabs.visitor import Visitor, token_of, visitor_of
from training.afar import KeptRun, Note, evaluation_at, keep, kept_runs, newest_step, note_of, write_note
from training.arrival import Home, bring_back
from training.owners import owner_by_name
from training.run import RESTING, Run

# A commit for each checkpoint would be too many for the Hub; a run that rests is kept at once.
SECONDS_BETWEEN = 60.0
# Each holds a thread for as long as it sends or fetches.
TRAVELLING = {**QUIETLY, "concurrency_limit": 4, "concurrency_id": "travelling"}


@dataclass(frozen=True)
class Afar:
    """The tick under a run with what became of it, and the kept runs. `due` names what is to be sent next."""

    card: gr.Column
    tick: gr.Checkbox
    said: gr.HTML
    due: gr.State
    back: gr.Column
    choice: gr.Radio
    bring: gr.Button
    told: gr.HTML


def build(studio: Studio) -> Afar | None:
    """Draw it, hidden, where this is called; nothing where nobody signs in: on one's own machine the disk stays."""
    if not studio.signs_in:
        return None
    with gr.Column(visible=False, elem_classes="card") as card:
        tick = gr.Checkbox(label=theme.KEEP_AFAR, info=theme.KEEP_AFAR_INFO, elem_id="keep-afar")
        said = theme.markup(elem_id="kept-afar", js_on_load=ANNOUNCED)
    with gr.Column(visible=False, elem_classes="card") as back:
        theme.markup(f'<h2>{theme.KEPT_RUNS}</h2><p class="muted">{theme.KEPT_RUNS_LEAD}</p>')
        choice = gr.Radio([], show_label=False, label=theme.KEPT_RUNS, elem_id="kept-runs")
        bring = gr.Button(theme.BRING_BACK, elem_id="bring-back", elem_classes="fit")
        told = theme.markup()
    return Afar(card, tick, said, gr.State(""), back, choice, bring, told)


def connect(part: Afar | None, runs: Openings, page: gr.Blocks) -> None:
    """Connect it to the run that is shown. What is sent or fetched is, in an event of the page's own: the visitor's
    token lives in the request that brings it, and no thread outlives that.
    """
    if part is None:
        return
    _connect_keeping(part, runs)
    _connect_bringing_back(part, runs, page)


def _connect_keeping(part: Afar, runs: Openings) -> None:
    panel, studio = runs.panel, runs.studio

    def opened(run_id: str, keys: Any, request: gr.Request) -> Changes:
        run = kept_by(visitor_of(studio, request, keys), run_id)
        if run is None:
            return {part.card: gr.update(visible=False), part.due: ""}
        note = note_of(run)
        return {part.card: gr.update(visible=True), part.tick: note.wanted, part.said: standing(note), part.due: ""}

    def wish(run_id: str, is_wanted: bool, keys: Any, request: gr.Request) -> Changes:
        run = kept_by(visitor_of(studio, request, keys), run_id)
        if run is None:
            raise ValueError(theme.SIGN_IN_TO_KEEP)
        write_note(run.folder, replace(note_of(run), wanted=is_wanted, tried=0.0, wrong=""))
        return look(run_id, keys, request)

    def look(run_id: str, keys: Any, request: gr.Request) -> Changes:
        run = kept_by(visitor_of(studio, request, keys), run_id)
        if run is None:
            return {part.due: ""}
        note = note_of(run)
        step = due_step(run, note)
        said = f'<p class="muted">{theme.KEEPING_AFAR.format(step=step)}</p>' if step else standing(note)
        return {part.said: said, part.due: f"{run.id} {step} {note.tried}" if step else ""}

    def send(run_id: str, due: str, keys: Any, request: gr.Request) -> Changes:
        run = kept_by(visitor_of(studio, request, keys), run_id)
        if run is None or not due or not due_step(run, note_of(run)):
            return {part.due: due}
        return {part.said: standing(sent(run, visitor_of(studio, request, keys), token_of(studio, request)))}

    mine = [panel.run_id, runs.keys]
    panel.run_id.change(plainly(opened), mine, [part.card, part.tick, part.said, part.due], **AT_ONCE)
    # Of a run that has ended nothing changes any more, and what couldn't be sent is to be tried again.
    gr.on([panel.seen.change, panel.drawn.change, panel.looks.again.tick], plainly(look), mine, [part.said, part.due],
          trigger_mode="always_last", **AT_ONCE)
    part.tick.input(plainly(wish), [panel.run_id, part.tick, runs.keys], [part.said, part.due], **AT_ONCE)
    part.due.change(plainly(send), [panel.run_id, part.due, runs.keys], [part.said, part.due],
                    trigger_mode="always_last", **TRAVELLING)


def _connect_bringing_back(part: Afar, runs: Openings, page: gr.Blocks) -> None:
    studio = runs.studio

    def listed(keys: Any, request: gr.Request) -> Changes:
        visitor, token = visitor_of(studio, request, keys), token_of(studio, request)
        if not visitor.name or not token:
            return {part.back: gr.update(visible=False)}
        return offered(part, kept_elsewhere(visitor, kept_runs(Hub(), visitor.name, token)))

    def bring(repository: str | None, keys: Any, request: gr.Request) -> Changes:
        visitor, token = visitor_of(studio, request, keys), token_of(studio, request)
        if not visitor.name or not token:
            raise ValueError(theme.SIGN_IN_TO_KEEP)
        run = brought_back(visitor, repository, token)
        return {**runs.shown(visitor, run), **listed(keys, request)}

    outputs = [part.back, part.choice]
    page.load(plainly(listed), runs.keys, outputs, **TRAVELLING)
    part.bring.click(plainly(bring), [part.choice, runs.keys], [*outputs, *runs.outputs()], **TRAVELLING)


def kept_by(visitor: Visitor, run_id: str) -> Run | None:
    """The run, where it belongs to the name under which the visitor is signed in; None for every other."""
    own = [run for run in visitor.runs() if run.id == run_id] if visitor.name and run_id else []
    return own[0] if own and own[0].owner == owner_by_name(visitor.name) else None


def due_step(run: Run, note: Note, now: float | None = None) -> int:
    """The step of a checkpoint that is to be sent now, because it is new or the run was measured since; else 0."""
    step = newest_step(run) if note.wanted else 0
    if step < note.step or not step or (step == note.step and evaluation_at(run.folder) == note.evaluation):
        return 0
    waited = (time.time() if now is None else now) - note.tried
    return step if waited >= SECONDS_BETWEEN or (run.state() in RESTING and not note.wrong) else 0


def sent(run: Run, visitor: Visitor, token: str) -> Note:
    """Send the newest checkpoint, and note what became of it; what went wrong is noted too, and tried again later."""
    try:
        note = keep(Hub(), run, visitor.name, token)
    except ValueError as problem:
        note = replace(note_of(run), tried=time.time(), wrong=str(problem))
    if run.folder.is_dir():  # it may have been deleted, or no longer be wanted, in the meantime
        note = replace(note, wanted=note_of(run).wanted)
        write_note(run.folder, note)
    return note


def kept_elsewhere(visitor: Visitor, found: list[KeptRun]) -> list[KeptRun]:
    """Those of the kept runs that aren't here."""
    here = {note_of(run).repository for run in visitor.runs()}
    return [one for one in found if one.repository not in here]


def brought_back(visitor: Visitor, repository: str | None, token: str) -> Run:
    """A kept run of this visitor's as one of their runs here, paused; ValueError where that can't be."""
    if not repository or repository.split("/")[0].lower() != visitor.name.lower():
        raise ValueError(theme.CHOOSE_KEPT)
    studio = visitor.studio
    bases = [studio.facts.id, *([EMBEDDED] if studio.lend is not None and studio.facts.id != EMBEDDED else [])]
    home = Home(studio.runs, visitor.limits, owner_by_name(visitor.name), visitor.owners, bases)
    run, revision = bring_back(Hub(), repository, token, home)
    step = newest_step(run) or run.events()[-1].step
    write_note(run.folder, Note(True, repository, step, evaluation_at(run.folder), revision, time.time()))
    return run


def offered(part: Afar, kept: list[KeptRun]) -> Changes:
    """The kept runs to choose from; hidden where there is none."""
    choices = [(theme.KEPT_RUN.format(name=one.name, step=one.step or "?", day=one.changed), one.repository)
               for one in kept]
    chosen = choices[0][1] if choices else None
    return {part.back: gr.update(visible=bool(choices)), part.choice: gr.update(choices=choices, value=chosen)}


def standing(note: Note) -> str:
    """What became of the keeping, in a line."""
    if note.wrong:
        return f'<p class="warning">{escaped(note.wrong)}</p>'
    if note.step:
        return f'<p class="muted">{escaped(theme.KEPT_AFAR.format(step=note.step, repository=note.repository))}</p>'
    return f'<p class="muted">{theme.KEPT_AFAR_SOON}</p>' if note.wanted else ""
