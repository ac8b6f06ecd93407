"""One card for the page's answers and its runs: who needs all of it gets it, and its trainer is told what is kept."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from phi3.machine import Machine
from phi3.models import BaseFacts, base_facts
from training import lease
from training.planning import is_alone, kept, planner
from training.run import UNDERWAY, Run
from training.runs import Runs

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# In a trainer's environment: the gibibytes of the card that its page keeps for answers.
KEPT_FOR_ANSWERS = "STUDIO_KEPT_FOR_ANSWERS"


def wanted_for_answers() -> float:
    """Gibibytes of the card that the page which started this trainer keeps for answers; 0 where no page did."""
    return float(os.environ.get(KEPT_FOR_ANSWERS) or 0)


def has_the_card(runs: Runs) -> bool:
    """Whether a run is being trained that needs the whole card."""
    return any(run.state() in UNDERWAY and is_alone(run) for run in runs.all())


class Sharing:
    """Starts the trainers of a page whose answers have `machine.card_taken` of the card."""

    def __init__(self, machine: Machine, tokenizer_of: Callable[[BaseFacts], PreTrainedTokenizerBase],
                 make_room: Callable[[], object], start: Callable[..., object] = lease.start) -> None:
        """`make_room` lets what answers hold of the card go; they ask `has_the_card` before they take it again."""
        self._machine, self._tokenizer_of, self._make_room, self._start = machine, tokenizer_of, make_room, start

    def start(self, run: Run) -> threading.Thread:
        """Start the run's trainer, in a thread: its rows may have to become tokens before it can be planned."""
        thread = threading.Thread(target=self._begin, args=(run,), name="sharing", daemon=True)
        thread.start()
        return thread

    def _begin(self, run: Run) -> None:
        try:
            if self._needs_the_card(run):
                self._make_room()
            self._start(run, {**os.environ, KEPT_FOR_ANSWERS: str(self._machine.card_taken)})
        except Exception as problem:  # noqa: BLE001 - whatever it was, it is this run's
            lease.could_not_begin(run, problem)

    def _needs_the_card(self, run: Run) -> bool:
        """By its plan, which is kept; a run that can't be planned is the trainer's to refuse."""
        try:
            facts = base_facts(run.config.base)
            plan_of = planner(run, facts, self._tokenizer_of(facts), self._machine)
        except ValueError:
            return False
        return kept(run, plan_of(run.config)).alone
