"""The Train tab: Data → Train → Compare → Keep, for a new run or one that is followed or opened again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from adapters.fetch import Wish, is_on_a_hub
from tabs import (
    afar,
    code_view,
    compare,
    data,
    form,
    keeping,
    openings,
    plan_view,
    publish,
    run_panel,
    run_view,
    several,
    theme,
    turns,
    unfinished,
)
from tabs.events import QUIETLY, Changes, hidden_text
from tabs.lengths import Lengths
from tabs.openings import Openings, begin_runs
from tabs.plainly import plainly
from tabs.studio import Studio
from tabs.text import escaped
from tabs.visitor import Visitor, token_of, visitor_of
from training.advice import warnings_for
from training.config import RunConfig
from training.fitting import made_to_fit, one_change
from training.group import members_of
from training.plan import Plan, make_plan
from training.presets import USUAL_PRESET, preset_of, sides_of, steps_of
from training.quota import Visit
from training.report import check_trainable
from training.script import script_of
from training.speed import measured


@dataclass(frozen=True)
class TrainTab:
    """What the rest of the page needs of this tab: the button that leads on, the run that is shown, and what shows
    another one.
    """

    compare: gr.Button
    run_id: gr.State
    runs: Openings


@dataclass(frozen=True)
class _Setup:
    """The components of steps 1 and 2."""

    column: gr.Column
    data: data.DataStep
    preset: gr.Radio
    why: gr.HTML
    filled: gr.State       # what the form was filled with last, by setting: what differs from it was set by hand
    form: form.Form
    several: several.Several
    note: gr.HTML
    plan: gr.HTML
    fit: gr.Button
    start: gr.Button
    code: gr.HTML
    kept: unfinished.Unfinished


def build(studio: Studio, page: gr.Blocks, keys: gr.BrowserState, known: gr.State) -> TrainTab:
    """Draw the tab where this is called, and connect it."""
    setup = _setup(studio)
    panel = run_panel.build()
    beside = compare.build()
    kept_afar = afar.build(studio)
    with gr.Column(elem_classes="card past"):
        theme.markup(f"<h2>{theme.PAST_RUNS}</h2>")
        past = theme.markup(elem_id="past-runs")
        theme.markup(f'<p class="muted" id="kept-here">{kept_here(studio)}</p>')
    data.connect(setup.data, studio, setup.form, page)
    _connect_settings(setup, studio, page, keys)
    address = hidden_text(elem_id="address")
    runs = Openings(setup.column, panel, past, hidden_text(), hidden_text(), keys, address, studio)
    _connect_start(setup, runs)
    openings.connect(runs, page)
    compare.connect(beside, runs, page)
    keeping.connect(runs)
    publish.build_for_run(studio, panel, keys, known)
    afar.connect(kept_afar, runs, page)
    turns.connect(panel, studio, keys)
    return TrainTab(panel.compare, panel.run_id, runs)


def _setup(studio: Studio) -> _Setup:
    with gr.Column(elem_classes="setup") as column:
        theme.markup(run_view.steps_bar(0))
        with gr.Row(elem_classes="split"):
            with gr.Column(scale=7, min_width=320, elem_classes="card"):
                step = data.build(studio)
            with gr.Column(scale=5, min_width=320, elem_classes="card"):
                settings = _settings(studio)
    preset, _, _, fields, tries, *_ = settings
    return _Setup(column, step, *settings, unfinished.build(step, preset, fields, tries))


def _settings(studio: Studio) -> tuple[Any, ...]:
    """The components of step 2, in the order of `_Setup`'s fields."""
    theme.markup(f'<h2 class="step-title"><span aria-hidden="true">2</span>{theme.STEPS[1]}</h2>')
    usual = preset_of(USUAL_PRESET, form.task_of(studio, None))
    suited = {**studio.suited, **usual.values, "base": studio.facts.id}
    fields = form.drawn(["method"], suited)
    preset = gr.Radio([(label, name) for name, label in theme.PRESETS.items()], value=USUAL_PRESET,
                      label=theme.PRESET_LABEL, elem_id="preset")
    why = theme.markup(_in_grey(usual.why), elem_id="preset-why")
    with gr.Row(elem_classes="numbers-row"):
        fields |= form.drawn(form.group("main"), suited)
    tries = several.build(studio)
    note = theme.markup(elem_id="settings-note", js_on_load=run_panel.ANNOUNCED)
    plan = theme.markup(elem_id="plan")
    fit = gr.Button(theme.MAKE_IT_FIT, visible=False, elem_id="make-it-fit", elem_classes="fit")
    with gr.Row(elem_classes="start-row"):
        fields |= form.drawn(["name"], suited)
        start = gr.Button(theme.START, variant="primary", size="lg", elem_id="start", elem_classes="fit")
    with gr.Accordion(theme.MORE_TRAINING, open=False, elem_classes="fold"):
        fields |= form.drawn([*_offered(studio), "start_from", "base"], suited)
    with gr.Accordion(theme.MORE_LORA, open=False, elem_classes="fold"):
        fields |= form.drawn(form.group("lora"), suited)
    with gr.Accordion(theme.CODE, open=False, elem_classes="fold"):
        theme.markup(f'<p class="muted">{theme.CODE_LEAD}</p>')
        code = theme.markup(elem_id="code", js_on_load=code_view.COPY)
    return preset, why, gr.State(dict(usual.values)), fields, tries, note, plan, fit, start, code


def _offered(studio: Studio) -> list[str]:
    """The training settings that a visitor may change here."""
    return [name for name in form.group("training") if name != "report_to" or studio.limits.may_report]


def _connect_settings(setup: _Setup, studio: Studio, page: gr.Blocks, keys: gr.BrowserState) -> None:
    """The code and the note follow the form; a preset fills it."""
    def read(source: str, lengths: Lengths | None, filled: dict[str, Any], kept: Any, request: gr.Request,
             **settings: Any) -> Changes:
        try:
            tried = several.taken(settings)
            config = _going_on(visitor_of(studio, request, kept), _asked(studio, settings, filled))
            configs = [one.config for one in members_of(config, tried)] if tried else [config]
        except ValueError as problem:
            return {setup.note: f'<p class="problem">{escaped(str(problem))}</p>', setup.plan: "",
                    setup.start: theme.START, setup.fit: gr.update(visible=False)}
        def plan_of(one: RunConfig) -> Plan:
            return _plan_of(studio, one, lengths, source)

        task = form.task_of(studio, lengths)
        if lengths:
            studio.stand_by()
        plans = [plan_of(one) for one in configs] if all(steps_of(one, task) for one in configs) else []
        plan, shown = max(zip(plans, configs, strict=True), key=lambda one: one[0].peak) if plans else (None, config)
        may_fit = bool(plan and not plan.fits and not tried)
        change = one_change(config, plan_of) if may_fit else {}
        warnings = [said for one in configs for said in warnings_for(one, task)]
        return {setup.kept.by_hand: unfinished.by_hand(settings, {**studio.suited, **filled}),
                setup.note: plan_view.warned(list(dict.fromkeys(warnings))),
                setup.code: code_view.script(script_of(config, _file_of(source))),
                setup.plan: several.planned(plans) + plan_view.planned(plan, shown, change),
                setup.start: several.start_words(len(configs)),
                setup.fit: gr.update(visible=may_fit)}

    def make_it_fit(lengths: Lengths, filled: dict[str, Any], **settings: Any) -> Changes:
        config = _asked(studio, settings, filled)
        changes = made_to_fit(config, lambda changed: _plan_of(studio, changed, lengths))
        gr.Info(plan_view.changed(config, changes), duration=None)
        return {setup.form[name]: value for name, value in changes.items()}

    lengths = setup.data.lengths
    tries = setup.several.inputs()
    changes = [part.change for part in (setup.data.source, lengths, setup.filled, *setup.form.values(),
                                        *tries.values())]
    inputs = {**setup.form, "lengths": lengths, "filled": setup.filled}
    outputs = [setup.kept.by_hand, setup.note, setup.plan, setup.fit, setup.code, setup.start]
    gr.on([page.load, *changes], plainly(read), outputs=outputs, trigger_mode="always_last", **QUIETLY,
          inputs_kwargs={**inputs, **tries, "source": setup.data.source, "kept": keys})
    setup.fit.click(plainly(make_it_fit), outputs=list(setup.form.values()), inputs_kwargs=inputs, **QUIETLY)
    _connect_presets(setup, studio, unfinished.connect(setup.kept, page))


def _connect_presets(setup: _Setup, studio: Studio, brought_back: Any) -> None:
    """A preset that is chosen fills the form; other data, and one that a reload brought back, fills it anew, but for
    what was changed by hand.
    """
    def choose(preset: str, lengths: Lengths | None) -> Changes:
        found = preset_of(preset, form.task_of(studio, lengths))
        fields = {setup.form[name]: value for name, value in found.values.items()}
        return {**fields, setup.filled: dict(found.values), setup.why: _in_grey(found.why)}

    def follow(preset: str, lengths: Lengths | None, filled: dict[str, Any], **settings: Any) -> Changes:
        if not lengths:
            return {setup.why: _in_grey(preset_of(preset, form.task_of(studio, None)).why)}
        try:
            by_hand = form.changed_by_hand(settings, filled)
            found = preset_of(preset, form.task_of(studio, lengths), by_hand)
        except ValueError:  # half a number, maybe: the note says so, and nothing is touched meanwhile
            return {setup.why: gr.skip()}
        # What stays isn't sent: somebody may be typing.
        fields = {setup.form[name]: value for name, value in found.values.items() if settings.get(name) != value}
        return {**fields, setup.filled: {**filled, **found.values},
                setup.why: _in_grey(form.about_preset(found, by_hand))}

    lengths, outputs = setup.data.lengths, [*setup.form.values(), setup.filled, setup.why]
    setup.preset.input(plainly(choose), [setup.preset, lengths], outputs, **QUIETLY)
    inputs = {**setup.form, "preset": setup.preset, "lengths": lengths, "filled": setup.filled}
    for changed in (lengths.change, brought_back.success):
        changed(plainly(follow), outputs=outputs, inputs_kwargs=inputs, trigger_mode="always_last", **QUIETLY)


def _going_on(visitor: Visitor, config: RunConfig) -> RunConfig:
    """The settings as a run has them that goes on from an adapter of this visitor's; one that is still on the Hub is
    looked at when the run begins. ValueError where it can't be one.
    """
    if is_on_a_hub(config.start_from):
        Wish.of(config.start_from)
        return config
    return visitor.studio.runs.going_on(config, visitor.owners)[0]


def _in_grey(words: str) -> str:
    return f'<p class="muted">{escaped(words)}</p>'


def _plan_of(studio: Studio, config: RunConfig, lengths: Lengths, source: str = "") -> Plan:
    """The plan over rows as long as these, so many of them held out as the run will hold out."""
    questions = max(studio.questions_at_once, len(lengths)) if source == theme.DESCRIBED else 0
    return make_plan(config, studio.facts.config, *sides_of(form.task_of(studio, lengths), config), studio.machine,
                     measured(studio.home, studio.machine, config, studio.facts.config),
                     Visit(studio.turn_seconds, questions))


def _connect_start(setup: _Setup, runs: Openings) -> None:
    """Begin a run with what the form holds, or one for each value; where others are before it, it waits."""
    studio = runs.studio

    def start(keys: Any, request: gr.Request, **values: Any) -> Changes:
        parts = {name: values.pop(name) for name in setup.data.inputs()}
        preset, shown, filled = (values.pop(name) for name in ("preset", "lengths", "filled"))
        tried = several.taken(values)
        chosen, counted = data.counted_data(studio, **parts)
        lengths = Lengths.of(counted, chosen)
        if lengths != shown:  # Start was pressed before the page had read this data
            values = caught_up(studio, preset, lengths, values, filled)
        config = _asked(studio, values, filled)
        check_trainable(counted, config.max_length)
        visitor, token = visitor_of(studio, request, keys), token_of(studio, request)
        visitor, begun = begin_runs(visitor, config, tried, chosen, token)
        return runs.begun(visitor, begun[0])

    inputs = {**setup.data.inputs(), **setup.form, **setup.several.inputs(), "filled": setup.filled, "keys": runs.keys,
              "preset": setup.preset, "lengths": setup.data.lengths}
    setup.start.click(plainly(start), outputs=runs.outputs(), inputs_kwargs=inputs, **QUIETLY)


def caught_up(studio: Studio, preset: str, lengths: Lengths, settings: dict[str, Any],
              filled: dict[str, Any]) -> dict[str, Any]:
    """The form's settings as the page will fill them once it has read this data: but for what was changed by hand they
    follow from it.
    """
    by_hand = form.changed_by_hand(settings, filled)
    return {**settings, **preset_of(preset, form.task_of(studio, lengths), by_hand).values}


def kept_here(studio: Studio) -> str:
    """What is kept, where, and until when."""
    if studio.many_visitors:
        words = theme.KEPT_FOR_A_WHILE.format(days=studio.limits.days_kept)
        return f"{words} {theme.KEPT_BY_NAME}" if studio.signs_in else words
    return theme.KEPT_ON_THIS_MACHINE.format(home=escaped(str(studio.home)))


def _file_of(source: str) -> str:
    """What the script reads: the example's file, or one of one's own."""
    is_ones_own = source in (theme.DESCRIBED, theme.OWN_DATA)
    return "conversations.jsonl" if is_ones_own else f"training/examples/{source}.jsonl"


def _asked(studio: Studio, settings: dict[str, Any], filled: dict[str, Any]) -> RunConfig:
    """The form's settings, for an emptied field what it was filled with; the base is the app's, whatever is sent."""
    return form.asked({**settings, "base": studio.facts.id}, {**studio.suited, **filled})
