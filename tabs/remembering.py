"""What a reload must not lose: what was said, a message that is being written, the tab that is open.

The browser keeps them for as long as its own tab lives. A lost connection reloads the page too: Gradio does that by
itself.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import gradio as gr
from gradio.components import Component

from chat.conversation import Asking, Talks
from chat.export import asking_of
from chat.memory import talks_from
from tabs import theme
from tabs.chat_panel import ChatPanel
from tabs.events import AT_ONCE, QUIETLY, SAFELY, Changes, anew, hidden_text
from tabs.text import mapping_of

SAID, LEFT, RELOADED = (f"phi3-lora-studio-{what}" for what in ("said", "left", "reloaded"))
LONGEST_DRAFT = 20_000
# What a text of the page's says once it has heard what it was to hear.
HEARD = "yes"
SECONDS_BETWEEN_LOOKS = 5
# Not again and again: where more pages are open than the server can know, each would push out another.
MINUTES_BETWEEN_RELOADS = 10
REMEMBER = f"""(said, ...values) => {{
  {SAFELY}
  const asking = Object.fromEntries(%s.map((name, place) => [name, String(values[place] ?? '')]));
  safely(() => said ? sessionStorage.setItem('{SAID}', JSON.stringify({{said, asking}}))
                    : sessionStorage.removeItem('{SAID}'));
}}"""
# An address that names lanes opens those, but not again when its page is reloaded; the tab comes back by a reload only.
REMEMBERED = f"""(keys) => {{
  {SAFELY}
  const told = safely(() => {{
    const [visit] = performance.getEntriesByType('navigation');
    if (visit?.type === 'navigate' && new URL(window.location).searchParams.has('adapter')) return '';
    const [said, left] = ['{SAID}', '{LEFT}'].map((name) => JSON.parse(sessionStorage.getItem(name) ?? '{{}}'));
    if (visit?.type === 'navigate') delete left.tab;
    const draft = document.querySelector('#message textarea')?.value || left.draft;
    return JSON.stringify({{...said, ...left, draft}});
  }});
  return [keys, told ?? ''];
}}"""
RELOAD = f"""(lost) => {{
  {SAFELY}
  if (lost) safely(() => {{
    if (Date.now() - Number(sessionStorage.getItem('{RELOADED}') ?? 0) < {MINUTES_BETWEEN_RELOADS} * 60_000) return;
    sessionStorage.setItem('{RELOADED}', String(Date.now()));
    window.location.reload();
  }});
}}"""
# A page that has not yet got back what was left before leaves that as it is.
LEAVING = f"""{SAFELY}
window.addEventListener('pagehide', () => {{
  if (!document.querySelector('#page-opened :is(textarea, input)')?.value) return;
  const draft = document.querySelector('#message textarea')?.value ?? '';
  const tab = document.querySelector('#tabs [role=tab][aria-selected=true]')?.innerText.trim() ?? '';
  safely(() => sessionStorage.setItem('{LEFT}', JSON.stringify({{draft, tab}})));
}});"""


@dataclass(frozen=True)
class Remembered:
    """What a page knew before it was loaded again; no lanes where nothing had been said."""

    talks: Talks = ()
    asking: Asking = field(default_factory=Asking)
    draft: str = ""
    was_chatting: bool = False

    @classmethod
    def of(cls, kept: Any) -> Remembered:
        """Out of what the browser kept; nothing where that is damaged."""
        told = mapping_of(kept)
        asking = told.get("asking") if isinstance(told.get("asking"), dict) else {}
        draft = told.get("draft") if isinstance(told.get("draft"), str) else ""
        texts = {str(name): value for name, value in asking.items() if isinstance(value, str)}
        return cls(talks_from(told.get("said", "")), asking_of(texts), draft[:LONGEST_DRAFT],
                   told.get("tab") == theme.CHAT)


@dataclass(frozen=True)
class Presence:
    """Whether the server still knows this page: it forgets one that it hasn't heard of for an hour (a laptop that
    slept), or when too many others came. `is_known` is the server's own and would be forgotten with everything else,
    `was_known` the page's; `lost` makes it load itself again. `opened` says that the page has what it shall begin with,
    and `unopened` asks for it once more. `looks` ticks for as long as the page is open.
    """

    is_known: gr.State
    was_known: gr.Textbox
    lost: gr.Textbox
    opened: gr.Textbox
    unopened: gr.Textbox
    looks: gr.Timer

    def known(self) -> list[Component]:
        """What `look` is told."""
        return [self.is_known, self.was_known, self.opened]

    def noticed(self) -> list[Component]:
        """What `look` may change."""
        return [self.was_known, self.lost, self.unopened]

    def look(self, is_known: bool, was_known: str, opened: str) -> Changes:
        """What the page must hear. A page that isn't loaded yet is not lost; what it was told and never heard of (an
        answer that got lost on its way) it is told again.
        """
        if not is_known:
            return {self.lost: "lost" if was_known else ""}
        return {self.was_known: HEARD, **({} if opened else {self.unopened: anew()})}


def build() -> Presence:
    """Draw what nobody sees, where this is called: outside of all tabs, since what was never shown doesn't tick."""
    theme.markup(js_on_load=LEAVING, elem_classes="never-shown")
    return Presence(gr.State(False), hidden_text(), hidden_text(elem_id="page-lost"),
                    hidden_text(elem_id="page-opened"), hidden_text(), gr.Timer(SECONDS_BETWEEN_LOOKS))


def connect(presence: Presence, panel: ChatPanel, page: gr.Blocks) -> None:
    """The browser keeps what was said, and how answers are drawn, whenever something was said; and a page that the
    server has forgotten is loaded again.
    """
    asking: dict[str, Component] = {"system": panel.system, **panel.sampling}
    panel.said.change(None, [panel.said, *asking.values()], js=REMEMBER % json.dumps(list(asking)), **QUIETLY)
    page.load(lambda: (True, HEARD), outputs=[presence.is_known, presence.was_known], **AT_ONCE)
    presence.lost.change(None, presence.lost, js=RELOAD, **QUIETLY)
