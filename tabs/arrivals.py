"""Lanes whose adapters are still on the Hub: these are fetched, or a sentence in the lane says why not."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import gradio as gr

from adapters.check import about
from adapters.fetch import here, is_on_a_hub
from chat import conversation
from chat.conversation import BASE, Talk, Talks
from tabs import lane_view, theme
from tabs.chat_panel import ChatPanel
from tabs.events import Changes
from tabs.hub import Reach


def missing(reach: Reach, talks: Talks) -> list[int]:
    """The places of lanes whose adapter is on the Hub and not here."""
    return [place for place, talk in enumerate(talks) if is_on_a_hub(talk.adapter) and not reach.has(talk.adapter)]


def picked(panel: ChatPanel, reach: Reach, talks: Talks, keys: gr.BrowserState) -> Iterator[Changes]:
    """Fetch what lanes were just given, and say what should be known of it. Only what stands above their newest turn
    changes: that one may be streaming.
    """
    places = missing(reach, talks)
    yield {panel.lanes[place].before: lane_view.said_before(talk, note=_fetching(talk.adapter)) if place in places
           else _looked_at(reach, talk) for place, talk in enumerate(talks)}
    for place in places:
        try:
            reach.bring(talks[place].adapter)
        except ValueError as problem:
            yield {panel.lanes[place].before: lane_view.said_before(talks[place], problem=str(problem))}
        else:
            yield {panel.lanes[place].before: _looked_at(reach, talks[place]), keys: reach.keys}


def _looked_at(reach: Reach, talk: Talk) -> str:
    """What was said in a lane whose adapter is here; where that wasn't trained on this base, that as well."""
    if talk.adapter == BASE:
        return lane_view.said_before(talk)
    visitor = reach.visitor
    try:
        notes = about(here(talk.adapter, visitor.library).folder, visitor.studio.facts)
    except ValueError as problem:
        return lane_view.said_before(talk, problem=str(problem))
    return lane_view.said_before(talk, note=" ".join(notes))


def asked(panel: ChatPanel, reach: Reach, talks: Talks, keys: gr.BrowserState,
          is_wanted: Callable[[Talks], bool]) -> Iterator[Changes]:
    """Fetch what lanes need that were just asked; who can't have it gets the reason as its answer. `is_wanted` takes
    the lanes as they are then.
    """
    places = missing(reach, talks)
    if not places:
        return
    yield panel.stream(talks, _fetching(", ".join(talks[place].adapter for place in places)))
    for place in places:
        try:
            reach.bring(talks[place].adapter)
        except ValueError as problem:
            talks = conversation.without_answer(talks, place, str(problem))
    if is_wanted(talks):
        yield {**panel.stream(talks), keys: reach.keys}


def _fetching(names: str) -> str:
    return theme.FETCHING.format(name=names)
