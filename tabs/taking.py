"""Taking conversations away, a link to the lanes, and many prompts through all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from chat import conversation
from chat.batch import Compared, as_csv, authors_of, compared, prompts_in
from chat.conversation import Asking, Talks
from chat.drawing import sampling_of
from chat.export import as_json, as_markdown, as_query
from tabs import code_view, theme
from tabs.chat_panel import ChatPanel
from tabs.events import AT_ONCE, Changes, hidden_text, saves
from tabs.plainly import plainly
from tabs.stopping import Stops
from tabs.studio import Studio
from tabs.text import as_markdown as rendered
from tabs.text import escaped
from tabs.visitor import visitor_of


@dataclass(frozen=True)
class Away:
    """Files of what was said, and a link to the lanes."""

    markdown: gr.Button
    json: gr.Button
    file: gr.Textbox
    make_link: gr.Button
    link: gr.HTML


@dataclass(frozen=True)
class Many:
    """Many prompts, and the table of their answers; `rows` holds them."""

    prompts: gr.Textbox
    ask: gr.Button
    table: gr.HTML
    rows: gr.State
    take: gr.Button
    file: gr.Textbox


def build() -> tuple[Away, Many]:
    """Draw both folds where this is called."""
    with gr.Accordion(theme.TAKE_AWAY, open=False, elem_classes="fold", elem_id="take-away"):
        with gr.Row(elem_classes="tools"):
            markdown = gr.Button(theme.AS_MARKDOWN, elem_id="take-markdown", elem_classes="quiet fit")
            plain = gr.Button(theme.AS_JSON, elem_id="take-json", elem_classes="quiet fit")
            make_link = gr.Button(theme.LINK_HERE, elem_id="link-lanes", elem_classes="quiet fit")
            file = hidden_text()
        link = theme.markup(elem_id="lanes-link", js_on_load=code_view.COPY)
    with gr.Accordion(theme.MANY_PROMPTS, open=False, elem_classes="fold", elem_id="many"):
        theme.markup(f'<p class="muted">{theme.MANY_LEAD}</p>')
        prompts = gr.Textbox(label=theme.MANY_LABEL, lines=4, max_lines=12, elem_id="many-prompts")
        with gr.Row(elem_classes="tools"):
            ask = gr.Button(theme.ASK_MANY, variant="primary", elem_id="ask-many", elem_classes="fit")
            take = gr.Button(theme.DOWNLOAD_TABLE, visible=False, elem_id="take-table", elem_classes="quiet fit")
            table_file = hidden_text()
        table = theme.markup(elem_id="many-table")
    return Away(markdown, plain, file, make_link, link), Many(prompts, ask, table, gr.State(None), take, table_file)


def connect_away(away: Away, panel: ChatPanel) -> None:
    """Each button makes its file, and the browser takes it; the link is shown."""
    def take(written: Callable[[Talks, Asking], str]) -> Callable[..., str]:
        def taken(talks: Talks, said: str, system: str | None, **sampling: Any) -> str:
            now = panel.now(talks, said)
            if not conversation.has_answers(now):
                raise ValueError(theme.NOTHING_TO_TAKE)
            return written(now, Asking(system or "", sampling_of(sampling)))
        return taken

    def link(talks: Talks, said: str, system: str, request: gr.Request, **given: Any) -> str:
        now = panel.now(talks, said, given)
        sampling = {name: value for name, value in given.items() if name in panel.sampling}
        query = as_query(now, Asking(system or "", sampling_of(sampling)))
        href = escaped(f"?{query}")  # whatever path a proxy puts before the page
        return (f'<p class="shared"><a href="{href}">{theme.LINK_TO_LANES}</a><button type="button" class="copy">'
                f'{theme.COPY_LINK}</button><span class="copied" role="status"></span></p>')

    lanes = {**panel.talking(), "system": panel.system, **panel.sampling}
    saves(away.markdown, take(as_markdown), away.file, "conversation.md", inputs_kwargs=lanes)
    saves(away.json, take(as_json), away.file, "conversation.json", inputs_kwargs=lanes)
    away.make_link.click(plainly(link), inputs_kwargs={**lanes, **panel.picking()}, outputs=away.link, **AT_ONCE)


def connect_many(many: Many, panel: ChatPanel, studio: Studio, stops: Stops, keys: gr.BrowserState) -> None:
    """Ask all prompts of all lanes, a few at a time, and show what is there."""
    def ask(prompts: str, talks: Talks, said: str, system: str, held: Any, request: gr.Request,
            **given: Any) -> Iterator[Changes]:
        wanted, now = prompts_in(prompts or ""), panel.now(talks, said, given)
        asking = Asking(system or "", sampling_of({name: given[name] for name in panel.sampling}))
        waiting = "" if studio.answerer.done() else f'<p class="muted">{theme.LOADING_BASE}</p>'
        library, authors = visitor_of(studio, request, held).library, authors_of(now)
        with stops.begin(request.session_hash).at_work() as stop:
            yield {many.table: waiting, many.take: gr.update(visible=False), panel.send: gr.update(visible=False),
                   panel.stop: gr.update(visible=True)}
            for rows in compared(wanted, now, studio.answerer.result(), library, asking, stop.is_set):
                yield {many.table: answers_table(rows, authors, len(wanted)), many.rows: (rows, authors),
                       many.take: gr.update(visible=True)}

    def rest(request: gr.Request) -> Any:
        if stops.of(request.session_hash).goes_on:
            return gr.skip()  # a message was sent meanwhile
        return {panel.send: gr.update(visible=True), panel.stop: gr.update(visible=False)}

    def take(kept: tuple[list[Compared], list[str]]) -> str:
        return "\ufeff" + as_csv(*kept)

    inputs = {"prompts": many.prompts, **panel.picking(), "system": panel.system, "held": keys, **panel.sampling}
    outputs = [many.table, many.rows, many.take, panel.send, panel.stop]
    asked = many.ask.click(plainly(ask), inputs_kwargs=inputs, outputs=outputs, **AT_ONCE)
    for after in (asked.success, asked.failure):
        after(plainly(rest), None, [panel.send, panel.stop], **AT_ONCE)
    saves(many.take, take, many.file, "answers.csv", inputs=many.rows)


def answers_table(rows: list[Compared], authors: list[str], wanted: int) -> str:
    """A row for each prompt, a column for each lane."""
    head = "".join(f'<th scope="col" dir="auto">{escaped(words)}</th>' for words in (theme.PROMPT, *authors))
    body = "".join(
        f'<tr><th scope="row" dir="auto">{escaped(row.prompt)}</th>'
        + "".join(f"<td>{rendered(one.text) if one.text else escaped(one.note)}</td>" for one in row.answers) + "</tr>"
        for row in rows)
    answered = theme.PROMPTS_ANSWERED.format(count=len(rows), wanted=wanted)
    return (f'<p class="muted" role="status">{answered}</p>'
            f'<div class="wide" tabindex="0" role="region" aria-label="{theme.MANY_PROMPTS}"><table class="numbers">'
            f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>")
