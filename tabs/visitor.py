"""A request's visitor: whose runs and adapters they see, and how much they may."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from adapters.library import Library
from tabs.studio import Studio
from training.limits import ONES_OWN, SHARED, Limits
from training.owners import LOCAL, new_key, owner_by_key, owners_by_keys
from training.run import Run

# What the browser keeps: the key of each run that was begun or opened there, newest last.
Keys = dict[str, str]
MOST_KEYS = 200
PARCELS = Path(tempfile.gettempdir()) / "phi3-lora-studio"


@dataclass(frozen=True)
class Visitor:
    """Who asks. On one's own machine that is always its owner; where many come, whoever holds the keys."""

    studio: Studio
    owners: frozenset[str]
    limits: Limits
    keys: tuple[tuple[str, str], ...] = ()

    @property
    def library(self) -> Library:
        """The adapters that this visitor sees."""
        return self.studio.library.of(self.owners)

    def runs(self) -> list[Run]:
        """Their runs, newest first."""
        return self.studio.runs.of(self.owners)

    def run(self, run_id: str) -> Run:
        """One of their runs; ValueError where it is none of theirs."""
        return self.studio.runs.get(run_id, self.owners)

    def seen_run(self, run_id: str, look: str) -> Run:
        """One of their runs, or one that `look` opens for looking; ValueError for others."""
        return self.studio.runs.readable(run_id, self.owners, look)

    def owns(self, run: Run) -> bool:
        """Whether they may do more than look at it."""
        return run.owner in self.owners

    def going(self) -> Run | None:
        """Their run that is being trained or waits for it."""
        return next((run for run in self.runs() if run.state() in ("queued", "preparing", "running")), None)

    def with_key(self, run_id: str, key: str) -> Keys:
        """What the browser keeps from now on."""
        kept = {**dict(self.keys), **({run_id: key} if key else {})}
        return dict(list(kept.items())[-MOST_KEYS:])


def visitor_of(studio: Studio, keys: Any = None, given: Iterable[str] = ()) -> Visitor:
    """Whoever sends these keys: what a browser kept of them, or those that a caller of the API `given`."""
    if not studio.many_visitors:
        return Visitor(studio, frozenset({LOCAL}), ONES_OWN)
    kept = _kept(keys)
    return Visitor(studio, owners_by_keys((*kept.values(), *given)), SHARED, tuple(kept.items()))


def new_owner(studio: Studio) -> tuple[str, str]:
    """(owner, key) of a run that begins now; without a key on one's own machine."""
    if not studio.many_visitors:
        return LOCAL, ""
    key = new_key()
    return owner_by_key(key), key


def keys_state(studio: Studio) -> gr.BrowserState:
    """The part of the page that holds the keys, from visit to visit."""
    return gr.BrowserState(storage_key="phi3-lora-studio-keys", secret=studio.browser_secret())


def _kept(keys: Any) -> Keys:
    """What a browser sends is whatever somebody wrote there."""
    if not isinstance(keys, dict):
        return {}
    return {run: key for run, key in list(keys.items())[-MOST_KEYS:] if isinstance(run, str) and isinstance(key, str)}
