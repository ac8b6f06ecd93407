"""Where the GPU is lent: the page borrows it turn after turn, each in an event of its own, and shows one run."""

from __future__ import annotations

import dataclasses
from typing import Any

import gradio as gr
from gradio.components import Component

from tabs.events import anew
from tabs.parameters import of_its_kind, spelled_out
from tabs.plainly import plainly
from tabs.run_panel import RunPanel
from tabs.studio import Studio
from tabs.visitor import visitor_of
from training import lease
from training.run import Run

# Every visitor's turn holds a thread for as long as it lasts.
TURNS_AT_ONCE = 8
TAKING = {"concurrency_limit": TURNS_AT_ONCE, "concurrency_id": "turns"}


def connect(panel: RunPanel, studio: Studio, keys: gr.BrowserState) -> None:
    """Take a turn whenever `panel.turn` changes, and the next one after it for as long as the run gets on.

    The visitor's pass to the GPU lives for minutes, and the browser fetches a new one for every event: so the browser
    asks for each turn, and a run whose visitor has left waits for them.
    """
    if studio.lend is None:
        return

    def taken(run: Run) -> lease.Taken:
        return lease.take(run, studio.lend, studio.turn_seconds, studio.tokenizer.result())

    def take(run_id: str, turn: str, kept: Any, request: gr.Request) -> dict[Component, Any]:
        if not turn:
            return {panel.turn: ""}
        run = visitor_of(studio, request, kept).run(run_id)
        return {panel.turn: anew() if taken(run).goes_on else ""}

    def train_for_a_turn(request: gr.Request, run_id: str, key: str = "") -> dict:
        """Train a run for one turn of the GPU, from where it stopped. `goes_on`: the next turn may follow.

        Parameters:
            run_id: Its id, as /train and /runs say it.
            key: Its owner's.
        """
        run = visitor_of(studio, request, given=[key]).run(run_id)
        return dataclasses.asdict(taken(run))

    # The change comes while the turn before it is still ending.
    panel.turn.change(plainly(take), [panel.run_id, panel.turn, keys], panel.turn, trigger_mode="multiple",
                      show_progress="hidden", api_visibility="private", **TAKING)
    gr.api(plainly(of_its_kind(spelled_out(train_for_a_turn))), api_name="lease", **TAKING)
