"""Lanes whose adapters are still on the Hub: these are fetched, or a sentence in the lane says why not."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import gradio as gr

from adapters.fetch import is_on_a_hub
from chat import conversation
from chat.conversation import Talks
from tabs import lane_view, theme
from tabs.chat_panel import ChatPanel
from tabs.events import Changes
from tabs.hub import Reach


def missing(reach: Reach, talks: Talks) -> list[int]:
    """The places of lanes whose adapter is on the Hub and not here."""
    return [place for place, talk in enumerate(talks) if is_on_a_hub(talk.adapter) and not reach.has(talk.adapter)]


def picked(panel: ChatPanel, reach: Reach, talks: Talks, keys: gr.BrowserState) -> Iterator[Changes]:
    """Fetch what lanes were just given. Only what stands above their newest turn changes: that one may be streaming."""
    places = missing(reach, talks)
    yield {panel.lanes[place].before: lane_view.said_before(talk, arriving=_fetching(talk.adapter) * (place in places))
           for place, talk in enumerate(talks)}
    for place in places:
        try:
            reach.bring(talks[place].adapter)
        except ValueError as problem:
            yield {panel.lanes[place].before: lane_view.said_before(talks[place], problem=str(problem))}
        else:
            yield {panel.lanes[place].before: lane_view.said_before(talks[place]), keys: reach.keys}


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
