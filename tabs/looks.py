"""Looks at something that goes on: asked for by the page again and again, even where an answer got lost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import gradio as gr
from gradio.components import Component

from tabs.events import LOOKING, Changes
from tabs.plainly import plainly

SECONDS_UNTIL_AGAIN = 8


@dataclass(frozen=True)
class Looks:
    """`timer` asks how it gets on, and `again` asks the same less often: an event of `timer` that is never answered
    would be its last.
    """

    timer: gr.Timer
    again: gr.Timer

    @classmethod
    def every(cls, seconds: float) -> Looks:
        """So many seconds apart, and none until something goes on."""
        return cls(gr.Timer(seconds, active=False), gr.Timer(SECONDS_UNTIL_AGAIN, active=False))

    def both(self) -> list[Component]:
        """What `going` changes."""
        return [self.timer, self.again]

    def going(self, goes_on: bool, may_go_on: bool = False) -> Changes:
        """Whether the page asks at all; seldom where nothing goes on but may, begun or deleted from elsewhere."""
        return {self.timer: gr.Timer(active=goes_on), self.again: gr.Timer(active=goes_on or may_go_on)}

    def connect(self, look: Callable[..., Changes], inputs: Sequence[Component], outputs: Sequence[Component]) -> None:
        """What each look does."""
        for timer in self.both():
            timer.tick(plainly(look), list(inputs), list(outputs), **LOOKING)
