"""The Chat tab: the base or an adapter in each lane, all asked at once, each with its own conversation."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr
from gradio.components import Component

from adapters.library import Library
from chat import conversation
from chat.conversation import BASE, Asking, Talk, Talks
from chat.export import asking_of, strengths_of
from tabs import arrivals, chat_panel, editor, find, publish, taking, teaching, theme, voting
from tabs.chat_panel import ChatPanel
from tabs.editor import Edited, Editor
from tabs.hub import LONGEST_NAME, reach_of
from tabs.openings import Openings
from tabs.plainly import plainly
from tabs.progress import progress_of
from tabs.stopping import Stops
from tabs.studio import Studio
from tabs.visitor import visitor_of
from training.run import Run

Changes = dict[Component, Any]
QUIETLY = {"show_progress": "hidden", "api_visibility": "private"}
AT_ONCE = {**QUIETLY, "concurrency_limit": None}
# Those who come together share batches; whoever waits beyond that waits in Gradio's queue, which holds no thread.
ANSWERING = {**QUIETLY, "concurrency_limit": 8, "concurrency_id": "answers"}
SECONDS_BETWEEN_LOOKS = 3
TO_THE_TOP = "(run, keys) => { window.scrollTo(0, 0); return [run, keys]; }"


@dataclass(frozen=True)
class Entrance:
    """How the Train tab leads here, and this one there: the click on `compare` turns `tabs` to this one, with the run
    `run_id`; `runs` shows a run that was begun here. `keys` is what the browser keeps, `known` who the visitor is on
    the Hub.
    """

    compare: gr.Button
    run_id: gr.State
    runs: Openings
    tabs: gr.Tabs
    keys: gr.BrowserState
    known: gr.State


def build(studio: Studio, page: gr.Blocks, entrance: Entrance) -> None:
    """Draw the tab where this is called, and connect it."""
    library = visitor_of(studio, None).library
    panel = chat_panel.build(conversation.first_lanes(library), _choices(library))
    edited = editor.build()
    with gr.Column(elem_classes="card"):
        lessons, tally = teaching.build(), voting.build()
        away, many = taking.build()
        find.build(studio, panel, entrance.keys, entrance.known)
        publish.build_for_any(studio, entrance.keys, entrance.known)
    stops = Stops()
    _connect_lanes(panel, studio, entrance.keys)
    _connect_address(panel, studio, page, entrance)
    _connect_answers(panel, edited, studio, stops, entrance)
    _connect_tools(panel, stops)
    editor.connect(edited, panel)
    teaching.connect(lessons, edited, panel, entrance.runs, entrance.tabs)
    voting.connect(tally, panel, studio, entrance.keys)
    taking.connect_away(away, panel)
    taking.connect_many(many, panel, studio, stops, entrance.keys)

    def leave(request: gr.Request) -> None:
        stops.forget(request.session_hash)

    page.unload(leave)


def _connect_lanes(panel: ChatPanel, studio: Studio, keys: gr.BrowserState) -> None:
    """Add and remove lanes, switch their adapters, and offer new adapters without a reload."""
    def add(talks: Talks, kept: Any, request: gr.Request, **picked: Any) -> Changes:
        library = visitor_of(studio, request, kept).library
        return panel.place(conversation.added(conversation.picked(talks, picked), library))

    def remove_at(place: int) -> Callable[..., Changes]:
        return lambda talks, **picked: panel.place(conversation.removed(conversation.picked(talks, picked), place))

    def pick(talks: Talks, kept: Any, request: gr.Request, **picked: Any) -> Iterator[Changes]:
        # The conversations stay as they are: they may be streaming, and take the new adapter at the next message.
        yield from arrivals.picked(panel, reach_of(studio, request, kept), conversation.picked(talks, picked), keys)

    def look(known: list[str], kept: Any, request: gr.Request) -> Changes:
        choices = _choices(visitor_of(studio, request, kept).library)
        return {panel.known: choices, **({} if choices == known else panel.offer(choices))}

    now = {"talks": panel.talks, **panel.pickers()}
    outputs = panel.outputs()
    panel.add.click(plainly(add), inputs_kwargs={**now, "kept": keys}, outputs=outputs, **AT_ONCE)
    for place, lane in enumerate(panel.lanes):
        lane.remove.click(plainly(remove_at(place)), inputs_kwargs=now, outputs=outputs, **AT_ONCE)
        lane.picker.input(plainly(pick), inputs_kwargs={**now, "kept": keys}, outputs=[*outputs, keys], **AT_ONCE)
    gr.Timer(SECONDS_BETWEEN_LOOKS).tick(plainly(look), [panel.known, keys], outputs, **AT_ONCE)


def _connect_address(panel: ChatPanel, studio: Studio, page: gr.Blocks, entrance: Entrance) -> None:
    """`?adapter=NAME&adapter=OWNER/NAME` opens this tab with those lanes, their `strength`s, and how they are asked."""
    def open_lanes(kept: Any, request: gr.Request) -> Iterator[Changes]:
        names = [name[:LONGEST_NAME] for name in request.query_params.getlist("adapter") if name.strip()]
        if not names:
            yield {panel.announced: ""}
            return
        talks = conversation.named(names)
        strengths = strengths_of(request.query_params.getlist("strength"), len(talks))
        talks = tuple(replace(talk, strength=one) for talk, one in zip(talks, strengths, strict=True))
        yield {entrance.tabs: gr.Tabs(selected="chat"), **panel.place(talks),
               **panel.asked_as(asking_of(dict(request.query_params)))}
        yield from arrivals.picked(panel, reach_of(studio, request, kept), talks, entrance.keys)

    changed = [*panel.outputs(), panel.system, *panel.sampling.values(), entrance.tabs, entrance.keys]
    page.load(plainly(open_lanes), entrance.keys, changed, **AT_ONCE)


def _connect_answers(panel: ChatPanel, edited: Editor, studio: Studio, stops: Stops, entrance: Entrance) -> None:
    """Several ways to ask, one way to answer: first the question shows, then every lane streams its answer."""
    def ask(message: str | None, talks: Talks, blind: bool, kept: Any, request: gr.Request,
            **picked: Any) -> Iterator[Changes]:
        if not message or not message.strip():
            raise ValueError(theme.NOTHING_TO_SEND)
        now = conversation.picked(talks, picked)
        if blind and len(now) < 2:
            raise ValueError(theme.NOT_ENOUGH_LANES)
        now = conversation.unnamed(now, secrets.randbits(32)) if blind else conversation.named_again(now)
        asked = conversation.with_question(now, message.strip())
        yield {panel.message: "", **panel.place(asked), **_begun(panel, stops, request, asked)}
        yield from fetched(asked, kept, request)

    def again(place: int | None) -> Callable[..., Iterator[Changes]]:
        def retry(talks: Talks, kept: Any, request: gr.Request, **picked: Any) -> Iterator[Changes]:
            if not conversation.has_answers(talks):
                raise ValueError(theme.NOTHING_TO_RETRY)
            asked = conversation.asked_again(conversation.picked(talks, picked), place)
            yield _begun(panel, stops, request, asked)
            yield from fetched(asked, kept, request)
        return retry

    def resend(text: str, what: Edited | None, talks: Talks, kept: Any, request: gr.Request,
               **picked: Any) -> Iterator[Changes]:
        if what is None or not text.strip():
            raise ValueError(theme.NOTHING_TO_SEND)
        asked = conversation.edited(conversation.picked(talks, picked), what.sent, text.strip())
        yield {**edited.closed(), **_begun(panel, stops, request, asked)}
        yield from fetched(asked, kept, request)

    def fetched(asked: Talks, kept: Any, request: gr.Request) -> Iterator[Changes]:
        stop = stops.of(request.session_hash)
        return arrivals.asked(panel, reach_of(studio, request, kept), asked, entrance.keys,
                              lambda: stops.of(request.session_hash) is stop)

    def side_by_side(run_id: str, kept: Any, request: gr.Request) -> Changes:
        run = visitor_of(studio, request, kept).run(run_id)
        ending = run.events()[-1].values
        if not ending.get("adapter"):
            raise ValueError(theme.NOTHING_TO_COMPARE)
        # One that was trained further stands beside what it began from.
        before, library = run.config.start_from, visitor_of(studio, request, kept).library
        pair = (Talk(before if before and library.has(before) else BASE), Talk(ending["adapter"]))
        question = ending["example"]
        # Where the GPU is lent, asking once more would cost the visitor some of it.
        is_told = studio.lend is not None
        asked = conversation.told(pair, question, _said_of(run, question)) if is_told \
            else conversation.with_question(pair, question)
        return {entrance.tabs: gr.Tabs(selected="chat"), **panel.place(asked), **_begun(panel, stops, request, asked)}

    now = {"talks": panel.talks, "kept": entrance.keys, **panel.pickers()}
    outputs = [*panel.outputs(), entrance.tabs, entrance.keys]
    with_message = {"message": panel.message, "blind": panel.blind, **now}
    with_text = {"text": edited.text, "what": edited.what, **now}
    _answer_after(panel, studio, stops, entrance.keys, [
        gr.on([panel.message.submit, panel.send.click], plainly(ask), inputs_kwargs=with_message, outputs=outputs,
              **AT_ONCE),
        panel.retry.click(plainly(again(None)), inputs_kwargs=now, outputs=outputs, **AT_ONCE),
        *(lane.newest.retry(plainly(again(place)), inputs_kwargs=now, outputs=outputs, **AT_ONCE)
          for place, lane in enumerate(panel.lanes)),
        edited.send.click(plainly(resend), inputs_kwargs=with_text, outputs=[*outputs, *edited.outputs()], **AT_ONCE),
        entrance.compare.click(plainly(side_by_side), [entrance.run_id, entrance.keys], outputs, js=TO_THE_TOP,
                               **AT_ONCE),
        *(button.click(plainly(ask), inputs_kwargs={**with_message, "message": button}, outputs=outputs, **AT_ONCE)
          for button in panel.suggested),
    ])


def _answer_after(panel: ChatPanel, studio: Studio, stops: Stops, keys: gr.BrowserState, asked: list[Any]) -> None:
    def answer(talks: Talks, system: str | None, kept: Any, request: gr.Request,
               **sampling: float | None) -> Iterator[Changes]:
        # A generator that yields nothing would empty every output.
        yield panel.stream(talks, "" if studio.answerer.done() else theme.LOADING_BASE)
        asking, stop = Asking(system or "", conversation.sampling_of(sampling)), stops.of(request.session_hash)
        library = visitor_of(studio, request, kept).library
        for snapshot in conversation.answered(talks, studio.answerer.result(), library, asking, stop.is_set):
            if stops.of(request.session_hash) is not stop:
                return  # undone, cleared or asked anew meanwhile: these answers are nobody's any more
            yield panel.stream(snapshot)

    def rest(talks: Talks, **picked: Any) -> Changes:
        return panel.show(conversation.given_up(conversation.picked(talks, picked)))

    now = {"talks": panel.talks, **panel.pickers()}
    inputs = {"talks": panel.talks, "system": panel.system, "kept": keys, **panel.sampling}
    for event in asked:
        answered = event.success(plainly(answer), inputs_kwargs=inputs, outputs=panel.outputs(), **ANSWERING)
        # `then` would do, but in Gradio 6.31 it is only called after a success.
        for ended in (answered.success, answered.failure):
            ended(plainly(rest), inputs_kwargs=now, outputs=panel.outputs(), **AT_ONCE)


def _connect_tools(panel: ChatPanel, stops: Stops) -> None:
    """Stop, undo, clear."""
    def undo(talks: Talks, request: gr.Request, **picked: Any) -> Changes:
        if not conversation.has_answers(talks):
            raise ValueError(theme.NOTHING_TO_UNDO)
        stops.begin(request.session_hash)
        before, question = conversation.undone(conversation.picked(talks, picked))
        return {panel.message: question, **panel.show(before)}

    def clear(talks: Talks, request: gr.Request, **picked: Any) -> Changes:
        stops.begin(request.session_hash)
        return panel.show(conversation.cleared(conversation.picked(talks, picked)))

    def stop(request: gr.Request) -> None:
        stops.ask(request.session_hash)

    now = {"talks": panel.talks, **panel.pickers()}
    panel.undo.click(plainly(undo), inputs_kwargs=now, outputs=panel.outputs(), **AT_ONCE)
    panel.clear.click(plainly(clear), inputs_kwargs=now, outputs=panel.outputs(), **AT_ONCE)
    panel.stop.click(stop, **AT_ONCE)


def _begun(panel: ChatPanel, stops: Stops, request: gr.Request, asked: Talks) -> Changes:
    """The lanes with the question in them, at work."""
    stops.begin(request.session_hash)
    return panel.show(asked, answering=True)


def _said_of(run: Run, question: str) -> tuple[str, str]:
    """What the base and the adapter answered to it while the run was trained."""
    picture = progress_of(run, run.course(), run.state())
    place = picture.prompts.index(question)
    return picture.base_said[place], picture.said[place]


def _choices(library: Library) -> list[str]:
    return [BASE, *library.names()]
