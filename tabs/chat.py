"""The Chat tab: the base or an adapter in each lane, all asked at once, each with its own conversation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.components import Component

from adapters.library import Library
from tabs import arrivals, chat_panel, find, lanes, publish, theme
from tabs.chat_panel import ChatPanel
from tabs.hub import LONGEST_NAME, reach_of
from tabs.lanes import Asking, Talk, Talks
from tabs.plainly import plainly
from tabs.progress import progress_of
from tabs.stopping import Stops
from tabs.studio import Studio
from tabs.visitor import visitor_of
from training.run import Run

Changes = dict[Component, Any]
QUIETLY = {"show_progress": "hidden", "api_visibility": "private"}
AT_ONCE = {**QUIETLY, "concurrency_limit": None}
# One batch is answered at a time: who comes later waits in Gradio's queue, where waiting holds no thread.
ANSWERING = {**QUIETLY, "concurrency_limit": 1, "concurrency_id": "answers"}
SECONDS_BETWEEN_LOOKS = 3
TO_THE_TOP = "(run, keys) => { window.scrollTo(0, 0); return [run, keys]; }"


@dataclass(frozen=True)
class Entrance:
    """How the Train tab leads here: the click on `compare` turns `tabs` to this one, with the run `run_id`. `keys` is
    what the browser keeps, `known` who the visitor is on the Hub.
    """

    compare: gr.Button
    run_id: gr.State
    tabs: gr.Tabs
    keys: gr.BrowserState
    known: gr.State


def build(studio: Studio, page: gr.Blocks, entrance: Entrance) -> None:
    """Draw the tab where this is called, and connect it."""
    library = visitor_of(studio, None).library
    panel = chat_panel.build(lanes.first_lanes(library), _choices(library))
    with gr.Column(elem_classes="card"):
        find.build(studio, panel, entrance.keys, entrance.known)
        publish.build_for_any(studio, entrance.keys, entrance.known)
    stops = Stops()
    _connect_lanes(panel, studio, entrance.keys)
    _connect_address(panel, studio, page, entrance)
    _connect_answers(panel, studio, stops, entrance)
    _connect_tools(panel, stops)

    def leave(request: gr.Request) -> None:
        stops.forget(request.session_hash)

    page.unload(leave)


def _connect_lanes(panel: ChatPanel, studio: Studio, keys: gr.BrowserState) -> None:
    """Add and remove lanes, switch their adapters, and offer new adapters without a reload."""
    def add(talks: Talks, kept: Any, request: gr.Request, **picked: str) -> Changes:
        library = visitor_of(studio, request, kept).library
        return panel.place(lanes.added(lanes.picked(talks, picked.values()), library))

    def remove_at(place: int) -> Callable[..., Changes]:
        return lambda talks, **picked: panel.place(lanes.removed(lanes.picked(talks, picked.values()), place))

    def pick(talks: Talks, kept: Any, request: gr.Request, **picked: str) -> Iterator[Changes]:
        # The conversations stay as they are: they may be streaming, and take the new adapter at the next message.
        yield from arrivals.picked(panel, reach_of(studio, request, kept), lanes.picked(talks, picked.values()), keys)

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
    """`?adapter=NAME&adapter=OWNER/NAME` opens this tab with those lanes."""
    def open_lanes(kept: Any, request: gr.Request) -> Iterator[Changes]:
        names = [name[:LONGEST_NAME] for name in request.query_params.getlist("adapter") if name.strip()]
        if not names:
            yield {panel.announced: ""}
            return
        talks = lanes.named(names)
        yield {entrance.tabs: gr.Tabs(selected="chat"), **panel.place(talks)}
        yield from arrivals.picked(panel, reach_of(studio, request, kept), talks, entrance.keys)

    page.load(plainly(open_lanes), entrance.keys, [*panel.outputs(), entrance.tabs, entrance.keys], **AT_ONCE)


def _connect_answers(panel: ChatPanel, studio: Studio, stops: Stops, entrance: Entrance) -> None:
    """Three ways to ask, one way to answer: first the question shows, then every lane streams its answer."""
    def ask(message: str | None, talks: Talks, kept: Any, request: gr.Request, **picked: str) -> Iterator[Changes]:
        if not message or not message.strip():
            raise ValueError(theme.NOTHING_TO_SEND)
        asked = lanes.with_question(lanes.picked(talks, picked.values()), message.strip())
        yield {panel.message: "", **_begun(panel, stops, request, asked)}
        yield from fetched(asked, kept, request)

    def retry(talks: Talks, kept: Any, request: gr.Request, **picked: str) -> Iterator[Changes]:
        if not lanes.has_answers(talks):
            raise ValueError(theme.NOTHING_TO_RETRY)
        asked = lanes.asked_again(lanes.picked(talks, picked.values()))
        yield _begun(panel, stops, request, asked)
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
        pair, question = (Talk(), Talk(ending["adapter"])), ending["example"]
        # Where the GPU is lent, asking once more would cost the visitor some of it.
        is_told = studio.lend is not None
        asked = lanes.told(pair, question, _said_of(run, question)) if is_told else lanes.with_question(pair, question)
        return {entrance.tabs: gr.Tabs(selected="chat"), **panel.place(asked), **_begun(panel, stops, request, asked)}

    now = {"talks": panel.talks, "kept": entrance.keys, **panel.pickers()}
    outputs = [*panel.outputs(), entrance.tabs, entrance.keys]
    with_message = {"message": panel.message, **now}
    _answer_after(panel, studio, stops, entrance.keys, [
        gr.on([panel.message.submit, panel.send.click], plainly(ask), inputs_kwargs=with_message, outputs=outputs,
              **AT_ONCE),
        panel.retry.click(plainly(retry), inputs_kwargs=now, outputs=outputs, **AT_ONCE),
        entrance.compare.click(plainly(side_by_side), [entrance.run_id, entrance.keys], outputs, js=TO_THE_TOP,
                               **AT_ONCE),
        *(button.click(plainly(ask), inputs_kwargs={**now, "message": button}, outputs=outputs, **AT_ONCE)
          for button in panel.suggested),
    ])


def _answer_after(panel: ChatPanel, studio: Studio, stops: Stops, keys: gr.BrowserState, asked: list[Any]) -> None:
    def answer(talks: Talks, system: str | None, kept: Any, request: gr.Request,
               **sampling: float | None) -> Iterator[Changes]:
        # A generator that yields nothing would empty every output.
        yield panel.stream(talks, "" if studio.answerer.done() else theme.LOADING_BASE)
        asking, stop = Asking(system or "", lanes.sampling_of(sampling)), stops.of(request.session_hash)
        library = visitor_of(studio, request, kept).library
        for snapshot in lanes.answered(talks, studio.answerer.result(), library, asking, stop.is_set):
            if stops.of(request.session_hash) is not stop:
                return  # undone, cleared or asked anew meanwhile: these answers are nobody's any more
            yield panel.stream(snapshot)

    def rest(talks: Talks, **picked: str) -> Changes:
        return panel.show(lanes.given_up(lanes.picked(talks, picked.values())))

    now = {"talks": panel.talks, **panel.pickers()}
    inputs = {"talks": panel.talks, "system": panel.system, "kept": keys, **panel.sampling}
    for event in asked:
        answered = event.success(plainly(answer), inputs_kwargs=inputs, outputs=panel.outputs(), **ANSWERING)
        # `then` would do, but in Gradio 6.31 it is only called after a success.
        for ended in (answered.success, answered.failure):
            ended(plainly(rest), inputs_kwargs=now, outputs=panel.outputs(), **AT_ONCE)


def _connect_tools(panel: ChatPanel, stops: Stops) -> None:
    """Stop, undo, clear."""
    def undo(talks: Talks, request: gr.Request, **picked: str) -> Changes:
        if not lanes.has_answers(talks):
            raise ValueError(theme.NOTHING_TO_UNDO)
        stops.begin(request.session_hash)
        before, question = lanes.undone(lanes.picked(talks, picked.values()))
        return {panel.message: question, **panel.show(before)}

    def clear(talks: Talks, request: gr.Request, **picked: str) -> Changes:
        stops.begin(request.session_hash)
        return panel.show(lanes.cleared(lanes.picked(talks, picked.values())))

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
    return [theme.BASE_NAME, *library.names()]
