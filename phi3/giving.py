"""Answers on a card that a run may need for itself: their base goes for it, and comes back when somebody asks again."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing

from phi3.generate import Answer, Answerer, Lane, never

TAKEN = "A run needs the whole card, so nothing is answered until it ends."
LOADS_AGAIN = "The base is being loaded again: a run had the whole card."


class GivingAnswerer:
    """What an Answerer is to the page, on a card that is not always there for answers."""

    def __init__(self, load: Callable[[], Answerer], is_taken: Callable[[], bool]) -> None:
        """`load` is asked now, unless the card `is_taken`, and again by the first who asks after it was given up."""
        self._load, self._is_taken = load, is_taken
        self._loading = threading.Lock()
        self._answerer = None if is_taken() else load()

    def answer(self, lanes: Sequence[Lane], stop: Callable[[], bool] = never) -> Iterator[list[Answer]]:
        """Snapshots as an Answerer gives them, the last ones cut short where the card is given up meanwhile; ValueError
        where it is gone already.
        """
        if self._is_taken():
            raise ValueError(TAKEN)
        if self._answerer is None:
            yield [Answer(note=LOADS_AGAIN) for _ in lanes]
        try:
            yield from self._answered(self._loaded(), lanes, stop)
        finally:
            if self._answerer is None:
                let_go()

    def _answered(self, answerer: Answerer, lanes: Sequence[Lane], stop: Callable[[], bool]) -> Iterator[list[Answer]]:
        def is_given_up() -> bool:
            return self._answerer is not answerer

        with closing(answerer.answer(lanes, lambda: stop() or is_given_up())) as snapshots:
            for snapshot in snapshots:
                if is_given_up() and not stop():
                    snapshot = [answer.cut_short(TAKEN) for answer in snapshot]
                yield snapshot

    def give_up(self) -> None:
        """Let the base go: at once, or after the token that is being computed."""
        with self._loading:
            self._answerer = None
        let_go()

    def _loaded(self) -> Answerer:
        with self._loading:
            if self._answerer is None:
                self._answerer = self._load()
            return self._answerer


def let_go() -> None:
    """Give what nobody holds any more back to the card. A base and its layers know each other."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
