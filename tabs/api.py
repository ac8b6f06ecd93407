"""What other programs may call: inspect and plan data; train, follow, stop and resume runs."""

from __future__ import annotations

import json
from typing import Any

import gradio as gr

from tabs import form, openings
from tabs.api_data import Asked
from tabs.lengths import lengths_in
from tabs.parameters import of_its_kind, spelled_out
from tabs.plainly import plainly
from tabs.studio import Studio
from tabs.visitor import Visitor, token_of, visitor_of
from training.advice import warnings_for
from training.config import converted
from training.data import lengths_of, make_report, split
from training.group import group_of, values_of
from training.plan import make_plan
from training.run import Run
from training.speed import measured

# Where a run's files lie and which process trains it is nobody's business.
NOT_TOLD = ("folder", "pid")
# What its trainer printed names files of this machine.
TOLD_TO_OWNERS = ("log",)
Settings = dict[str, Any]


def build(studio: Studio) -> None:
    """Add the endpoints to the page that is being built; `/lease` is tabs/turns.py's, where a GPU is lent."""
    calls = _Calls(studio)
    for name in ("inspect", "plan", "train", "run", "runs", "stop", "resume"):
        gr.api(plainly(of_its_kind(spelled_out(getattr(calls, name)))), api_name=name, concurrency_limit=None)


class _Calls:
    """The endpoints; their docstrings and types are what the API page shows."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio

    def inspect(self, data: Asked, max_length: int = 1024) -> dict:
        """What data holds, what of it can't be used and why.

        Parameters:
            max_length: Tokens of a conversation that a run would keep.
        """
        kept = converted({"max_length": max_length})["max_length"]
        return make_report(data.data(self.studio), self.studio.tokenizer.result(), kept).as_json()

    def plan(self, request: gr.Request, data: Asked, settings: dict | None = None, key: str = "") -> dict:
        """What a run on this data would do and need: its settings, warnings of those that are known to be bad, steps,
        memory in bytes by term, seconds by part.

        Parameters:
            settings: Those of the README's table; what they don't say follows from the data by a `preset` (quick,
                balanced, thorough, recipe), which they may name.
            key: As for /train.
        """
        visitor, chosen = self._visitor(request, key), data.data(self.studio)
        lengths = lengths_in(chosen, self.studio.tokenizer.result())
        config = form.suited_settings(self.studio, settings or {}, lengths)
        config = openings.foreseen(visitor, config, chosen, token_of(self.studio, request))
        train, held = (lengths_of(part, self.studio.tokenizer.result(), config.max_length)
                       for part in split(chosen, config.held_out, config.seed))
        speed = measured(self.studio.home, self.studio.machine, config, self.studio.facts.config)
        plan = make_plan(config, self.studio.facts.config, train, held, self.studio.machine, speed)
        return {**plan.as_json(), "settings": config.settings(),
                "warnings": warnings_for(config, form.task_of(self.studio, lengths))}

    def train(self, request: gr.Request, data: Asked, settings: dict | None = None, tries: dict | None = None,
              key: str = "") -> dict:
        """Begin a run, or queue it where another is being trained. Returns its id at once, with the `key` that shows
        that it is yours (empty on one's own machine) and how many runs come `before` it. Where a GPU is lent, call
        /lease with both until it says that the run doesn't go on.

        Parameters:
            settings: Those of the README's table, as for /plan.
            tries: Several values of a setting or two, such as {"r": [8, 16]}: a run for each combination, one after
                another. The answer then has the same of each of these `runs`, and the `group` that they are.
            key: Where many visitors come and settings say `start_from` an adapter of one's own: the key of its run.
        """
        visitor, chosen = self._visitor(request, key), data.data(self.studio)
        token = token_of(self.studio, request)
        lengths = lengths_in(chosen, self.studio.tokenizer.result())
        config = form.suited_settings(self.studio, settings or {}, lengths)
        tried = {name: values_of(name, _written(values)) for name, values in (tries or {}).items()}
        visitor, begun = openings.begin_runs(visitor, config, tried, chosen, token)
        openings.begin(self.studio, begun[0])
        told = [{**self._standing(run), "key": dict(visitor.keys).get(run.id, "")} for run in begun]
        group = group_of(begun[0])
        return {**told[0], "group": group.id, "runs": told} if group else told[0]

    def run(self, request: gr.Request, run: str, key: str = "") -> dict:
        """A run: its settings, its data in numbers, its state, and its events so far.

        Parameters:
            run: Its id, as /train and /runs say it.
            key: Its owner's, or the one of a link that the owner gave away; empty on one's own machine.
        """
        visitor = self._visitor(request, key)
        found = visitor.seen_run(run, key)
        untold = NOT_TOLD if visitor.owns(found) else (*NOT_TOLD, *TOLD_TO_OWNERS)
        standing = self._standing(found)
        events = [json.loads(event.to_json()) for event in found.course()]
        told = [{name: value for name, value in event.items() if name not in untold} for event in events]
        return {**standing, "settings": found.config.settings(), "about_data": found.about_data,
                "events": told}

    def runs(self, request: gr.Request, keys: list[str] | None = None) -> list[dict]:
        """The runs that these keys open, newest first; on one's own machine all runs.

        Parameters:
            keys: Those that /train gave; none on one's own machine.
        """
        return [found.summary() for found in visitor_of(self.studio, request, given=keys or []).runs()]

    def stop(self, request: gr.Request, run: str, key: str = "") -> dict:
        """Stop a run after its step; what was learned is kept, and it can be resumed. One that waits leaves the
        queue.

        Parameters:
            run: Its id, as /train and /runs say it.
            key: Its owner's; empty on one's own machine.
        """
        found = self._visitor(request, key).run(run)
        self.studio.runs.stop(found)
        return self._standing(found)

    def resume(self, request: gr.Request, run: str, key: str = "", num_train_epochs: float | None = None,
               max_steps: int | None = None) -> dict:
        """Go on with a run from its newest whole checkpoint, to its planned end or for longer.

        Parameters:
            run: Its id, as /train and /runs say it.
            key: Its owner's; empty on one's own machine.
            num_train_epochs: So many epochs in all instead of those that were planned.
            max_steps: So many steps in all instead.
        """
        visitor = self._visitor(request, key)
        found = visitor.run(run)
        openings.resume(visitor, found, num_train_epochs=num_train_epochs, max_steps=max_steps)
        openings.begin(self.studio, found)
        return self._standing(found)

    def _visitor(self, request: gr.Request, key: str) -> Visitor:
        return visitor_of(self.studio, request, given=[key])

    def _standing(self, run: Run) -> dict[str, Any]:
        return {**run.summary(), "before": self.studio.queue.before(run)}


def _written(values: Any) -> str:
    """Several values as somebody writes them, who may have done so."""
    return "; ".join(map(str, values)) if isinstance(values, list) else str(values)
