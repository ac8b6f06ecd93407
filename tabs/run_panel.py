"""The second half of the Train tab: one run, followed live or opened again, until it can be compared and kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.components import Component

from tabs import code_view, run_view, theme
from tabs.progress import progress_of
from training.run import Event, Run
from training.script import script_of

ANNOUNCED = "element.setAttribute('role', 'status'); element.setAttribute('aria-live', 'polite');"


@dataclass(frozen=True)
class Seen:
    """What of a run is on the page already; the same again needn't be drawn again."""

    run: str
    state: str
    events: int
    asked_to_stop: bool


@dataclass(frozen=True)
class RunPanel:
    """Components that show a run; `run_id` is the one shown and `seen` what of it is on the page already. `turn` is
    set while this page borrows the GPU for it, turn after turn.
    """

    column: gr.Column
    steps: gr.HTML
    heading: gr.HTML
    announced: gr.HTML
    bar: gr.HTML
    stop: gr.Button
    resume: gr.Button
    new: gr.Button
    ending: gr.HTML
    compare: gr.Button
    said: gr.HTML
    losses: gr.HTML
    loss_table: gr.HTML
    speed: gr.HTML
    code: gr.HTML
    keep: gr.Group
    kept: gr.HTML
    take: gr.Button
    parcel: gr.DownloadButton
    delete: gr.Button
    sure: gr.Checkbox
    timer: gr.Timer
    run_id: gr.State
    seen: gr.State
    turn: gr.State

    def outputs(self) -> list[Component]:
        """Everything that `show` may change."""
        return list(vars(self).values())

    def show(self, run: Run, seen: Seen | None = None, turn: str = "") -> dict[Component, Any]:
        """The run as it is now; nothing where `seen` says that this is on the page."""
        events = run.course()
        state = "preparing" if turn and is_between_turns(events) else run.state()
        now = Seen(run.id, state, len(events), run.is_asked_to_stop())
        if now == seen:
            return {self.seen: seen}
        picture = progress_of(run, events, state)
        over, usable = picture.over, bool(picture.adapter)
        return {
            self.column: gr.update(visible=True),
            self.steps: run_view.steps_bar(2 if usable else 1),
            self.heading: run_view.heading(picture),
            self.announced: run_view.announcement(picture),
            self.bar: run_view.bar(picture),
            self.stop: gr.update(visible=not over, interactive=not picture.stopping),
            self.resume: gr.update(visible=picture.can_go_on),
            self.new: gr.update(visible=over),
            self.ending: gr.update(value=f'<p class="outcome {state}">{run_view.outcome(picture)}</p>', visible=over),
            self.compare: gr.update(visible=over and usable),
            self.said: run_view.said(picture),
            self.losses: run_view.losses(picture),
            self.loss_table: run_view.loss_table(picture),
            self.speed: run_view.speed(picture),
            **({} if seen else {self.code: code_view.script(script_of(run.config, str(run.folder / "data.parquet")))}),
            self.keep: gr.update(visible=over),
            self.kept: run_view.kept(picture, str(run.home)),
            self.timer: gr.Timer(active=not over),
            self.run_id: run.id,
            self.seen: now,
        }


def is_between_turns(events: Sequence[Event]) -> bool:
    """Whether the run waits for nothing but the next turn of a GPU."""
    return bool(events) and events[-1].type == "lease_ended" and events[-1].values["reason"] in ("time", "aborted")


def build() -> RunPanel:
    """Draw the panel, hidden, where this is called."""
    with gr.Column(visible=False, elem_classes="run") as column:
        steps = theme.markup()
        with gr.Row(elem_classes="run-top"):
            heading = theme.markup(elem_classes="grow")
            stop = gr.Button(theme.STOP_RUN, elem_id="stop-run", elem_classes="fit")
            resume = gr.Button(theme.RESUME_RUN, variant="primary", visible=False, elem_id="resume-run",
                               elem_classes="fit")
            new = gr.Button(theme.NEW_RUN, visible=False, elem_id="new-run", elem_classes="fit")
        announced = theme.markup(js_on_load=ANNOUNCED, elem_classes="heard", elem_id="run-state")
        bar = theme.markup(elem_id="run-bar")
        with gr.Row(elem_classes="run-ending"):
            ending = theme.markup(visible=False, elem_classes="grow")
            compare = gr.Button(theme.COMPARE, variant="primary", size="lg", visible=False, elem_id="compare",
                                elem_classes="fit")
        with gr.Row(elem_classes="split"):
            with gr.Column(scale=7, min_width=320):
                with gr.Column(elem_classes="card"):
                    theme.markup(f'<h3 class="large">{theme.SAYS_NOW}</h3>')
                    said = theme.markup(elem_id="says-now")
                with gr.Column(elem_classes="card", visible=False) as keep:
                    theme.markup(f"<h3>{theme.STEPS[3]}</h3>")
                    kept = theme.markup()
                    with gr.Row(elem_classes="tools"):
                        take = gr.Button(theme.DOWNLOAD_RUN, elem_id="download-run", elem_classes="quiet fit")
                        parcel = gr.DownloadButton(visible="hidden", elem_id="parcel")
                        delete = gr.Button(theme.DELETE_RUN, elem_id="delete-run", elem_classes="quiet fit")
                        # A state would not take what the browser says.
                        sure = gr.Checkbox(visible="hidden")
            with gr.Column(scale=4, min_width=300, elem_classes="card"):
                losses, loss_table, speed, code = _numbers()
    return RunPanel(column, steps, heading, announced, bar, stop, resume, new, ending, compare, said, losses,
                    loss_table, speed, code, keep, kept, take, parcel, delete, sure, gr.Timer(0.5, active=False),
                    gr.State(""), gr.State(None), gr.State(""))


def _numbers() -> tuple[gr.HTML, gr.HTML, gr.HTML, gr.HTML]:
    theme.markup(f'<h3>{theme.LOSS_TITLE}</h3><p class="muted">{theme.LOSS_LEAD}</p>')
    losses = theme.markup(elem_id="losses")
    with gr.Accordion(theme.LOSS_TABLE, open=False, elem_classes="fold"):
        loss_table = theme.markup(elem_classes="scroll", js_on_load=SCROLLED)
    with gr.Accordion(theme.SPEED, open=False, elem_classes="fold"):
        speed = theme.markup(elem_classes="scroll", js_on_load=SCROLLED)
    with gr.Accordion(theme.CODE, open=False, elem_classes="fold"):
        theme.markup(f'<p class="muted">{theme.RUN_CODE_LEAD}</p>')
        code = theme.markup(js_on_load=code_view.COPY)
    return losses, loss_table, speed, code


# A part that scrolls by itself must be reachable by keyboard.
SCROLLED = """element.tabIndex = 0; element.setAttribute('role', 'region');
element.setAttribute('aria-label', 'Numbers');"""
