"""What goes into a chat and comes out of it, as plain values: a lane, how its tokens are drawn, its answer so far."""

from __future__ import annotations

from dataclasses import dataclass, replace

from phi3.template import Message

# So many times what it was trained to add, an adapter may add at most.
STRONGEST = 2
# How an answer comes to its end: by itself, at the longest that was allowed, because somebody stopped it, or it failed.
ENDS = ("stop", "length", "asked", "error")


@dataclass(frozen=True)
class Sampling:
    """How one lane's next token is drawn; temperature 0 is greedy and ignores the rest but the repetition penalty, the
    length and the stop texts.

    An answer that comes to one of the `stop_texts` ends before it.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int = 0
    max_new_tokens: int = 256
    stop_texts: tuple[str, ...] = ()

    @property
    def is_likeliest(self) -> bool:
        """Whether the next token is the likeliest, whatever was said before."""
        return self.temperature <= 0 and self.repetition_penalty == 1


@dataclass(frozen=True)
class Lane:
    """One conversation to be answered: `adapter` is an adapter's folder, None for the base.

    `strength`, from 0 to STRONGEST, multiplies what the adapter adds: 0 is the base, 1 the adapter as it was trained.
    """

    messages: tuple[Message, ...]
    adapter: str | None = None
    sampling: Sampling = Sampling()
    strength: float = 1.0


@dataclass(frozen=True)
class Answer:
    """A lane's answer so far. `seconds` run from when its question began to be read to its last token.

    `end` is empty while it goes on, then one of ENDS; `note` says in a sentence what a reader should know.
    """

    text: str = ""
    tokens: int = 0
    seconds: float = 0.0
    end: str = ""
    note: str = ""

    @property
    def done(self) -> bool:
        """Whether nothing more will come."""
        return bool(self.end)

    def cut_short(self, why: str) -> Answer:
        """The same, and where it was stopped, why: not because somebody asked for it."""
        return replace(self, note=" ".join(filter(None, (self.note, why)))) if self.end == "asked" else self
