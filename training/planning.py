"""A run's plan: made over its rows as they were tokenised, and kept in its folder."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from phi3.machine import Machine
from phi3.models import BaseFacts
from training import speed
from training.config import RunConfig
from training.fitting import Planner
from training.plan import Plan, make_plan
from training.run import Run
from training.tokens import tokens_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FILE = "plan.json"


def planner(run: Run, facts: BaseFacts, tokenizer: PreTrainedTokenizerBase,
            machine: Machine) -> Planner:
    """What plans the run with these or other settings on this machine; ValueError where no row teaches anything."""
    every = [[len(row["input_ids"]) for row in rows] for rows in tokens_of(run, tokenizer)]
    if not every[0]:
        raise ValueError("No conversation has an answer within max_length, so there is nothing to train. Raise it.")

    def plan_of(config: RunConfig) -> Plan:
        train, held = ([min(length, config.max_length) for length in lengths] for lengths in every)
        return make_plan(config, facts.config, train, held, machine,
                         speed.measured(run.home, machine, config, facts.config))

    return plan_of


def kept(run: Run, plan: Plan) -> Plan:
    """The plan, which stands in the run's folder from now on."""
    (run.folder / FILE).write_text(json.dumps(plan.as_json(), indent=1) + "\n", encoding="utf-8")
    return plan


def is_alone(run: Run) -> bool:
    """Whether the newest plan of this run has the whole card for it."""
    try:
        return json.loads((run.folder / FILE).read_text(encoding="utf-8")).get("alone", False)
    except (OSError, ValueError):  # it has none yet, or is writing one
        return False
