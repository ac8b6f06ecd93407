"""The parts that the page is made of: built in app.py, handed to every tab."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters.check import CONVERTED, ready_folder
from adapters.library import Library
from phi3.machine import Machine
from phi3.models import BaseFacts, load_tokenizer
from training import lease
from training.limits import ONES_OWN, SHARED, Limits
from training.queue import Queue
from training.quota import TURN_SECONDS
from training.run import Run
from training.runs import Goes, Runs
from training.sharing import Sharing
from training.shelf import Shelf
from training.standby import Standby

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from phi3.generate import Answerer
    from phi3.giving import GivingAnswerer
    from phi3.lending import LentAnswerer
    from training.lease import Lend


@dataclass(frozen=True)
class Studio:
    """`tokenizer` and `answerer` are still loading when the page opens; whoever needs one waits for its result.

    `questions_at_once` is how many questions one click asks the base for a described dataset. Where the GPU is lent,
    `lend` trains a run on it for a while, and `turn_seconds` is how long at a time; elsewhere there is none. Where
    `many_visitors` come, as to a Space, each sees what is theirs; where this `signs_in`, they can do so with Hugging
    Face. `claims` is held while runs change hands; the `shelf` keeps
    data that was read lately. With a `standby`, runs begin in a process that has loaded everything already.
    """

    home: Path
    machine: Machine
    facts: BaseFacts
    suited: dict[str, Any]
    runs: Runs
    library: Library
    questions_at_once: int = 120
    lend: Lend | None = None
    turn_seconds: int = TURN_SECONDS
    many_visitors: bool = False
    signs_in: bool = False
    claims: threading.Lock = field(default_factory=threading.Lock)
    shelf: Shelf = field(default_factory=Shelf)
    standby: Standby | None = None
    tokenizer: Future[PreTrainedTokenizerFast] = field(default_factory=Future)
    answerer: Future[Answerer | GivingAnswerer | LentAnswerer] = field(default_factory=Future)

    @property
    def limits(self) -> Limits:
        """How much a visitor may."""
        return SHARED if self.many_visitors else ONES_OWN

    def is_lent(self, base: str) -> bool:
        """Whether a run on this base is trained on a GPU that is lent, turn after turn."""
        return self.lend is not None and base == self.facts.id

    def how_it_goes(self, base: str) -> Goes:
        """Whether a run on this base waits for its turn, or goes beside others since its GPU is lent."""
        return "beside others" if self.is_lent(base) else "in turn"

    @cached_property
    def queue(self) -> Queue:
        """Who waits for this machine: all runs, or where the GPU is lent those that its processor trains."""
        return Queue(self.runs, self._start, lambda run: not self.is_lent(run.config.base))

    @cached_property
    def _start(self) -> Callable[[Run], object]:
        """What starts a run's trainer here."""
        if self.lend is not None:
            return lease.start_without_card
        if self.machine.card_taken:
            return Sharing(self.machine, self.tokenizer_of, self._make_room).start
        return self.standby.train if self.standby else lease.start

    def tokenizer_of(self, facts: BaseFacts) -> PreTrainedTokenizerFast:
        """Its own base's tokenizer once that is loaded, and after it any other's: threads that import transformers at
        once trip each other.
        """
        own = self.tokenizer.result()
        return own if facts.id == self.facts.id else load_tokenizer(facts)

    def _make_room(self) -> None:
        """Answers let go of the card for a run that needs all of it; a base that couldn't be loaded holds nothing."""
        if self.answerer.exception() is None:
            self.answerer.result().give_up()

    def stand_by(self) -> None:
        """A run may begin soon. Until the base is loaded that comes first."""
        if self.standby and self.answerer.done():
            self.standby.call()

    def ready(self, adapter: Path) -> Path:
        """The folder of an adapter as the chat can take it; ValueError where it is unsafe, doesn't fit or does nothing.
        """
        return ready_folder(adapter, self.facts, self.home / CONVERTED)

    def browser_secret(self) -> str:
        """What the browser's kept values are written with: the same after a restart, or nobody could read them. A start
        on a full disk may have left it empty.
        """
        path = self.home / "browser_secret"
        if not (path.exists() and path.stat().st_size):
            self.home.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)
            path.write_text(secrets.token_hex(16), encoding="utf-8")
        return path.read_text(encoding="utf-8")
