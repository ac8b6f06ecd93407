"""Find adapters on the Hub and put them into lanes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from adapters.fetch import is_on_a_hub
from adapters.hub import Found, repository_name
from chat import conversation
from chat.conversation import Talks
from tabs import hub, hub_view, theme
from tabs.chat_panel import ChatPanel
from tabs.events import AT_ONCE, Changes
from tabs.hub import Known, Reach, reach_of
from tabs.plainly import plainly
from tabs.run_panel import ANNOUNCED
from tabs.studio import Studio

CHOSEN = """element.addEventListener('click', (event) => {
  const button = event.target.closest('button[data-repository]');
  if (button) trigger('click', {repository: button.dataset.repository, revision: button.dataset.revision});
});
""" + hub.WHEN_TYPED


@dataclass(frozen=True)
class FindPanel:
    """`known` is who this page's visitor is on the Hub, `brought` the adapter that was fetched last."""

    fold: gr.Accordion
    text: gr.Textbox
    said: gr.HTML
    rows: gr.HTML
    known: gr.State
    brought: gr.State


def build(studio: Studio, panel: ChatPanel, keys: gr.BrowserState, known: gr.State) -> None:
    """Draw it where this is called, and connect it with the lanes."""
    with gr.Accordion(theme.FROM_HUB, open=False, elem_classes="fold hub-part", elem_id="from-hub") as fold:
        theme.markup(f'<p class="muted">{theme.FROM_HUB_LEAD}</p>')
        text = gr.Textbox(label=theme.FIND, placeholder=theme.FIND_HINT, max_lines=1, elem_id="find-text",
                          elem_classes="typed-slowly")
        said = theme.markup(js_on_load=ANNOUNCED, elem_id="find-said")
        rows = theme.markup(js_on_load=CHOSEN, elem_id="found")
    finder = FindPanel(fold, text, said, rows, known, gr.State(""))
    _connect_looking(finder, studio)
    _connect_taking(finder, panel, studio, keys)


def _connect_looking(finder: FindPanel, studio: Studio) -> None:
    def look(text: str | None, known: Known | None, request: gr.Request) -> Iterator[Changes]:
        yield {finder.said: hub_view.said(theme.LOOKING_ON_HUB)}
        try:
            known, found = looked(reach_of(studio, request), text or "", known)
        except ValueError as problem:
            yield {finder.said: hub_view.said(str(problem)), finder.rows: ""}
        else:
            yield {finder.known: known, finder.said: hub_view.said(told(found, text or "")),
                   finder.rows: hub_view.rows(found)}

    gr.on([finder.fold.expand, finder.rows.submit, finder.text.submit], plainly(look), [finder.text, finder.known],
          [finder.said, finder.rows, finder.known], trigger_mode="always_last", **AT_ONCE)


def looked(reach: Reach, text: str, known: Known | None) -> tuple[Known, list[Found]]:
    """(who this is, what the Hub has for the app's base by that name); ValueError where it can't be asked."""
    known = reach.acquainted(known)
    text = repository_name(text) if is_on_a_hub(text) else text
    return known, reach.hub.find(reach.visitor.studio.facts.id, text, reach.token or None, known.account)


def told(found: list[Found], text: str) -> str:
    """How many there are, in a sentence."""
    if found:
        return theme.FOUND.format(count=len(found))
    return theme.NONE_FOUND if text.strip() else theme.NONE_YET


def _connect_taking(finder: FindPanel, panel: ChatPanel, studio: Studio, keys: gr.BrowserState) -> None:
    """A row's adapter is fetched; then it is put among the lanes as they are by then."""
    def take(kept: Any, request: gr.Request, row: gr.EventData) -> Iterator[Changes]:
        repository, revision = str(row.repository), str(row.revision)
        yield {finder.brought: "", finder.said: hub_view.said(theme.FETCHING.format(name=repository))}
        reach = reach_of(studio, request, kept)
        try:
            adapter = reach.bring(f"{repository}@{revision}" if revision else repository, update=True)
        except ValueError as problem:
            yield {finder.said: hub_view.problem(str(problem))}
        else:
            yield {finder.brought: adapter.name, keys: reach.keys}

    def put(brought: str, talks: Talks, said: str, **picked: str) -> Changes:
        now = panel.now(talks, said, picked)
        if not brought:
            return {finder.brought: ""}
        if conversation.are_answering(now):
            return {finder.said: hub_view.said(theme.IS_HERE.format(name=brought))}
        placed = panel.place(conversation.joined(now, brought))
        return {finder.said: hub_view.said(theme.IN_LANE.format(name=brought)), **placed}

    finder.rows.click(plainly(take), [keys], [finder.said, finder.brought, keys], **AT_ONCE).success(
        plainly(put), inputs_kwargs={"brought": finder.brought, **panel.picking()},
        outputs=[finder.said, finder.brought, *panel.outputs()], **AT_ONCE)
