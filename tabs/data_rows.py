"""Which conversations of the data are seen as the model reads them: the first ones, others, or those of a row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr
from gradio.components import Component

from tabs import data_view, theme
from tabs.events import AT_ONCE, Changes
from tabs.plainly import plainly
from tabs.studio import Studio
from training.data import ChatData, as_the_model_sees

SHOWN_CONVERSATIONS = 3


@dataclass(frozen=True)
class Place:
    """Where the visitor is in the data of this name: how often they turned to others, and the row they asked for."""

    data: str
    turned: int = 0
    row: int | None = None


@dataclass(frozen=True)
class Looked:
    """What a look at the data found: its name, and a sign that is another one where the rows read otherwise."""

    data: str
    sign: str


@dataclass(frozen=True)
class RowsPart:
    """The components of this part. `looked` is a `Looked`, or None without data, and `place` a `Place` or None.

    Every hand changes one of these two, and one handler draws the rows of both, so that a look that comes late doesn't
    take the place of what the visitor turned to meanwhile.
    """

    title: gr.HTML
    seen: gr.HTML
    tools: gr.Row
    others: gr.Button
    row: gr.Number
    find: gr.Button
    looked: gr.State
    place: gr.State


def build() -> RowsPart:
    """Draw the part where this is called."""
    title = theme.markup(f'<h3 class="seen-title">{theme.SEEN_TITLE}</h3>{data_view.legend()}')
    seen = theme.markup(elem_id="seen")
    with gr.Row(elem_classes="find-row") as tools:
        others = gr.Button(theme.SHOW_ANOTHER, elem_classes="quiet fit")
        row = gr.Number(label=theme.FIND_ROW, info=theme.FIND_ROW_HINT, precision=0, value=1,
                        elem_id="find-row", min_width=120)
        find = gr.Button(theme.SHOW_ROW, elem_id="show-row", elem_classes="quiet fit")
    return RowsPart(title, seen, tools, others, row, find, gr.State(None), gr.State(None))


def connect(part: RowsPart, studio: Studio, read: Callable[..., tuple[ChatData, int]],
            inputs: dict[str, Component]) -> None:
    """`read` gives the data and the longest conversation, in tokens, from the values of `inputs`; ValueError where
    there is none.
    """
    def draw(looked: Looked | None, place: Place | None, **chosen: Any) -> Changes:
        nothing = {part.title: gr.update(visible=False), part.seen: "", part.tools: gr.update(visible=False)}
        if looked is None:
            return nothing
        try:
            data, max_length = read(**chosen)
        except ValueError:
            return nothing  # a look says why, in the place of the data's numbers
        now = place_in(looked, place)
        shown = (_few(studio, data, now.turned, max_length) if now.row is None
                 else _found(studio, data, now.row, max_length))
        return {part.title: gr.update(visible=True), part.seen: shown, part.tools: gr.update(visible=True),
                part.others: gr.update(visible=len(data.conversations) > SHOWN_CONVERSATIONS)}

    states = [part.looked, part.place]
    part.others.click(plainly(to_others), states, part.place, **AT_ONCE)
    gr.on([part.find.click, part.row.submit], plainly(to_row), [*states, part.row], part.place, **AT_ONCE)
    gr.on([part.looked.change, part.place.change], plainly(draw), trigger_mode="always_last", **AT_ONCE,
          inputs_kwargs={"looked": part.looked, "place": part.place, **inputs},
          outputs=[part.title, part.seen, part.tools, part.others])


def place_in(looked: Looked, place: Place | None) -> Place:
    """Other data is seen from its start."""
    return place if place and place.data == looked.data else Place(looked.data)


def to_others(looked: Looked | None, place: Place | None) -> Place | None:
    """The next few rows; the same place where the data is gone, and the click came before the page knew."""
    if looked is None:
        return place
    now = place_in(looked, place)
    return replace(now, turned=now.turned + 1, row=None)


def to_row(looked: Looked | None, place: Place | None, row: float | None) -> Place | None:
    """The row of this number, whether there is one or not; the same place where the data is gone."""
    return replace(place_in(looked, place), row=int(row or 0)) if looked else place


def _few(studio: Studio, data: ChatData, turned: int, max_length: int) -> str:
    first = turned * SHOWN_CONVERSATIONS
    return "".join(_as_read(studio, data, place % len(data.conversations), max_length)
                   for place in range(first, first + min(SHOWN_CONVERSATIONS, len(data.conversations))))


def _found(studio: Studio, data: ChatData, row: int, max_length: int) -> str:
    """The conversations of a row, one for each file that has such a row, or why it is left out."""
    places = data.conversations.places_of(row)
    dropped = [one for one in data.dropped if one.row == row]
    if not places and not dropped:
        return data_view.problem(theme.NO_SUCH_ROW.format(row=row, count=data.rows_read))
    shown = [_as_read(studio, data, place, max_length) for place in places[:SHOWN_CONVERSATIONS]]
    return "".join([*shown, data_view.left_out(dropped, len(dropped)) if dropped else ""])


def _as_read(studio: Studio, data: ChatData, place: int, max_length: int) -> str:
    one = data.conversations[place]
    file = data.files[data.conversations[place:place + 1].column("part")[0]] if data.files else ""
    return data_view.conversation(one.row, as_the_model_sees(studio.tokenizer.result(), one.messages, max_length), file)
