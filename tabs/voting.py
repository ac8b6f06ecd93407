"""Blind comparison on the page: a vote on unnamed answers, who they were, and how everybody stands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.components import Component

from chat.conversation import Talks, can_be_voted_on, named_again, voted
from chat.vote import Standing, Verdict, Vote, Votes, pairs_as_jsonl, tally
from tabs import theme
from tabs.chat_panel import MOST_LANES, ChatPanel
from tabs.events import AT_ONCE, Changes, hidden_text, saves
from tabs.hub import Reach, reach_of
from tabs.plainly import plainly
from tabs.studio import Studio
from tabs.text import escaped
from tabs.visitor import FETCHED
from training.owners import owner_by_key


@dataclass(frozen=True)
class Tally:
    """The fold with the standing."""

    fold: gr.Accordion
    table: gr.HTML
    take: gr.Button
    forget: gr.Button
    file: gr.Textbox

    def outputs(self) -> list[Component]:
        """What `shown` changes."""
        return [self.fold, self.table, self.take, self.forget]

    def shown(self, votes: Sequence[Vote], is_open: bool = True) -> Changes:
        """How everybody stands after these votes."""
        can = gr.update(visible=bool(votes))
        return {self.fold: gr.update(open=is_open), self.table: standing(tally(votes), len(votes)),
                self.take: can, self.forget: can}


def build() -> Tally:
    """Draw it where this is called."""
    with gr.Accordion(theme.TALLY, open=False, elem_classes="fold", elem_id="tally") as fold:
        table = theme.markup(standing([], 0), elem_id="tally-table")
        with gr.Row(elem_classes="tools"):
            take = gr.Button(theme.DOWNLOAD_PAIRS, visible=False, elem_id="take-pairs", elem_classes="quiet fit")
            forget = gr.Button(theme.FORGET_VOTES, visible=False, elem_id="forget-votes", elem_classes="quiet fit")
            file = hidden_text()
    return Tally(fold, table, take, forget, file)


def connect(shown: Tally, panel: ChatPanel, studio: Studio, keys: gr.BrowserState) -> None:
    """A vote names the lanes again and is counted."""
    def vote_for(verdict: Verdict, best: int | None) -> Any:
        def vote(talks: Talks, said: str, system: str, held: Any, request: gr.Request) -> Changes:
            now = panel.now(talks, said)
            if not can_be_voted_on(now):
                raise ValueError("There is nothing to vote on yet. Tick Blind and ask something.")
            reach = reach_of(studio, request, held)
            votes = votes_of(reach)
            votes.add(voted(now, verdict, best, system or ""))
            return {**panel.place(named_again(now)), **shown.shown(votes.all()), keys: reach.keys}
        return vote

    def look(held: Any, request: gr.Request) -> Changes:
        return shown.shown(votes_of(reach_of(studio, request, held)).all())

    def take(held: Any, request: gr.Request) -> str:
        return pairs_as_jsonl(votes_of(reach_of(studio, request, held)).all())

    def forget(held: Any, request: gr.Request) -> Changes:
        votes = votes_of(reach_of(studio, request, held))
        votes.forget()
        return shown.shown(votes.all())

    asked = [*panel.talking().values(), panel.system, keys]
    verdicts: list[tuple[Verdict, int | None]] = [("best", place) for place in range(MOST_LANES)]
    for button, (verdict, best) in zip(panel.voting, [*verdicts, ("tie", None), ("all bad", None)], strict=True):
        button.click(plainly(vote_for(verdict, best)), asked, [*panel.outputs(), *shown.outputs(), keys], **AT_ONCE)
    shown.fold.expand(plainly(look), keys, shown.outputs(), **AT_ONCE)
    saves(shown.take, take, shown.file, "preferences.jsonl", inputs=keys)
    shown.forget.click(plainly(forget), keys, shown.outputs(), **AT_ONCE)


def votes_of(reach: Reach) -> Votes:
    """This visitor's votes; with a name also those from before they signed in."""
    visitor = reach.visitor
    own, key = Votes(visitor.studio.home, reach.owner), dict(visitor.keys).get(FETCHED)
    if visitor.name and key:
        own.take_over(Votes(visitor.studio.home, owner_by_key(key)))
    return own


def standing(told: Sequence[Standing], votes: int) -> str:
    """The table of who won how often, and how sure that is."""
    if not votes:
        return f'<p class="empty">{theme.NO_VOTES}</p>'
    head = "".join(f'<th scope="col">{escaped(words)}</th>' for words in theme.TALLY_HEAD)
    rows = "".join(f'<tr><th scope="row" dir="auto">{escaped(one.by)}</th><td>{one.wins}</td><td>{one.ties}</td>'
                   f"<td>{one.losses}</td><td>{one.share:.0%}</td><td>{one.low:.0%} and {one.high:.0%}</td></tr>"
                   for one in told)
    return (f'<div class="scroll" tabindex="0" role="region" aria-label="{theme.TALLY}"><table class="numbers">'
            f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>")
