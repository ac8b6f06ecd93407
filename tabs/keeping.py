"""What becomes of a run: taken away as a file, shown to others, trained again on this machine, or deleted."""

from __future__ import annotations

import json
from typing import Any

import gradio as gr

from adapters.library import with_tail
from phi3.machine import this_machine
from phi3.models import EMBEDDED, base_facts
from tabs import run_panel, theme
from tabs.events import AT_ONCE, QUIETLY, Changes
from tabs.openings import Openings, begin_run
from tabs.plainly import plainly
from tabs.visitor import PARCELS, visitor_of
from training.config import RunConfig
from training.conversations import gathered
from training.data import ChatData
from training.lowest import adapter_of
from training.parcel import pack, parcel_of
from training.presets import recommended
from training.run import Run


def connect(runs: Openings) -> None:
    """Connect the buttons of the panel that say what becomes of the run."""
    _connect_taking(runs)
    _connect_sharing(runs)
    _connect_going_elsewhere(runs)
    _connect_going_back(runs)


def _connect_taking(runs: Openings) -> None:
    """Take the run away as a file, or delete it."""
    panel, studio = runs.panel, runs.studio

    def take(run_id: str, keys: Any, request: gr.Request) -> str:
        return str(pack(visitor_of(studio, request, keys).run(run_id), PARCELS))

    def delete(run_id: str, is_sure: bool, keys: Any, request: gr.Request) -> Changes:
        if not is_sure:
            return {panel.run_id: run_id}
        visitor = visitor_of(studio, request, keys)
        studio.runs.delete(visitor.run(run_id))
        parcel_of(run_id, PARCELS).unlink(missing_ok=True)
        return runs.none_shown(visitor)

    panel.take.click(plainly(take), [panel.run_id, runs.keys], panel.parcel, **AT_ONCE).success(
        None, js="() => document.querySelector('#parcel').click()", show_progress="hidden")
    # Who wasn't sure may be so a moment later, while the first answer is still on its way.
    panel.delete.click(None, outputs=panel.sure, js=f"() => confirm({json.dumps(theme.DELETE_SURE)})",
                       show_progress="hidden").success(
        plainly(delete), [panel.run_id, panel.sure, runs.keys], runs.outputs(), trigger_mode="multiple", **AT_ONCE)


def _connect_sharing(runs: Openings) -> None:
    """A link with which others look at the run, until its owner takes it back."""
    panel, studio = runs.panel, runs.studio

    def share(run_id: str, keys: Any, request: gr.Request) -> Changes:
        visitor = visitor_of(studio, request, keys)
        run = visitor.run(run_id)
        if run.shared_key():
            run.unshare()
        else:
            run.share()
        return panel.show(run, run_panel.Standing.of(studio, visitor, run))

    panel.share.click(plainly(share), [panel.run_id, runs.keys], panel.outputs(), **AT_ONCE)


def _connect_going_elsewhere(runs: Openings) -> None:
    """Where no GPU is lent: the same rows and settings on this machine's processor, with the embedded Phi-3."""
    panel, studio = runs.panel, runs.studio

    def train_here(run_id: str, keys: Any, request: gr.Request) -> Changes:
        visitor = visitor_of(studio, request, keys)
        config, rows = on_the_embedded(visitor.run(run_id))
        return runs.begun(*begin_run(visitor, config, rows))

    panel.elsewhere.click(plainly(train_here), [panel.run_id, runs.keys], runs.outputs(), **QUIETLY)


def _connect_going_back(runs: Openings) -> None:
    """Where a run overfits: its checkpoint of lowest held-out loss as an adapter of its own."""
    panel, studio = runs.panel, runs.studio

    def use_step(run_id: str, keys: Any, request: gr.Request) -> Changes:
        made = adapter_of(visitor_of(studio, request, keys).run(run_id))
        gr.Info(theme.STEP_USED.format(name=made.name))
        return {panel.better: gr.update(visible=False)}

    panel.better.click(plainly(use_step), [panel.run_id, runs.keys], [panel.better], **AT_ONCE)


def on_the_embedded(run: Run) -> tuple[RunConfig, ChatData]:
    """What a run was asked for, with the base that needs no card, and the rows that it has."""
    facts = base_facts(EMBEDDED)
    cpu = recommended(facts.config, this_machine().without_card())
    suited = {name: cpu[name] for name in ("learning_rate", "bf16", "gradient_checkpointing")}
    asked = {**run.config.settings(), **suited, "base": EMBEDDED, "start_from": "",
             "name": with_tail(run.config.name, "-tiny")}
    train, held = run.conversations()
    about = run.about_data
    rows = ChatData(about["name"], about["kind"], about["format"], gathered((*train, *held)), (),
                    own_held=tuple(range(len(train), len(train) + len(held))))
    return RunConfig.from_settings(asked), rows
