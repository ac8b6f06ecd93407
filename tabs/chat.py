"""The Chat tab: the base or an adapter in each lane, all asked at once, each with its own conversation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import gradio as gr

from adapters.fetch import LONGEST_NAME
from chat import conversation
from chat.conversation import Talks
from chat.export import asking_of, strengths_of
from tabs import arrivals, asking, chat_panel, editor, find, publish, remembering, taking, teaching, theme, voting
from tabs.asking import Entrance
from tabs.chat_panel import ChatPanel
from tabs.events import AT_ONCE, Changes
from tabs.hub import reach_of
from tabs.plainly import plainly
from tabs.remembering import Presence, Remembered
from tabs.stopping import Stops
from tabs.studio import Studio
from tabs.visitor import visitor_of


def build(studio: Studio, page: gr.Blocks, entrance: Entrance, presence: Presence) -> None:
    """Draw the tab where this is called, and connect it."""
    library = visitor_of(studio, None).library
    panel = chat_panel.build(conversation.first_lanes(library), conversation.who_can_answer(library))
    edited = editor.build()
    with gr.Column(elem_classes="card"):
        lessons, tally = teaching.build(), voting.build()
        away, many = taking.build()
        find.build(studio, panel, entrance.keys, entrance.known)
        publish.build_for_any(studio, entrance.keys, entrance.known)
    stops = Stops()
    _connect_lanes(panel, studio, entrance.keys)
    _connect_looks(panel, presence, studio, entrance.keys)
    _connect_address(panel, studio, page, entrance, presence)
    asking.connect(asking.Asker(panel, edited, studio, stops, entrance))
    _connect_tools(panel, stops)
    remembering.connect(presence, panel, page)
    editor.connect(edited, panel)
    teaching.connect(lessons, edited, panel, entrance.runs, entrance.tabs)
    voting.connect(tally, panel, studio, entrance.keys)
    taking.connect_away(away, panel)
    taking.connect_many(many, panel, studio, stops, entrance.keys)

    def leave(request: gr.Request) -> None:
        stops.forget(request.session_hash)

    page.unload(leave)


def _connect_lanes(panel: ChatPanel, studio: Studio, keys: gr.BrowserState) -> None:
    """Add and remove lanes, and switch their adapters."""
    def add(talks: Talks, said: str, kept: Any, request: gr.Request, **picked: Any) -> Changes:
        library = visitor_of(studio, request, kept).library
        return panel.place(conversation.added(panel.now(talks, said, picked), library))

    def remove_at(place: int) -> Callable[..., Changes]:
        def remove(talks: Talks, said: str, **picked: Any) -> Changes:
            return panel.place(conversation.removed(panel.now(talks, said, picked), place))
        return remove

    def pick(talks: Talks, said: str, kept: Any, request: gr.Request, **picked: Any) -> Iterator[Changes]:
        # The conversations stay as they are: they may be streaming, and take the new adapter at the next message.
        now = panel.now(talks, said, picked)
        yield from arrivals.picked(panel, reach_of(studio, request, kept), now, keys)

    lanes = panel.picking()
    outputs = panel.outputs()
    panel.add.click(plainly(add), inputs_kwargs={**lanes, "kept": keys}, outputs=outputs, **AT_ONCE)
    for place, lane in enumerate(panel.lanes):
        lane.remove.click(plainly(remove_at(place)), inputs_kwargs=lanes, outputs=outputs, **AT_ONCE)
        lane.picker.input(plainly(pick), inputs_kwargs={**lanes, "kept": keys}, outputs=[*outputs, keys], **AT_ONCE)


def _connect_looks(panel: ChatPanel, presence: Presence, studio: Studio, keys: gr.BrowserState) -> None:
    """Offer new adapters without a reload, and notice that the server has forgotten this page."""
    def look(known: list[str], kept: Any, is_known: bool, was_known: str, opened: str, request: gr.Request) -> Changes:
        choices = conversation.who_can_answer(visitor_of(studio, request, kept).library)
        offered = {} if choices == known else panel.offer(choices)
        return {**presence.look(is_known, was_known, opened), **offered}

    # Through the queue, unlike other looks, and whether or not the one before was answered: where Gradio's page learns
    # late that a stream of answers has ended, what was asked meanwhile waits until another event opens the next stream.
    presence.looks.tick(plainly(look), [panel.known, keys, *presence.known()],
                        [*presence.noticed(), *panel.offered()], trigger_mode="multiple", **AT_ONCE)


def _connect_address(panel: ChatPanel, studio: Studio, page: gr.Blocks, entrance: Entrance,
                     presence: Presence) -> None:
    """`?adapter=NAME&adapter=OWNER/NAME` opens this tab with those lanes, their `strength`s, and how they are asked; a
    reload brings back what was said.
    """
    def open_lanes(kept: Any, remembered: str, request: gr.Request) -> Iterator[Changes]:
        before, opened = Remembered.of(remembered), {presence.opened: remembering.HEARD}
        if before.was_chatting or before.draft:
            chatting = {entrance.tabs: gr.Tabs(selected="chat")} if before.was_chatting else {}
            yield {**chatting, **({panel.message: before.draft} if before.draft else {})}
        if before.talks:
            blind = {panel.blind: True} if any(talk.is_unnamed for talk in before.talks) else {}
            yield {**opened, **panel.place(before.talks), **panel.asked_as(before.asking), **blind}
            return
        names = [name[:LONGEST_NAME] for name in request.query_params.getlist("adapter") if name.strip()]
        if not names:
            yield opened
            return
        talks = conversation.named(names)
        strengths = strengths_of(request.query_params.getlist("strength"), len(talks))
        talks = tuple(replace(talk, strength=one) for talk, one in zip(talks, strengths, strict=True))
        yield {**opened, entrance.tabs: gr.Tabs(selected="chat"), **panel.place(talks),
               **panel.asked_as(asking_of(dict(request.query_params)))}
        yield from arrivals.picked(panel, reach_of(studio, request, kept), talks, entrance.keys)

    changed = [*panel.outputs(), panel.blind, panel.system, *panel.sampling.values(), entrance.tabs, entrance.keys,
               presence.opened]
    gr.on([page.load, presence.unopened.change], plainly(open_lanes), [entrance.keys, panel.said], changed,
          js=remembering.REMEMBERED, trigger_mode="multiple", **AT_ONCE)


def _connect_tools(panel: ChatPanel, stops: Stops) -> None:
    """Stop, undo, clear."""
    def undo(talks: Talks, said: str, request: gr.Request, **picked: Any) -> Changes:
        now = panel.now(talks, said, picked)
        if not conversation.has_answers(now):
            raise ValueError(theme.NOTHING_TO_UNDO)
        stops.begin(request.session_hash)
        before, question = conversation.undone(now)
        return {panel.message: question, **panel.show(before)}

    def clear(talks: Talks, said: str, request: gr.Request, **picked: Any) -> Changes:
        stops.begin(request.session_hash)
        return panel.show(conversation.cleared(panel.now(talks, said, picked)))

    def stop(request: gr.Request) -> None:
        stops.ask(request.session_hash)

    lanes = panel.picking()
    panel.undo.click(plainly(undo), inputs_kwargs=lanes, outputs=[panel.message, *panel.shown()], **AT_ONCE)
    panel.clear.click(plainly(clear), inputs_kwargs=lanes, outputs=panel.shown(), **AT_ONCE)
    panel.stop.click(stop, **AT_ONCE)
