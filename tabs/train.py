"""The Train tab: Data → Train → Compare → Keep, for a new run or one that is followed or opened again."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component

from tabs import code_view, data, form, plan_view, run_panel, run_view, theme, turns
from tabs.plainly import plainly
from tabs.studio import Studio
from training import lease
from training.config import RunConfig
from training.parcel import pack
from training.plan import Plan, made_to_fit, make_plan
from training.run import Run
from training.script import script_of
from training.speed import slower_than_guessed

Changes = dict[Component, Any]
QUIETLY = {"show_progress": "hidden", "api_visibility": "private"}
# Following costs little and must never wait for anything else on the page.
FOLLOWING = {**QUIETLY, "concurrency_limit": None}
REMEMBER_IN_ADDRESS = """(run) => {
  const address = new URL(window.location);
  if (run) address.searchParams.set('run', run); else address.searchParams.delete('run');
  window.history.replaceState(null, '', address);
}"""


@dataclass(frozen=True)
class TrainTab:
    """What the rest of the page needs of this tab: the button that leads on, and the run that is shown."""

    compare: gr.Button
    run_id: gr.State


@dataclass(frozen=True)
class _Setup:
    """The components of steps 1 and 2."""

    column: gr.Column
    data: data.DataStep
    preset: gr.Radio
    form: form.Form
    note: gr.HTML
    plan: gr.HTML
    fit: gr.Button
    start: gr.Button
    code: gr.HTML


def build(studio: Studio, page: gr.Blocks) -> TrainTab:
    """Draw the tab where this is called, and connect it."""
    setup = _setup(studio)
    panel = run_panel.build()
    with gr.Column(elem_classes="card past"):
        theme.markup(f"<h2>{theme.PAST_RUNS}</h2>")
        past = theme.markup(elem_id="past-runs")
    data.connect(setup.data, studio, setup.form["max_length"], page)
    _connect_settings(setup, studio, page)
    runs = _Runs(setup, panel, past, studio)
    _connect_openings(runs, page)
    _connect_following(runs)
    _connect_keeping(runs)
    turns.connect(panel, studio)
    return TrainTab(panel.compare, panel.run_id)


def _setup(studio: Studio) -> _Setup:
    with gr.Column(elem_classes="setup") as column:
        theme.markup(run_view.steps_bar(0))
        with gr.Row(elem_classes="split"):
            with gr.Column(scale=7, min_width=320, elem_classes="card"):
                step = data.build(studio)
            with gr.Column(scale=5, min_width=320, elem_classes="card"):
                preset, fields, note, plan, fit, start, code = _settings(studio)
    return _Setup(column, step, preset, fields, note, plan, fit, start, code)


def _settings(studio: Studio) -> tuple[gr.Radio, form.Form, gr.HTML, gr.HTML, gr.Button, gr.Button, gr.HTML]:
    theme.markup(f'<h2 class="step-title"><span aria-hidden="true">2</span>{theme.STEPS[1]}</h2>')
    suited = {**studio.suited, "base": studio.facts.id}
    fields = form.drawn(["method"], suited)
    preset = gr.Radio([(label, name) for name, label in theme.PRESETS.items()], value="recommended",
                      label=theme.PRESET_LABEL, elem_id="preset")
    with gr.Row(elem_classes="numbers-row"):
        fields |= form.drawn(form.group("main"), suited)
    note = theme.markup(elem_id="settings-note", js_on_load=run_panel.ANNOUNCED)
    plan = theme.markup(elem_id="plan")
    fit = gr.Button(theme.MAKE_IT_FIT, visible=False, elem_id="make-it-fit", elem_classes="fit")
    with gr.Row(elem_classes="start-row"):
        fields |= form.drawn(["name"], suited)
        start = gr.Button(theme.START, variant="primary", size="lg", elem_id="start", elem_classes="fit")
    with gr.Accordion(theme.MORE_TRAINING, open=False, elem_classes="fold"):
        fields |= form.drawn([*form.group("training"), "start_from", "base"], suited)
    with gr.Accordion(theme.MORE_LORA, open=False, elem_classes="fold"):
        fields |= form.drawn(form.group("lora"), suited)
    with gr.Accordion(theme.CODE, open=False, elem_classes="fold"):
        theme.markup(f'<p class="muted">{theme.CODE_LEAD}</p>')
        code = theme.markup(elem_id="code", js_on_load=code_view.COPY)
    return preset, fields, note, plan, fit, start, code


def _connect_settings(setup: _Setup, studio: Studio, page: gr.Blocks) -> None:
    """The code and the note follow the form; a preset fills it."""
    def fill(preset: str) -> Changes:
        values = form.preset_values(preset, studio.suited)
        return {setup.form[name]: value for name, value in values.items()}

    def read(preset: str, source: str, lengths: list[int] | None, **settings: Any) -> Changes:
        word = f'<p class="warning">{theme.RECIPE_WORD}</p>' if preset == "recipe" else ""
        try:
            config = _asked(studio, settings)
        except ValueError as problem:
            return {setup.note: f'<p class="problem">{problem}</p>', setup.plan: "",
                    setup.fit: gr.update(visible=False)}
        plan = _plan_of(studio, config, lengths) if lengths else None
        return {setup.note: word, setup.code: code_view.script(script_of(config, _file_of(source))),
                setup.plan: plan_view.planned(plan), setup.fit: gr.update(visible=bool(plan and not plan.fits))}

    def make_it_fit(lengths: list[int], **settings: Any) -> Changes:
        config = _asked(studio, settings)
        changes = made_to_fit(config, lambda changed: _plan_of(studio, changed, lengths))
        gr.Info(plan_view.changed(config, changes), duration=None)
        return {setup.form[name]: value for name, value in changes.items()}

    setup.preset.change(plainly(fill), setup.preset, list(setup.form.values()), **QUIETLY)
    lengths = setup.data.lengths
    changes = [part.change for part in (setup.preset, setup.data.source, lengths, *setup.form.values())]
    gr.on([page.load, *changes], plainly(read), outputs=[setup.note, setup.plan, setup.fit, setup.code],
          trigger_mode="always_last", **QUIETLY,
          inputs_kwargs={**setup.form, "preset": setup.preset, "source": setup.data.source, "lengths": lengths})
    setup.fit.click(plainly(make_it_fit), outputs=list(setup.form.values()),
                    inputs_kwargs={**setup.form, "lengths": lengths}, **QUIETLY)


def _plan_of(studio: Studio, config: RunConfig, lengths: list[int]) -> Plan:
    """The plan over rows as long as these, so many of them held out as the run will hold out."""
    lengths = [min(length, config.max_length) for length in lengths]
    held_out = round(len(lengths) * config.held_out)
    every = len(lengths) // held_out if held_out else len(lengths) + 1
    held = sorted(lengths)[every // 2::every][:held_out] if held_out else []
    left = Counter(lengths)
    left.subtract(held)
    return make_plan(config, studio.facts.config, list(left.elements()), held, studio.machine,
                     slower_than_guessed(studio.home, studio.machine, config))


@dataclass(frozen=True)
class _Runs:
    """The parts that show runs, and what they show when another one is opened."""

    setup: _Setup
    panel: run_panel.RunPanel
    past: gr.HTML
    studio: Studio

    def outputs(self) -> list[Component]:
        return [self.setup.column, self.past, *self.panel.outputs()]

    def listed(self) -> str:
        return run_view.listed(self.studio.runs.all())

    def setup_shown(self) -> Changes:
        """No run, but what a new one needs."""
        return {self.setup.column: gr.update(visible=True), self.panel.column: gr.update(visible=False),
                self.panel.run_id: "", self.panel.turn: "", self.panel.timer: gr.Timer(active=False),
                self.past: self.listed()}

    def begun(self, run: Run) -> Changes:
        """Set a trainer to work; where the GPU is lent, this page takes the first turn."""
        if self.studio.lend is None:
            lease.start(run)
            return self.shown(run)
        return {**self.shown(run), self.panel.turn: turns.next_turn()}

    def shown(self, run: Run) -> Changes:
        return {self.setup.column: gr.update(visible=False), self.past: self.listed(), **self.panel.show(run)}


def _connect_openings(runs: _Runs, page: gr.Blocks) -> None:
    """Start a run, open the one that the address names or that goes on, go back for a new one."""
    setup, panel, studio = runs.setup, runs.panel, runs.studio

    def start(**values: Any) -> Changes:
        chosen = data.chosen_data(**{name: values.pop(name) for name in setup.data.inputs()})
        return runs.begun(studio.runs.create(_asked(studio, values), chosen))

    def opened(request: gr.Request) -> Changes:
        named = request.query_params.get("run")
        run = studio.runs.get(named) if named else studio.runs.going()
        return runs.shown(run) if run else {panel.run_id: ""}

    address = {"fn": None, "inputs": panel.run_id, "js": REMEMBER_IN_ADDRESS, "show_progress": "hidden"}
    everything = runs.outputs()
    setup.start.click(plainly(start), outputs=everything, inputs_kwargs={**setup.data.inputs(), **setup.form},
                      **QUIETLY).success(**address)
    panel.new.click(plainly(runs.setup_shown), outputs=everything, **FOLLOWING).success(**address)
    page.load(plainly(runs.listed), outputs=runs.past, **FOLLOWING)
    page.load(plainly(opened), outputs=everything, **FOLLOWING)


def _connect_following(runs: _Runs) -> None:
    """Show what is new in the run, stop it, and go on with it."""
    panel, studio = runs.panel, runs.studio

    def follow(run_id: str, seen: run_panel.Seen | None, turn: str) -> Changes:
        changes = panel.show(studio.runs.get(run_id), seen, turn)
        is_news = seen is None or changes[panel.seen].state != seen.state
        return {**changes, runs.past: runs.listed()} if is_news else changes

    def stop(run_id: str) -> Changes:
        run = studio.runs.get(run_id)
        run.ask_to_stop()
        return panel.show(run)

    def resume(run_id: str) -> Changes:
        run = studio.runs.get(run_id)
        studio.runs.resume(run)
        return runs.begun(run)

    panel.timer.tick(plainly(follow), [panel.run_id, panel.seen, panel.turn], [runs.past, *panel.outputs()],
                     **FOLLOWING)
    panel.stop.click(plainly(stop), panel.run_id, panel.outputs(), **FOLLOWING)
    panel.resume.click(plainly(resume), panel.run_id, runs.outputs(), **QUIETLY)


def _connect_keeping(runs: _Runs) -> None:
    """Take the run away as a file, or delete it."""
    panel, studio = runs.panel, runs.studio

    def take(run_id: str) -> str:
        return str(pack(studio.runs.get(run_id), Path(tempfile.gettempdir()) / "phi3-lora-studio"))

    def delete(run_id: str, is_sure: bool) -> Changes:
        if not is_sure:
            return {panel.run_id: run_id}
        studio.runs.delete(studio.runs.get(run_id))
        return runs.setup_shown()

    panel.take.click(plainly(take), panel.run_id, panel.parcel, **FOLLOWING).success(
        None, js="() => document.querySelector('#parcel').click()", show_progress="hidden")
    panel.delete.click(None, outputs=panel.sure, js=f"() => confirm({json.dumps(theme.DELETE_SURE)})",
                       show_progress="hidden").success(
        plainly(delete), [panel.run_id, panel.sure], runs.outputs(), **FOLLOWING).success(
        fn=None, inputs=panel.run_id, js=REMEMBER_IN_ADDRESS, show_progress="hidden")


def _file_of(source: str) -> str:
    """What the script reads: the example's file, or one of one's own."""
    is_ones_own = source in (theme.DESCRIBED, theme.OWN_DATA)
    return "conversations.jsonl" if is_ones_own else f"training/examples/{source}.jsonl"


def _asked(studio: Studio, settings: dict[str, Any]) -> RunConfig:
    """The form's settings; the base is the app's, whatever a request says."""
    return form.asked({**settings, "base": studio.facts.id}, studio.suited)
