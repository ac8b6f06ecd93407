"""Conversations in, streamed answers out: one base, shared batches, an adapter and a strength per row."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phi3.bounds import USUAL, Bounds
from phi3.lane import Answer, Lane, Sampling

if TYPE_CHECKING:
    from phi3.models import Base
    from phi3.rounds import Request

__all__ = ["Answer", "Answerer", "Lane", "Sampling", "answer_all", "as_it_is", "never"]

MOST_WAITING = 32


def never() -> bool:
    """The stop that is never asked for."""
    return False


def as_it_is(folder: Path) -> Path:
    """The folder of an adapter that was looked over before."""
    return folder


class Answerer:
    """One resident base and the adapters beside it; answers everybody who asks, in shared batches.

    Callers in several threads join the running batch at the next token. There is no thread of its own: of those who
    wait for an answer one computes for all (`_busy`), until it has something to show and another goes on. The base's
    own module is never touched: adapters sit in slots beside a shell of it.
    """

    def __init__(self, base: Base, ready: Callable[[Path], Path] = as_it_is, most_waiting: int = MOST_WAITING,
                 captures: bool = True) -> None:
        """`ready` is asked once for each adapter that is loaded: it gives the folder that PEFT can take, or raises a
        ValueError where the adapter can't be used (adapters/check.py). So many requests may wait for a place. Without
        `captures` a card is told of every kernel as it comes: for one who answers once and is gone.
        """
        from phi3.rounds import Rounds

        self.base = base
        self._rounds, self._most_waiting = Rounds(base, ready, captures), most_waiting
        self._changed = threading.Condition()
        self._busy = False
        self._requests: list[Request] = []
        self._left: list[Request] = []

    def answer(self, lanes: Sequence[Lane], stop: Callable[[], bool] = never) -> Iterator[list[Answer]]:
        """Snapshots of all lanes, at most 25 a second; in the last one every lane is done.

        A lane whose adapter can't be loaded ends with `end="error"` and a sentence; the others go on. While a request
        waits for a place the notes of its lanes say so, and where too many wait already, that is its answer.
        """
        from phi3.rounds import Request

        request = Request(tuple(lanes), stop)
        if not self._entered(request):
            yield [Answer(end="error", note=f"{self._most_waiting} others wait for an answer already. Try again in a "
                                            "moment.") for _ in lanes]
            return
        try:
            while True:
                snapshot = self._next(request)
                yield snapshot
                if all(answer.done for answer in snapshot):
                    return
        finally:
            self._leave(request)

    def _entered(self, request: Request) -> bool:
        with self._changed:
            waiting = sum(1 for one in self._requests if one.waiting and not one.rows)
            if waiting < self._most_waiting:
                self._requests.append(request)
            return waiting < self._most_waiting

    def _next(self, request: Request) -> list[Answer]:
        """The caller's next snapshot; until there is one it computes, unless somebody else does."""
        with self._changed:
            try:
                while request.fresh is None and request.problem is None:
                    if self._busy:
                        self._changed.wait()
                    else:
                        self._round()
            finally:
                self._changed.notify_all()
            if request.problem is not None:
                raise request.problem
            snapshot, request.fresh = request.fresh, None
            return snapshot

    def _round(self) -> None:
        """One token for everybody, while others may come and go: the lock is let go meanwhile, and taken again."""
        requests = list(self._requests)
        self._busy = True
        self._changed.release()
        try:
            self._rounds.once(requests)
        except BaseException as problem:
            # Nobody knows how far it came, so all begin anew.
            for request in requests:
                request.problem = problem
                self._rounds.drop(request)
            raise
        finally:
            self._changed.acquire()
            self._busy = False
            while self._left:
                self._rounds.drop(self._left.pop())
            if sum(request.fresh is not None for request in requests):
                self._changed.notify_all()

    def _leave(self, request: Request) -> None:
        """The caller is gone, and with it its rows: at once, or after the token that is being computed."""
        with self._changed:
            self._requests.remove(request)
            if self._busy:
                self._left.append(request)
            else:
                self._rounds.drop(request)


def answer_all(model: Any, base: Base, lanes: Sequence[Lane], bounds: Bounds = USUAL) -> list[Answer]:
    """Whole answers of one model to several conversations, as many at once as the bounds hold; training asks the model
    it trains.

    The model is put into eval mode for it and back.
    """
    from phi3.batch import Batch, all_answered

    was_training = model.training
    model.eval()
    try:
        return all_answered(Batch(model), base, lanes, bounds)
    finally:
        model.train(was_training)
