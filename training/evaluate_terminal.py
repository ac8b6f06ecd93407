"""`python -m training evaluate`: an adapter's answers beside those of what it began from, and what they come to."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters.check import CONVERTED, ready_folder
from adapters.fit import is_same_base
from adapters.library import Adapter, Library, adapter_in
from phi3.lane import Answer, Lane
from phi3.machine import studio_home, this_machine
from phi3.models import chosen_base
from training.conversations import Conversation, gathered
from training.corrections import old_rows
from training.data_terminal import add_data_options, conversations_of
from training.evaluate import (
    AGAINST,
    LONGEST_ANSWER,
    Question,
    answered,
    cut,
    evaluation_of,
    in_words,
    losses_up_to,
    questions,
)
from training.run import ADAPTER, START, Run
from training.runs import Runs
from training.verdict import Losses

if TYPE_CHECKING:
    from phi3.models import Base

LONGEST_SHOWN = 200
_WHY_LEFT_OUT = "the adapter was trained on them, or on other answers to their questions."


@dataclass(frozen=True)
class Judged:
    """The adapter that is asked for, and the run that made it where it is still here."""

    adapter: Adapter
    run: Run | None = None


def add_command(commands: Any) -> None:
    """`evaluate` among the other commands."""
    one = commands.add_parser("evaluate", help="an adapter against what it began from, on conversations that it never "
                                               "saw")
    one.add_argument("what", metavar="RUN|ADAPTER", help="a run's id, an adapter's name, or its folder")
    one.add_argument("--data", help="the conversations (default: those that the run held out)")
    add_data_options(one)
    one.add_argument("--against", choices=AGAINST, help="what it is measured against (default: before, the adapter "
                                                        "that its run began from; where there was none, the base)")
    one.add_argument("--limit", type=int, default=100, metavar="N", help="ask so many at most (default 100)")
    one.add_argument("--json", action="store_true", help="print one object")
    one.set_defaults(do=_evaluate)


def _evaluate(asked: argparse.Namespace) -> int:
    from phi3.models import base_facts

    if asked.limit < 1:
        raise ValueError(f"limit is {asked.limit}, and must be 1 or more.")
    judged = _judged(asked.what)
    learned = _learned(judged)
    given = conversations_of(asked) if asked.data else _held_out(judged)
    rows = _unseen(given, learned) if asked.data else given
    left_out = len(given) - len(rows)
    found = questions(rows, asked.limit)
    if not found:
        raise ValueError(f"No conversation is left to ask: {_WHY_LEFT_OUT} Give others.")
    facts, began = base_facts(_base_of(judged.adapter)), _began(judged, asked)
    from phi3.generate import Answerer
    from phi3.room import base_for_answers

    kept, base = studio_home() / CONVERTED, base_for_answers(facts.id)
    fitting = _fitting(found, base)
    found, too_long = [cut(one, base.tokenizer, LONGEST_ANSWER) for one in fitting], len(found) - len(fitting)
    answerer = Answerer(base, lambda folder: ready_folder(folder, facts, kept))
    before, adapter = zip(*answered(answerer, found, judged.adapter.folder, began), strict=True)
    evaluation = evaluation_of(found, before, adapter, _losses_behind(judged), continued=began is not None,
                               unseen=bool(learned))
    if asked.json:
        print(json.dumps({"adapter": judged.adapter.name, "base": facts.id, "asked": len(found), "left_out": left_out,
                          "too_long": too_long, **evaluation.as_json()}, ensure_ascii=False))
        return 0
    if left_out:
        print(f"{left_out:,} conversations are left out: {_WHY_LEFT_OUT}\n")
    if too_long:
        print(f"{too_long:,} conversations are left out: they are longer than the base reads.\n")
    print("\n".join(in_words(evaluation, _shown)))
    return 0


def _judged(what: str) -> Judged:
    """What was named: a run first, then an adapter of the library, then a folder; ValueError where there is none."""
    runs, library = Runs(studio_home()), Library(studio_home())
    run = next((one for one in runs.all() if one.id == what), None)
    if run is not None:
        folder = run.folder / ADAPTER
        if not folder.is_dir():
            raise ValueError(f"{what} has made no adapter yet: it is {run.state()}. Resume it first.")
        return Judged(adapter_in(folder), run)
    adapter = adapter_in(Path(what)) if Path(what).is_dir() and not library.has(what) else library.get(what)
    made_by = adapter.provenance.get("run")
    return Judged(adapter, next((one for one in runs.all() if one.id == made_by), None))


def _base_of(adapter: Adapter) -> str:
    """The base that it was made for: this machine's, where that is the same under another name, or none is named."""
    here = chosen_base(this_machine().kind != "cpu")
    return here if not adapter.base or is_same_base(adapter.base, here) else adapter.base


def _began(judged: Judged, asked: argparse.Namespace) -> Path | None:
    """The adapter that it is measured against; None for the base. ValueError where there is none to be asked for."""
    started = judged.run is not None and judged.run.config.continues
    if asked.against == "before" and not started:
        raise ValueError(f"{asked.what} began from the base, as far as is known here. Leave --against out.")
    return judged.run.folder / START if started and asked.against != "base" else None


def _losses_behind(judged: Judged) -> Losses:
    """Those of its run up to the step that the adapter is of, as its provenance says, or the run's last word on it."""
    if judged.run is None:
        return Losses()
    ended = (one.values for one in reversed(judged.run.course()) if one.type in ("finished", "stopped"))
    outcome = judged.adapter.provenance.get("outcome") or next(ended, {})
    return losses_up_to(judged.run, outcome.get("went_back_to", outcome.get("steps")))


def _held_out(judged: Judged) -> Sequence[Conversation]:
    held = judged.run.conversations()[1] if judged.run else []
    if not held:
        raise ValueError(f"No conversation was held out for {judged.adapter.name} here. Give --data FILE.")
    return held


def _learned(judged: Judged) -> Sequence[Conversation]:
    """What the adapter was trained on; empty where that isn't here, as of one that was fetched."""
    return judged.run.conversations()[0] if judged.run else old_rows(judged.adapter, Runs(studio_home())).learned


def _unseen(rows: Sequence[Conversation], learned: Sequence[Conversation]) -> list[Conversation]:
    """The rows without those that would be held out together with what the adapter was trained on: the same, the same
    question, or one the other's beginning.
    """
    theirs, ours = gathered(learned), gathered(rows)
    begins, owners = (one.tolist() for one in ours.begins())
    wholes = set(theirs.keys("digest").tolist())
    trained = wholes.union(theirs.keys("asked").tolist(), theirs.begins()[0].tolist())
    longer = {owner for begin, owner in zip(begins, owners, strict=True) if begin in wholes}
    keys = zip(ours.keys("digest").tolist(), ours.keys("asked").tolist(), strict=True)
    seen = [place in longer or not trained.isdisjoint(own) for place, own in enumerate(keys)]
    return [one for one, known in zip(rows, seen, strict=True) if not known]


def _fitting(asked: Sequence[Question], base: Base) -> list[Question]:
    """Those that the base can read; ValueError where there is none."""
    from phi3.row import row_of

    fitting = [one for one in asked if not isinstance(row_of(base, Lane(one.messages)), Answer)]
    if not fitting:
        raise ValueError(f"All of these conversations are longer than the {base.facts.context:,} tokens that the base "
                         "reads. Give shorter ones.")
    return fitting


def _shown(text: str) -> str:
    """On one line, and not too long for it."""
    line = " ".join(text.split())
    return line if len(line) <= LONGEST_SHOWN else f"{line[:LONGEST_SHOWN]} …"
