"""Whose turn it is: everybody's rows in shared batches, a token a round, and who may come in next."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from phi3.batch import Batch
from phi3.bounds import bounds_on
from phi3.by_peft import served_by_peft
from phi3.captured import capture_on
from phi3.lane import Answer, Lane
from phi3.lora_files import CONFIG, WEIGHTS, Unsuited
from phi3.machine import is_out_of_memory, this_machine
from phi3.row import Row, row_of
from phi3.slots import Slots

if TYPE_CHECKING:
    from phi3.models import Base

SECONDS_BETWEEN_SNAPSHOTS = 0.04
# Where rows have more than one adapter, each holds a copy of its own beside each layer.
MOST_MIXED_ROWS = 8
MOST_BY_PEFT = 2

Adapter = tuple[str, int, int]  # a folder, and when its weights and its config were written


@dataclass
class Request:
    """What one caller asked, and how far it is. `fresh` is a snapshot that the caller has not seen yet."""

    lanes: Sequence[Lane]
    stop: Callable[[], bool]
    answers: list[Answer] = field(default_factory=list)
    waiting: deque[int] = field(default_factory=deque)
    rows: dict[int, Row] = field(default_factory=dict)
    next: Row | Answer | None = None
    shown: float = 0.0
    fresh: list[Answer] | None = None
    problem: BaseException | None = None

    def __post_init__(self) -> None:
        self.answers = [Answer() for _ in self.lanes]
        self.waiting = deque(range(len(self.lanes)))

    @property
    def done(self) -> bool:
        """Whether every lane has ended."""
        return not self.waiting and not self.rows

    def end(self, index: int, answer: Answer) -> None:
        """The last word of one lane; the caller is told at once."""
        self.rows.pop(index, None)
        self.answers[index] = answer
        self.shown = 0.0


class Rounds:
    """All batches of one base: that of the slots, and one for each adapter that only PEFT can serve.

    Nothing here knows of threads: whoever calls sees to it that nobody else does at the same time.
    """

    def __init__(self, base: Base, ready: Callable[[Path], Path], captures: bool = True) -> None:
        self._base, self._ready = base, ready
        self._bounds = bounds_on(this_machine(), base.facts.shape, base.model.dtype.itemsize)
        self.slots = Slots(base, captures=captures)
        self._shared = Batch(self.slots.model, self.slots, capture_on(base.model.device) if captures else None)
        self._by_peft: dict[Adapter, tuple[Batch, str]] = {}  # and why; oldest use first
        self._unsuited: dict[Adapter, tuple[Path, str]] = {}  # looked over, and waiting for PEFT

    def once(self, requests: Sequence[Request]) -> None:
        """One token for every row, of all who asked in their order. New rows are read first, and then get theirs."""
        joining = self._admitted(requests)
        asked = {id(request): request.stop() for request in requests}
        for batch in self._batches():
            for row, token in self._spoken(batch, joining.get(id(batch), [])):
                self._add(row, token, asked[id(row.place[0])])
            batch.keep([place for place, row in enumerate(batch.rows) if not row.end])
        now = time.monotonic()
        for request in requests:
            if asked[id(request)]:
                self._end_waiting(request)
            self._show(request, requests, now)

    def drop(self, request: Request) -> None:
        """The caller has left: its rows go, and what they held is free."""
        request.waiting.clear()
        rows = {id(row) for row in request.rows.values()}
        for row in request.rows.values():
            self._give_back(row)
        request.rows.clear()
        for batch in self._batches():
            batch.keep([place for place, row in enumerate(batch.rows) if id(row) not in rows])

    def _batches(self) -> list[Batch]:
        return [self._shared, *(batch for batch, _ in self._by_peft.values())]

    def _spoken(self, batch: Batch, new: list[Row]) -> list[tuple[Row, int | None]]:
        """A token each of new rows, or else of all. Where memory is short new rows end, or else the one that may become
        longest, and the others go on.
        """
        new = new or batch.turned_anew()
        if not (new or batch.rows):
            return []
        try:
            return list(zip(new or batch.rows, batch.join(new) if new else batch.step(), strict=True))
        except (MemoryError, RuntimeError) as problem:
            if not is_out_of_memory(problem):
                raise
            for row in new or [max(batch.rows, key=lambda row: row.most)]:
                row.end, row.note = "error", "There is not enough memory for this just now. Try again, or shorten it."
                self._close(row)
            return []

    def _add(self, row: Row, token: int | None, asked: bool) -> None:
        row.add(token, self._base, asked)
        row.seconds = time.monotonic() - row.began
        if row.end:
            self._close(row)

    def _close(self, row: Row) -> None:
        request, index = row.place
        self._give_back(row)
        request.end(index, row.answer(self._base))

    def _give_back(self, row: Row) -> None:
        if row.slot:
            self.slots.give_back(row.slot)

    def _admitted(self, requests: Sequence[Request]) -> dict[int, list[Row]]:
        """Rows that come in now, by batch: of whoever has the fewest in, and among those of who asked first."""
        joining: dict[int, list[Row]] = {}
        while waiting := [request for request in requests if request.waiting]:
            request = min(waiting, key=lambda one: len(one.rows))
            index = request.waiting[0]
            row = request.next = request.next or row_of(self._base, request.lanes[index], self._bounds)
            batch = self._batch_for(row, joining) if isinstance(row, Row) else row
            if batch is None:
                break
            request.waiting.popleft()
            request.next = None
            if isinstance(batch, Answer):
                request.end(index, batch)
                continue
            row.place, row.began = (request, index), time.monotonic()
            request.rows[index] = row
            joining.setdefault(id(batch), []).append(row)
        return joining

    def _batch_for(self, row: Row, joining: dict[int, list[Row]]) -> Batch | Answer | None:
        """Where a row belongs; None where there is no room for it now, an Answer where there never is."""
        new = [one for rows in joining.values() for one in rows]
        rows = [row, *new, *(one for batch in self._batches() for one in batch.rows)]
        if not self._bounds.hold([one.most for one in rows]):
            return None
        if len(rows) > MOST_MIXED_ROWS and len({one.lane.adapter for one in rows} - {None}) > 1:
            return None
        if not self._bounds.read_at_once([len(one.prompt) for one in [row, *new]]):
            return None
        try:
            return self._with_adapter(row, joining) if row.lane.adapter else self._shared
        except Exception as problem:  # noqa: BLE001 - PEFT raises whatever a config leads it to, and others go on
            reason = str(problem).splitlines()[0][:300] if str(problem) else type(problem).__name__
            return Answer(end="error", note=f"This adapter could not be loaded: {reason}")

    def _with_adapter(self, row: Row, joining: Container[int]) -> Batch | None:
        key = _as_it_is_now(row.lane.adapter)
        if key not in self._by_peft and key not in self._unsuited:
            slot = self.slots.held(key)
            if slot is None and not self.slots.has_room():
                return None
            row.slot = slot or self._loaded(key)
            if row.slot:
                return self._shared
        if key not in self._by_peft:
            if not self._has_room_by_peft(joining):
                return None
            folder, why = self._unsuited.pop(key)
            self._by_peft[key] = Batch(served_by_peft(self._base, folder)), why
        self._by_peft[key] = batch, why = self._by_peft.pop(key)
        row.note = " ".join(filter(None, (row.note, _slower(row.lane, why))))
        return batch

    def _loaded(self, key: Adapter) -> int:
        """The slot that the adapter is in now; 0 where PEFT has to serve it, which is kept for when it has room."""
        came = Path(key[0])
        folder = self._ready(came)
        if folder != came:
            self.slots.demand_no_other_ends(came)
        try:
            return self.slots.load(key, folder)
        except Unsuited as why:
            self._unsuited[key] = folder, str(why)
            return 0

    def _has_room_by_peft(self, joining: Container[int]) -> bool:
        """Whether PEFT may serve one more; the one that was used longest ago makes room, unless rows are joining it."""
        idle = [key for key, (batch, _) in self._by_peft.items() if not batch.rows and id(batch) not in joining]
        if len(self._by_peft) >= MOST_BY_PEFT and idle:
            del self._by_peft[idle[0]]
        return len(self._by_peft) < MOST_BY_PEFT

    def _end_waiting(self, request: Request) -> None:
        while request.waiting:
            request.end(request.waiting.popleft(), Answer(end="asked"))

    def _show(self, request: Request, requests: Sequence[Request], now: float) -> None:
        """A snapshot for the caller, if it is time for one."""
        if now - request.shown < SECONDS_BETWEEN_SNAPSHOTS and not request.done:
            return
        request.shown = now
        for index, row in request.rows.items():
            request.answers[index] = row.answer(self._base)
        note = "" if request.rows else _in_the_queue(request, requests)
        for index in request.waiting:
            request.answers[index] = replace(request.answers[index], note=note)
        request.fresh = list(request.answers)


def _as_it_is_now(folder: str) -> Adapter:
    files = [Path(folder) / name for name in (WEIGHTS, CONFIG)]
    for file in files:
        if not file.is_file():
            raise ValueError(f"{file.name} is missing in {Path(folder).name}.")
    weights, config = (file.stat().st_mtime_ns for file in files)
    return folder, weights, config


def _slower(lane: Lane, why: str) -> str:
    strength = "" if lane.strength == 1 else " Its strength can't be changed: it speaks at 1."
    return f"PEFT serves this adapter, which is slower: {why}.{strength}"


def _in_the_queue(request: Request, requests: Sequence[Request]) -> str:
    before = sum(1 for one in requests[:requests.index(request)] if one.waiting and not one.rows)
    return f"Waiting for a free place; {before} asked before you." if before else "Waiting for the next free place."
