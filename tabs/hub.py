"""What one request reaches on the Hub: with whose token, and whose the adapters are that it fetches."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

import gradio as gr
from gradio.utils import get_space

from adapters.fetch import LONGEST_NAME, Wish, bring, here, is_on_a_hub
from adapters.hub import Account, Hub
from adapters.library import Adapter
from tabs import theme
from tabs.studio import Studio
from tabs.visitor import Keys, Visitor, token_of, visitor_of

# What the page does when nothing was typed in its part for a while: the component's own `submit`.
WHEN_TYPED = """let waiting;
element.closest('.hub-part').addEventListener('input', (event) => {
  if (!event.target.matches('.typed-slowly input, .typed-slowly textarea')) return;
  clearTimeout(waiting);
  waiting = setTimeout(() => trigger('submit'), 350);
});"""


@dataclass(frozen=True)
class Known:
    """Who the Hub says that this page's visitor is: asked once. None is nobody."""

    account: Account | None = None


@dataclass(frozen=True)
class Reach:
    """A request's visitor and the Hub. The token lives as long as the request, and no longer."""

    visitor: Visitor
    owner: str
    token: str = field(default="", repr=False)
    hub: Hub = field(default_factory=Hub)

    @property
    def keys(self) -> Keys:
        """What the browser keeps from now on, where something was fetched."""
        return dict(self.visitor.keys)

    def acquainted(self, known: Known | None) -> Known:
        """Who the Hub says that this is, asked where `known` doesn't say it; ValueError with one quiet sentence where
        the Hub is out of reach.
        """
        if known is not None and (known.account or not self.token):
            return known
        if not self.hub.is_reachable():
            raise ValueError(theme.HUB_AWAY)
        return Known(self.hub.account(self.token) if self.token else None)

    def has(self, name: str) -> bool:
        """Whether the adapter of this name is here, so that the Hub needn't be asked."""
        try:
            here(name, self.visitor.library)
        except ValueError:
            return False
        return True

    def bring(self, name: str, **more: Any) -> Adapter:
        """The visitor's adapter of any name: their library's, or one of the Hub's (owner/name or the address of its
        page), fetched for them where it isn't here. ValueError with a sentence where it can't be had.
        """
        library, limits = self.visitor.library, self.visitor.limits
        if not is_on_a_hub(name):
            return library.get(name)
        wish = Wish.of(name[:LONGEST_NAME], owner=self.owner, most_bytes=limits.adapter_bytes, **more)
        if not self.has(name):
            limits.check_fetch(library.all(), library.home)
            if not self.hub.is_reachable():
                raise ValueError(theme.HUB_AWAY)
        return bring(self.hub, wish, library, self.visitor.studio.facts, self.token or None)


def reach_of(studio: Studio, request: gr.Request | None, keys: Any = None) -> Reach:
    """What this request reaches."""
    visitor, owner = visitor_of(studio, request, keys).fetching()
    return Reach(visitor, owner, token_of(studio, request))


def this_space() -> str | None:
    """The id of the Space that this app is, if it is one."""
    return os.environ.get("SPACE_ID") if get_space() else None
