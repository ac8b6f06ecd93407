"""A request's visitor: whose runs and adapters they see, and how much they may."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gradio as gr
from huggingface_hub import get_token

from adapters.library import Library
from tabs.studio import Studio
from training.corrections import Corrections
from training.limits import Limits
from training.owners import LOCAL, new_key, owner_by_key, owner_by_name, owners_by_keys
from training.run import BUSY, UNDERWAY, Run

# What the browser keeps: the key of each run that was begun or opened there, newest last.
Keys = dict[str, str]
MOST_KEYS = 200
# Beside those, under a name that no run's id can be: the key of the adapters that it fetched from the Hub.
FETCHED = "from the Hub"
# A page in a frame, as a Space's is, may be denied the browser's storage, and Gradio's state would fail on it: then the
# keys last as long as the page, and its address holds the one of the run that is shown.
WITHOUT_STORAGE = """<script>
try { window.localStorage; } catch {
  const kept = new Map();
  Object.defineProperty(window, 'localStorage', {value: {
    getItem: (name) => kept.get(name) ?? null,
    setItem: (name, value) => kept.set(name, value),
    removeItem: (name) => kept.delete(name)}});
}
</script>"""
PARCELS = Path(tempfile.gettempdir()) / "phi3-lora-studio"


@dataclass(frozen=True)
class Visitor:
    """Who asks. On one's own machine that is always its owner; where many come, whoever holds the keys, and whose name
    this is, if they are signed in.
    """

    studio: Studio
    owners: frozenset[str]
    keys: tuple[tuple[str, str], ...] = ()
    name: str = ""

    @property
    def limits(self) -> Limits:
        """How much they may."""
        return self.studio.limits

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
        """Their run that is being trained, or the newest one that waits for it."""
        busy = [run for run in self.runs() if run.state() in BUSY]
        return next((run for run in busy if run.state() in UNDERWAY), next(iter(busy), None))

    def new_owner(self) -> tuple[str, str]:
        """(owner, key) of a run that they begin now; without a key on one's own machine and for a name."""
        if not self.studio.many_visitors:
            return LOCAL, ""
        if self.name:
            return owner_by_name(self.name), ""
        key = new_key()
        return owner_by_key(key), key

    def fetching(self) -> tuple[Visitor, str]:
        """The same visitor, and the owner of what they fetch from the Hub. Who has no name gets a key for it, which
        their browser keeps like those of runs.
        """
        if not self.studio.many_visitors:
            return self, LOCAL
        if self.name:
            return self, owner_by_name(self.name)
        key = dict(self.keys).get(FETCHED) or new_key()
        owner, kept = owner_by_key(key), {**dict(self.keys), FETCHED: key}
        return replace(self, keys=tuple(kept.items())[-MOST_KEYS:], owners=self.owners | {owner}), owner

    def holding(self, run_id: str, key: str) -> Visitor:
        """The same visitor with one key more, where it is that run's own."""
        owner = owners_by_keys([key])
        try:
            self.studio.runs.get(run_id, owner)
        except ValueError:
            return self
        kept = {**dict(self.keys), run_id: key}
        return replace(self, keys=tuple(kept.items())[-MOST_KEYS:], owners=self.owners | owner)

    def claiming(self) -> Visitor:
        """The same visitor, to whose name every run belongs from now on that their keys open; without a name, none.

        The keys of those runs open nothing any more, and are held no longer.
        """
        if not self.name:
            return self
        name = owner_by_name(self.name)
        with self.studio.claims:
            claimed = [run for run in self.runs() if run.owner != name]
            for run in claimed:
                was = run.config.name
                run.give_to(name)
                self._rename_corrections(was, run.config.name)
        gone = {run.id for run in claimed}
        left = tuple((run_id, key) for run_id, key in self.keys if run_id not in gone)
        return replace(self, keys=left, owners=frozenset({name}) | owners_by_keys(dict(left).values()))

    def _rename_corrections(self, was: str, now: str) -> None:
        """What was corrected of an adapter that has another name now: its old one is another adapter's."""
        key = dict(self.keys).get(FETCHED)
        if key and now != was:
            home = self.studio.home
            Corrections(home, owner_by_name(self.name), now).take_over(Corrections(home, owner_by_key(key), was))


def visitor_of(studio: Studio, request: gr.Request | None, keys: Any = None, given: Iterable[str] = ()) -> Visitor:
    """Whoever is signed in, or sends these keys: what a browser kept of them, or a caller of the API has `given`."""
    if not studio.many_visitors:
        return Visitor(studio, frozenset({LOCAL}))
    kept, name = _kept(keys), signed_in_name(request)
    named = frozenset({owner_by_name(name)} if name else ())
    return Visitor(studio, named | owners_by_keys((*kept.values(), *given)), tuple(kept.items()), name)


def signed_in_name(request: gr.Request | None) -> str:
    """The name under which somebody is signed in with Hugging Face; empty for everybody else.

    The cookie of Gradio's session comes with every request, whoever's page sends it, and Gradio answers them all: so it
    counts only where the browser says that it was this page.
    """
    signed_in = _sign_in(request)
    return signed_in["userinfo"]["preferred_username"] if signed_in else ""


def token_of(studio: Studio, request: gr.Request | None) -> str:
    """The token with which the Hub may be asked for whoever sends this request; empty where there is none.

    On a Space it is the visitor's own, and counts where their name does. On one's own machine it is what lies there,
    but for no page elsewhere. It belongs to this request: nobody keeps, prints or writes it.
    """
    if studio.many_visitors or studio.signs_in:
        signed_in = _sign_in(request)
        return signed_in["access_token"] if signed_in else ""
    is_elsewhere = request is not None and request.headers.get("sec-fetch-site") in ("cross-site", "same-site")
    return "" if is_elsewhere else get_token() or ""


def _sign_in(request: gr.Request | None) -> Any:
    """What Gradio's session says of a sign-in that counts for this request and hasn't ended; None for others."""
    if request is None or request.headers.get("sec-fetch-site") != "same-origin":
        return None
    signed_in = request.request.scope.get("session", {}).get("oauth_info")
    return signed_in if signed_in and signed_in["expires_at"] >= time.time() else None


def keys_state(studio: Studio) -> gr.BrowserState:
    """The part of the page that holds the keys, from visit to visit."""
    return gr.BrowserState(storage_key="phi3-lora-studio-keys", secret=studio.browser_secret())


def _kept(keys: Any) -> Keys:
    """What a browser sends is whatever somebody wrote there."""
    if not isinstance(keys, dict):
        return {}
    return {run: key for run, key in list(keys.items())[-MOST_KEYS:] if isinstance(run, str) and isinstance(key, str)}
