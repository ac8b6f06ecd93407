"""Asking the lanes: by a message, again, edited, or from a run; the question shows first, then every answer streams."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from chat import conversation
from chat.conversation import BASE, Asking, Talk, Talks
from chat.drawing import sampling_of
from phi3.lane import Answer
from tabs import arrivals, theme
from tabs.chat_panel import ChatPanel
from tabs.editor import Edited, Editor
from tabs.events import AT_ONCE, LOOKING, QUIETLY, Changes, anew
from tabs.hub import reach_of
from tabs.looks import SECONDS_UNTIL_AGAIN
from tabs.openings import Openings
from tabs.plainly import plainly
from tabs.progress import progress_of
from tabs.stopping import Stops
from tabs.studio import Studio
from tabs.visitor import visitor_of
from training.run import Run

# Those who come together share batches; whoever waits beyond that waits in Gradio's queue, which holds no thread. The
# page skips an event while the one before it is still ending, unless it is told that there may be several.
ANSWERING = {**QUIETLY, "concurrency_limit": 8, "concurrency_id": "answers", "trigger_mode": "multiple"}
RESTING = {**AT_ONCE, "trigger_mode": "multiple"}
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


@dataclass(frozen=True)
class Asker:
    """The ways to ask, each with what it needs of the page."""

    panel: ChatPanel
    editor: Editor
    studio: Studio
    stops: Stops
    entrance: Entrance

    def ask(self, message: str | None, talks: Talks, said: str, blind: bool, kept: Any, request: gr.Request,
            **picked: Any) -> Iterator[Changes]:
        """A message to every lane; a blind one to lanes that nobody knows."""
        if not message or not message.strip():
            raise ValueError(theme.NOTHING_TO_SEND)
        now = self._before_asking(talks, said, picked, request)
        if blind and len(now) < 2:
            raise ValueError(theme.NOT_ENOUGH_LANES)
        were_unnamed = any(talk.is_unnamed for talk in now)
        now = conversation.unnamed(now, secrets.randbits(32)) if blind else conversation.named_again(now)
        asked = conversation.with_question(now, message.strip())
        yield {self.panel.message: "", **self._begun(asked, request, are_placed=blind or were_unnamed)}
        yield from self._fetched(asked, kept, request)

    def again(self, place: int | None) -> Callable[..., Iterator[Changes]]:
        """The last message once more, to every lane or to the one at this place."""
        def retry(talks: Talks, said: str, kept: Any, request: gr.Request, **picked: Any) -> Iterator[Changes]:
            now = self._before_asking(talks, said, picked, request)
            if not conversation.has_answers(now):
                raise ValueError(theme.NOTHING_TO_RETRY)
            asked = conversation.asked_again(now, place)
            yield self._begun(asked, request)
            yield from self._fetched(asked, kept, request)
        return retry

    def resend(self, text: str, what: Edited | None, talks: Talks, said: str, kept: Any, request: gr.Request,
               **picked: Any) -> Iterator[Changes]:
        """A message as it was edited."""
        if what is None or not text.strip():
            raise ValueError(theme.NOTHING_TO_SEND)
        now = self._before_asking(talks, said, picked, request)
        conversation.with_message(now, what.turn)
        asked = conversation.edited(now, what.turn.sent, text.strip())
        yield {**self.editor.closed(), **self._begun(asked, request)}
        yield from self._fetched(asked, kept, request)

    def side_by_side(self, run_id: str, kept: Any, request: gr.Request) -> Changes:
        """A run's adapter beside the base, or beside what it began from, with a question of the run's own."""
        visitor = visitor_of(self.studio, request, kept)
        run = visitor.run(run_id)
        ending = run.events()[-1].values
        if not ending.get("adapter"):
            raise ValueError(theme.NOTHING_TO_COMPARE)
        first = run.config.start_from or BASE
        is_here = first == BASE or visitor.library.has(first)
        pair = (Talk(first if is_here else BASE), Talk(ending["adapter"]))
        question = ending["example"]
        # Where the GPU is lent, asking once more would cost the visitor some of it.
        is_told = self.studio.lend is not None and is_here
        asked = conversation.told(pair, question, _said_of(run, question)) if is_told \
            else conversation.with_question(pair, question)
        return {self.entrance.tabs: gr.Tabs(selected="chat"), **self._begun(asked, request, are_placed=True)}

    def answer(self, system: str | None, kept: Any, request: gr.Request, **sampling: Any) -> Iterator[Changes]:
        """Every lane's answer, as it comes; nothing where another event has begun with it."""
        asked = self.stops.of(request.session_hash)
        if not asked.begins():
            # A generator that yields nothing would empty every output.
            yield gr.skip()
            return
        try:
            talks = asked.newest
            yield self.panel.stream(talks, "" if self.studio.answerer.done() else theme.LOADING_BASE)
            asking = Asking(system or "", sampling_of(sampling))
            library = visitor_of(self.studio, request, kept).library
            for snapshot in conversation.answered(talks, self.studio.answerer.result(), library, asking, asked.is_set):
                if self.stops.of(request.session_hash) is not asked:
                    return  # undone, cleared or asked anew meanwhile: these answers are nobody's any more
                asked.newest = snapshot
                yield self.panel.stream(snapshot)
        finally:
            asked.ends()

    def rest(self, talks: Talks, said: str, request: gr.Request, **picked: Any) -> Any:
        """The lanes when nothing more comes; as they are where these answers were another question's. Where many
        prompts ended them, Send and Stop are of those.
        """
        asked, panel = self.stops.of(request.session_hash), self.panel
        if asked.goes_on and asked.newest:
            return gr.skip()
        ended, asked.newest = self._now(talks, said, picked, request), None
        if asked.goes_on:
            shown = panel.show(conversation.stopped(ended))
            return {part: change for part, change in shown.items() if part not in (panel.send, panel.stop)}
        return panel.show(conversation.given_up(ended))

    def look(self, request: gr.Request) -> Changes:
        """What a page doesn't know that takes its lanes to be at work: nothing more comes, or nobody has begun."""
        asked, panel = self.stops.of(request.session_hash), self.panel
        if not asked.goes_on:
            return {panel.late: anew()}
        if asked.is_late(SECONDS_UNTIL_AGAIN):  # one that waits in the queue is asked for twice, and answered once
            return {panel.unanswered: anew()}
        return {panel.late: gr.skip()}

    def _now(self, talks: Talks, said: str, picked: dict[str, Any], request: gr.Request) -> Talks:
        """The lanes with all that was answered so far, of which the page may not have heard, and what is picked."""
        return self.panel.now(self.stops.of(request.session_hash).newest or talks, said, picked)

    def _before_asking(self, talks: Talks, said: str, picked: dict[str, Any], request: gr.Request) -> Talks:
        """The same; ValueError where no answer could be drawn as the form says, before the message leaves its field."""
        sampling_of({name: picked[name] for name in self.panel.sampling})
        return self._now(talks, said, picked, request)

    def _begun(self, asked: Talks, request: gr.Request, are_placed: bool = False) -> Changes:
        """The lanes with the question in them, at work; `are_placed` where they stand in another order than before."""
        self.stops.begin(request.session_hash, asked)
        return (self.panel.place if are_placed else self.panel.show)(asked, answering=True)

    def _fetched(self, asked: Talks, kept: Any, request: gr.Request) -> Iterator[Changes]:
        """What lanes need of the Hub, before they answer."""
        waiting = self.stops.of(request.session_hash)

        def is_wanted(now: Talks) -> bool:
            waiting.newest = now
            return self.stops.of(request.session_hash) is waiting

        reach = reach_of(self.studio, request, kept)
        with waiting.prepared():
            yield from arrivals.asked(self.panel, reach, asked, self.entrance.keys, is_wanted)


def connect(asker: Asker) -> None:
    """Connect every way to ask with the one way to answer."""
    panel, entrance, edited = asker.panel, asker.entrance, asker.editor
    now = {**panel.picking(), **panel.sampling, "kept": entrance.keys}
    message = {"message": panel.message, "blind": panel.blind, **now}
    text = {"text": edited.text, "what": edited.what, **now}
    shown = {"outputs": [*panel.outputs(), entrance.tabs, entrance.keys], **AT_ONCE}
    with_editor = {**shown, "outputs": [*shown["outputs"], *edited.outputs()]}
    asked = [
        gr.on([panel.message.submit, panel.send.click], plainly(asker.ask), inputs_kwargs=message, **shown),
        *(button.click(plainly(asker.ask), inputs_kwargs={**message, "message": button}, **shown)
          for button in panel.suggested),
        panel.retry.click(plainly(asker.again(None)), inputs_kwargs=now, **shown),
        *(lane.newest.retry(plainly(asker.again(place)), inputs_kwargs=now, **shown)
          for place, lane in enumerate(panel.lanes)),
        edited.send.click(plainly(asker.resend), inputs_kwargs=text, **with_editor),
        entrance.compare.click(plainly(asker.side_by_side), [entrance.run_id, entrance.keys], js=TO_THE_TOP, **shown),
    ]
    _answer_when(asker, [*(event.success for event in asked), panel.unanswered.change])


def _answer_when(asker: Asker, triggers: list[Callable[..., Any]]) -> None:
    """Each of these begins the answers; and what the page never heard of, it is told again."""
    panel = asker.panel
    rest = {"fn": plainly(asker.rest), "inputs_kwargs": panel.picking(),
            "outputs": panel.shown(), **RESTING}
    inputs = {"system": panel.system, "kept": asker.entrance.keys, **panel.sampling}
    for trigger in triggers:
        answered = trigger(plainly(asker.answer), inputs_kwargs=inputs, outputs=panel.streamed(), **ANSWERING)
        # `then` would do, but in Gradio 6.31 it is only called after a success.
        answered.success(**rest)
        answered.failure(**rest)
    panel.late.change(**rest)
    panel.at_work.tick(plainly(asker.look), None, [panel.late, panel.unanswered], **LOOKING)


def _said_of(run: Run, question: str) -> list[Answer]:
    """What was answered to it before the run was trained, and by its adapter."""
    picture = progress_of(run, run.course(), run.state())
    place = picture.prompts.index(question)
    return [Answer(text, end="stop", note=theme.SAID_IN_TRAINING)
            for text in (picture.said_before[place], picture.said[place])]
