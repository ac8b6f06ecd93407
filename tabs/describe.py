"""One source of the Train tab: say how it should answer, then read and mend what the base answers that way."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.components import Component
from gradio.events import Dependency

from tabs import describe_view, theme
from tabs.events import AT_ONCE, QUIETLY, Changes, hidden_text, saves
from tabs.plainly import plainly
from tabs.run_panel import ANNOUNCED
from tabs.stopping import Stops
from tabs.studio import Studio
from training.describe import Corrections, Described, Row, as_system_message, describe, questions

HANDFUL = 5
# One description is asked at a time; chat answers come between its batches.
ASKING = {**QUIETLY, "concurrency_limit": 1, "concurrency_id": "described"}


@dataclass(frozen=True)
class RowParts:
    """One answer that can be read and mended; its question is the label of `answer`."""

    line: gr.Row
    answer: gr.Textbox
    struck: gr.Checkbox

    def show(self, row: Row | None, corrections: Corrections) -> Changes:
        """This row as the visitor left it, or none."""
        if row is None:
            return {self.line: gr.update(visible=False)}
        return {self.line: gr.update(visible=True),
                self.answer: gr.update(value=corrections.answer_to(row), label=row.question),
                self.struck: row.question in corrections.struck}


@dataclass(frozen=True)
class DescribePart:
    """The components of this source.

    The browser keeps three values, since three hands write them: `gathered` the asking, `corrected` the visitor,
    and `shown`, the questions of the rows on the page, whoever turns to others. What stands in the rows themselves
    is newer than `corrected`, so every handler takes both.
    """

    column: gr.Column
    sentence: gr.Textbox
    ideas: tuple[gr.Button, ...]
    write: gr.Button
    stop: gr.Button
    bar: gr.HTML
    told: gr.HTML
    arriving: gr.HTML
    lead: gr.HTML
    rows: tuple[RowParts, ...]
    tools: gr.Row
    others: gr.Button
    more: gr.Button
    download: gr.Button
    file: gr.Textbox
    gathered: gr.BrowserState
    corrected: gr.BrowserState
    shown: gr.BrowserState

    def inputs(self) -> dict[str, Component]:
        """What says which answers there are and what the visitor made of them, by argument of `corrections`."""
        answers = {f"answer_{place}": row.answer for place, row in enumerate(self.rows)}
        strikes = {f"struck_{place}": row.struck for place, row in enumerate(self.rows)}
        return {"gathered": self.gathered, "corrected": self.corrected, "shown": self.shown, **answers, **strikes}

    def outputs(self) -> list[Component]:
        """Everything that a handler may change."""
        rows = [part for row in self.rows for part in vars(row).values()]
        return [self.sentence, self.write, self.stop, self.bar, self.told, self.arriving, self.lead, *rows,
                self.tools, self.others, self.more, self.download, self.gathered, self.corrected, self.shown]

    def asking(self) -> list[Component]:
        """What changes while the base answers: what `show_asking` may change, and what is gathered."""
        return [self.write, self.stop, self.bar, self.told, self.arriving, self.more, self.gathered]

    def show_rows(self, rows: tuple[Row, ...], corrections: Corrections) -> Changes:
        """These rows, at most a handful, as the visitor left them."""
        changes: Changes = {self.shown: [row.question for row in rows]}
        for parts, row in itertools.zip_longest(self.rows, rows):
            changes |= parts.show(row, corrections)
        return changes

    def show_asking(self, described: Described | None, words: str = "") -> Changes:
        """While the base answers: how far it is, its first answers, and Stop.

        The same outputs each time, since the browser skips some of the snapshots that come close together; and none
        that the visitor may be changing meanwhile.
        """
        first = describe_view.arriving(described.rows[:HANDFUL]) if described else ""
        told = describe_view.asking(described) if described else f'<p class="bar-words">{words}</p>'
        return {self.write: gr.update(interactive=False), self.stop: gr.update(visible=True, interactive=True),
                self.bar: gr.update(value=describe_view.bar(described), visible=True), self.told: told,
                self.arriving: first, self.more: gr.update(interactive=False)}

    def show_resting(self, described: Described | None, corrections: Corrections) -> Changes:
        """While nothing is asked: what there is, and what can be done with it."""
        rows = described.rows if described else ()
        return {self.write: gr.update(value=theme.WRITE_ANEW if described else theme.WRITE, interactive=True),
                self.stop: gr.update(visible=False), self.bar: gr.update(visible=False),
                self.told: describe_view.gathered(described, corrections), self.arriving: "",
                self.lead: gr.update(visible=bool(rows)),
                self.tools: gr.update(visible=described is not None),
                self.others: gr.update(visible=len(rows) > HANDFUL), self.more: gr.update(interactive=True),
                self.download: gr.update(visible=bool(rows))}


def corrections(part_of: dict[str, Any]) -> tuple[Described | None, Corrections]:
    """What was gathered, and what the visitor made of it, from the values of `DescribePart.inputs`."""
    described, kept = _described(part_of["gathered"]), part_of["corrected"]
    if described is None:
        return None, Corrections()
    now = Corrections.from_json(kept) if kept else Corrections()
    rows = {row.question: row for row in described.rows}
    for place, question in enumerate((part_of["shown"] or ())[:HANDFUL]):
        if question in rows:
            now = now.with_row(rows[question], part_of[f"answer_{place}"] or "", bool(part_of[f"struck_{place}"]))
    return described, now


def chosen(part_of: dict[str, Any]) -> Described:
    """What is left to train on; ValueError where that is nothing, and why."""
    described, now = corrections(part_of)
    if described is None or not described.asked:
        raise ValueError(theme.NOTHING_DESCRIBED_YET)
    left = now.applied(described)
    if described.rows and not left.rows:
        raise ValueError(theme.ALL_STRUCK)
    return left


def which(part_of: dict[str, Any]) -> str:
    """One text for the same description, whatever became of its answers."""
    described = _described(part_of["gathered"])
    return described.description if described else ""


def build(studio: Studio) -> DescribePart:
    """Draw this source, hidden, where this is called."""
    with gr.Column(visible=False, elem_classes="own-data described") as column:
        sentence = gr.Textbox(label=theme.DESCRIPTION, info=theme.DESCRIPTION_HINT, lines=1, max_lines=4,
                              placeholder=theme.DESCRIPTION_PLACEHOLDER, elem_id="description")
        with gr.Row(elem_classes="suggestions"):
            ideas = tuple(gr.Button(idea, elem_classes="chip fit") for idea in theme.DESCRIPTIONS)
        with gr.Row(elem_classes="writing"):
            write = gr.Button(theme.WRITE, variant="primary", elem_id="write-answers", elem_classes="fit")
            stop = gr.Button(theme.STOP_WRITING, visible=False, elem_id="stop-writing", elem_classes="fit")
        bar = theme.markup(visible=False, elem_id="writing-bar")
        told = theme.markup(js_on_load=ANNOUNCED, elem_id="writing-state")
        arriving = theme.markup(elem_id="arriving")
        lead = theme.markup(f'<h3>{theme.ANSWERS}</h3><p class="muted">{theme.ANSWERS_LEAD}</p>', visible=False)
        rows = tuple(_row(place) for place in range(HANDFUL))
        with gr.Row(visible=False, elem_classes="tools") as tools:
            others = gr.Button(theme.OTHER_ANSWERS, elem_id="other-answers", elem_classes="quiet fit")
            more = gr.Button(theme.ASK_MORE, elem_id="ask-more", elem_classes="quiet fit")
            download = gr.Button(theme.DOWNLOAD_ANSWERS, elem_id="download-answers", elem_classes="quiet fit")
        file = hidden_text()
    # Outside the column: what is hidden is not there, and reads nothing from the browser.
    states = [gr.BrowserState(storage_key=f"phi3-lora-studio-{name}", secret=studio.browser_secret())
              for name in ("gathered", "corrected", "shown")]
    return DescribePart(column, sentence, ideas, write, stop, bar, told, arriving, lead, rows, tools, others, more,
                        download, file, *states)


def _row(place: int) -> RowParts:
    with gr.Row(visible=False, elem_classes="described-row") as line:
        answer = gr.Textbox(label=" ", lines=1, max_lines=6, elem_id=f"described-{place}", elem_classes="grow")
        struck = gr.Checkbox(label=theme.STRIKE_OUT, elem_id=f"strike-{place}", elem_classes="strike fit")
    return RowParts(line, answer, struck)


def connect(part: DescribePart, studio: Studio, page: gr.Blocks) -> list[Dependency]:
    """Write the answers, mend them, and find them again after a reload; returns what ends with other rows than before.

    A value that the browser keeps has a change event, too, but it comes before the rows on the page have followed.
    """
    stops = Stops()
    changed = [*_connect_asking(part, studio, stops), *_connect_mending(part)]

    def again(**values: Any) -> Changes:
        described, now = corrections({**values, "shown": ()})
        if described is None:
            return {part.lead: gr.update()}  # nothing to find: what the visitor does already stays as it is
        return {part.sentence: described.description, **part.show_rows(_handful(described, values["shown"]), now),
                **part.show_resting(described, now)}

    def leave(request: gr.Request) -> None:
        stops.forget(request.session_hash)

    page.load(plainly(again), inputs_kwargs=part.inputs(), outputs=part.outputs(), **AT_ONCE)
    page.unload(leave)
    return changed


def _connect_asking(part: DescribePart, studio: Studio, stops: Stops) -> list[Dependency]:
    """Ask the base, with progress; anew, or more of the same."""
    def begin(sentence: str | None, request: gr.Request) -> Changes:
        as_system_message(sentence or "")
        stops.begin(request.session_hash)
        blank = Described(sentence.strip(), 0)
        return {part.gathered: blank.as_json(), part.corrected: {}, **part.show_rows((), Corrections()),
                part.lead: gr.update(visible=False), part.tools: gr.update(visible=False),
                **part.show_asking(None, _waiting(studio))}

    def go_on(gathered: dict[str, Any] | None, request: gr.Request) -> Changes:
        described = _described(gathered)
        if described is None:
            raise ValueError(theme.NOTHING_DESCRIBED_YET)
        if not questions(1, besides=described.questions):
            raise ValueError(theme.NO_QUESTIONS_LEFT.format(count=described.asked))
        stops.begin(request.session_hash)
        return part.show_asking(None, _waiting(studio))

    def halt(request: gr.Request) -> Changes:
        stops.ask(request.session_hash)
        return {part.stop: gr.update(interactive=False)}

    shared = {"outputs": part.outputs(), **AT_ONCE}
    begun = gr.on([part.sentence.submit, part.write.click], plainly(begin), part.sentence, **shared)
    gone_on = part.more.click(plainly(go_on), part.gathered, **shared)
    part.stop.click(plainly(halt), None, part.stop, **AT_ONCE)
    return [begun, *_asked_after(part, studio, stops, [begun, gone_on])]


def _asked_after(part: DescribePart, studio: Studio, stops: Stops, begun: list[Dependency]) -> list[Dependency]:
    """After each of these events the base is asked; returns what ends when it has answered."""
    def ask(gathered: dict[str, Any], request: gr.Request) -> Iterator[Changes]:
        described, stop = _described(gathered), stops.of(request.session_hash)
        yield part.show_asking(None, _waiting(studio))
        asked = questions(studio.questions_at_once, besides=described.questions)
        for so_far in describe(studio.answerer.result(), described.description, asked, stop.is_set, described):
            if stops.of(request.session_hash) is not stop:
                return  # the description was changed meanwhile
            yield {part.gathered: so_far.as_json(), **part.show_asking(so_far)}

    def rest(**values: Any) -> Changes:
        described, now = corrections(values)
        is_full = described is None or len(values["shown"] or ()) == HANDFUL
        rows = {} if is_full else part.show_rows(_handful(described, values["shown"] or ()), now)
        return {part.corrected: now.as_json(), **rows, **part.show_resting(described, now)}

    outputs, ended = part.outputs(), []
    for event in begun:
        asked = event.success(plainly(ask), part.gathered, part.asking(), **ASKING)
        # `then` would do, but in Gradio 6.31 it is only called after a success.
        ended += [after(plainly(rest), inputs_kwargs=part.inputs(), outputs=outputs, **AT_ONCE)
                  for after in (asked.success, asked.failure)]
    return ended


def _connect_mending(part: DescribePart) -> list[Dependency]:
    """Keep what the visitor changes, turn to other answers, save them as a file."""
    def keep(**values: Any) -> Changes:
        described, now = corrections(values)
        return {part.corrected: now.as_json(), part.told: describe_view.gathered(described, now)}

    def turn(**values: Any) -> Changes:
        described, now = corrections(values)
        if described is None:
            raise ValueError(theme.NOTHING_DESCRIBED_YET)
        return {part.corrected: now.as_json(), **part.show_rows(_next_handful(described, values["shown"] or ()), now)}

    def save(**values: Any) -> str:
        return chosen(values).jsonl() + "\n"

    # In Gradio 6.31 a textbox's `input` tells of pressed keys alone, not of what is pasted or deleted; its `change`
    # would tell of what is shown, too.
    touched = [event for row in part.rows for event in (row.answer.input, row.answer.blur, row.struck.input)]
    kept = gr.on(touched, plainly(keep), inputs_kwargs=part.inputs(), outputs=[part.corrected, part.told],
                 trigger_mode="always_last", **AT_ONCE)
    part.others.click(plainly(turn), inputs_kwargs=part.inputs(), outputs=part.outputs(), **AT_ONCE)
    saves(part.download, save, part.file, "conversations.jsonl", inputs_kwargs=part.inputs())
    for idea in part.ideas:
        idea.click(None, idea, part.sentence, js="(words) => words", show_progress="hidden")
    return [kept]


def _handful(described: Described, shown: Sequence[str]) -> tuple[Row, ...]:
    """The rows that were shown last and those after them; else the first ones."""
    places = [place for place, row in enumerate(described.rows) if row.question in shown]
    first = min(places, default=0)
    return described.rows[first:first + HANDFUL]


def _next_handful(described: Described, shown: Sequence[str]) -> tuple[Row, ...]:
    """The rows after the last one shown; from the start again where there are none."""
    places = [place for place, row in enumerate(described.rows, 1) if row.question in shown]
    first = max(places, default=0)
    return described.rows[first:first + HANDFUL] or described.rows[:HANDFUL]


def _described(plain: dict[str, Any] | None) -> Described | None:
    return Described.from_json(plain) if plain else None


def _waiting(studio: Studio) -> str:
    return theme.ASKING_BASE if studio.answerer.done() else theme.ASKING_LOADS
