"""Conversations in, streamed answers out: one base, one batch, an adapter per row."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phi3.models import Base, shell_of
from phi3.template import Message, encode_prompt

if TYPE_CHECKING:
    import torch

RESIDENT_ADAPTERS = 8
SECONDS_BETWEEN_SNAPSHOTS = 0.04
# PEFT's word for a row of a mixed batch that takes no adapter.
NO_ADAPTER = "__base__"


@dataclass(frozen=True)
class Sampling:
    """How one lane's next token is drawn; temperature 0 is greedy and ignores the rest but the length."""

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    repetition_penalty: float = 1.0
    seed: int = 0
    max_new_tokens: int = 256


@dataclass(frozen=True)
class Lane:
    """One conversation to be answered: `adapter` is an adapter's folder, None for the base."""

    messages: tuple[Message, ...]
    adapter: str | None = None
    sampling: Sampling = Sampling()


@dataclass(frozen=True)
class Answer:
    """A lane's answer so far. `seconds` run from the batch's first prefill to this lane's last token.

    `end` is empty while it goes on, then stop, length, asked (somebody stopped it) or error; `note` says in a
    sentence what a reader should know.
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


def never() -> bool:
    """The stop that is never asked for."""
    return False


def as_it_is(folder: Path) -> Path:
    """The folder of an adapter that was looked over before."""
    return folder


class Answerer:
    """One resident base and the adapters loaded beside it; answers up to any number of lanes in one batch.

    Calls from several threads take turns. The base's own module is never touched: adapters sit in a shell of it.
    """

    def __init__(self, base: Base, ready: Callable[[Path], Path] = as_it_is) -> None:
        """`ready` is asked once for each adapter that is loaded: it gives the folder that PEFT can take, or raises a
        ValueError where the adapter can't be used (adapters/check.py).
        """
        self.base, self._ready = base, ready
        self._model: Any = shell_of(base)
        self._loaded: dict[tuple[str, int], str] = {}  # (folder, time of change) → PEFT's name, oldest use first
        self._count = 0
        # Not an RLock: a generator may be closed by another thread than the one that started it.
        self._turn = threading.Lock()

    def answer(self, lanes: Sequence[Lane], stop: Callable[[], bool] = never) -> Iterator[list[Answer]]:
        """Snapshots of all lanes, at most 25 a second; in the last one every lane is done.

        A lane whose adapter can't be loaded ends with `end="error"` and a sentence; the others go on.
        """
        with self._turn:
            names, failed = self._adapters_of(lanes)
            yield from _streamed(self._model, self.base, lanes, names, failed, stop)

    def _adapters_of(self, lanes: Sequence[Lane]) -> tuple[list[str], dict[int, Answer]]:
        names, failed = [], {}
        needed = {lane.adapter for lane in lanes if lane.adapter}
        for index, lane in enumerate(lanes):
            try:
                names.append(self._load(lane.adapter, needed) if lane.adapter else NO_ADAPTER)
            except (ValueError, RuntimeError, OSError, KeyError) as problem:
                reason = str(problem).splitlines()[0][:300] if str(problem) else type(problem).__name__
                names.append(NO_ADAPTER)
                failed[index] = Answer(end="error", note=f"This adapter could not be loaded: {reason}")
        return names, failed

    def _load(self, folder: str, needed: set[str]) -> str:
        from peft import PeftModel

        weights = Path(folder) / "adapter_model.safetensors"
        if not weights.is_file():
            raise ValueError(f"{weights.name} is missing in {Path(folder).name}.")
        key = (folder, weights.stat().st_mtime_ns)
        if key in self._loaded:
            self._loaded[key] = self._loaded.pop(key)
            return self._loaded[key]
        taken = str(self._ready(Path(folder)))
        self._make_room(needed)
        self._count += 1
        name = f"adapter{self._count}"
        options = {"adapter_name": name, "is_trainable": False, "autocast_adapter_dtype": False}
        if isinstance(self._model, PeftModel):
            self._model.load_adapter(taken, **options)
        else:
            self._model = PeftModel.from_pretrained(self._model, taken, **options).eval()
        self._loaded[key] = name
        return name

    def _make_room(self, needed: set[str]) -> None:
        """Forget the adapters that were used longest ago; PEFT keeps one always, so the limit is above one."""
        idle = [key for key in self._loaded if key[0] not in needed]
        while len(self._loaded) >= RESIDENT_ADAPTERS and idle:
            self._model.delete_adapter(self._loaded.pop(idle.pop(0)))


def answer_all(model: Any, base: Base, lanes: Sequence[Lane]) -> list[Answer]:
    """Whole answers of one model to several conversations in one batch; training asks the model it trains.

    The model is put into eval mode for it and back.
    """
    was_training = model.training
    model.eval()
    try:
        *_, last = _streamed(model, base, lanes, None, {}, never)
    finally:
        model.train(was_training)
    return last


@dataclass
class _Row:
    """A lane that is being answered: its prompt, the tokens so far, and the source of its chance."""

    index: int
    lane: Lane
    prompt: list[int]
    room: int
    adapter: str
    note: str
    chance: torch.Generator
    tokens: list[int] = field(default_factory=list)


def _streamed(model: Any, base: Base, lanes: Sequence[Lane], names: list[str] | None,
              failed: dict[int, Answer], stop: Callable[[], bool]) -> Iterator[list[Answer]]:
    answers = [failed.get(index, Answer()) for index in range(len(lanes))]
    rows = []
    for index, lane in enumerate(lanes):
        if index not in failed:
            row = _row(base, index, lane, names[index] if names else NO_ADAPTER)
            if isinstance(row, Answer):
                answers[index] = row
            else:
                rows.append(row)
    if rows:
        yield from _decoded(_Batch(model, rows, names is not None), base, answers, stop)
    else:
        yield answers


def _decoded(batch: _Batch, base: Base, answers: list[Answer], stop: Callable[[], bool]) -> Iterator[list[Answer]]:
    """Token by token until every row has ended; rows that end leave the batch."""
    started = shown = time.monotonic()
    while batch.rows:
        drawn = batch.step()
        now = time.monotonic()
        asked = stop()
        ended = []
        for row, token in zip(batch.rows, drawn, strict=True):
            end = _end_of(row, token, base, asked)
            if end != "stop":
                row.tokens.append(token)
            answers[row.index] = _answer(row, base, now - started, end)
            ended.append(bool(end))
        batch.keep([place for place, gone in enumerate(ended) if not gone])
        if any(ended) or now - shown >= SECONDS_BETWEEN_SNAPSHOTS:
            shown = now
            yield list(answers)


class _Batch:
    """Rows in one forward pass, with their key-value cache; left-padded, so that all end at the same place."""

    def __init__(self, model: Any, rows: list[_Row], mixed: bool) -> None:
        import torch
        from transformers import DynamicCache

        self.model, self.rows, self.mixed = model, rows, mixed
        self._cache = DynamicCache(config=model.config)
        longest = max(len(row.prompt) for row in rows)
        padded = [[0] * (longest - len(row.prompt)) + row.prompt for row in rows]
        seen = [[0] * (longest - len(row.prompt)) + [1] * len(row.prompt) for row in rows]
        self._input = torch.tensor(padded, device=model.device)
        self._mask = torch.tensor(seen, device=model.device)

    def step(self) -> list[int]:
        """One forward pass over what is new, and the next token of every row."""
        import torch

        # Entered anew each step: a generator may be resumed by another thread, and this mode belongs to a thread.
        with torch.inference_mode():
            places = (self._mask.cumsum(1) - 1).clamp(min=0)[:, -self._input.shape[1]:]
            extra = {"adapter_names": [row.adapter for row in self.rows]} if self._uses_adapters() else {}
            logits = self.model(input_ids=self._input, attention_mask=self._mask, position_ids=places,
                                past_key_values=self._cache, use_cache=True, logits_to_keep=1, **extra).logits[:, -1]
            drawn = [_drawn(row, logits[place].float()) for place, row in enumerate(self.rows)]
            self._input = torch.tensor(drawn, device=self._mask.device)[:, None]
            self._mask = torch.cat([self._mask, self._mask.new_ones(len(drawn), 1)], dim=1)
        return drawn

    def keep(self, places: list[int]) -> None:
        """Go on with these rows only."""
        if len(places) == len(self.rows):
            return
        import torch

        self.rows = [self.rows[place] for place in places]
        if not places:
            return
        with torch.inference_mode():
            chosen = torch.tensor(places, device=self._mask.device)
            self._cache.batch_select_indices(chosen)
            self._input, self._mask = self._input[chosen], self._mask[chosen]

    def _uses_adapters(self) -> bool:
        from peft import PeftModel

        return self.mixed and isinstance(self.model, PeftModel)


def _row(base: Base, index: int, lane: Lane, adapter: str) -> _Row | Answer:
    """The lane as a row; an Answer where the conversation can't fit the base's context."""
    import torch

    messages, dropped = list(lane.messages), 0
    prompt = encode_prompt(base.tokenizer, messages)
    wanted = min(lane.sampling.max_new_tokens, base.facts.context // 2)
    while len(prompt) + wanted > base.facts.context and _drop_oldest_turns(messages):
        prompt, dropped = encode_prompt(base.tokenizer, messages), dropped + 1
    room = min(lane.sampling.max_new_tokens, base.facts.context - len(prompt))
    if room < 1:
        return Answer(end="error", note=f"This message is {len(prompt):,} tokens long; the base reads at most "
                                        f"{base.facts.context:,}. Shorten it.")
    turns = "turn" if dropped == 1 else "turns"
    note = f"The oldest {dropped} {turns} no longer fit and were left out." if dropped else ""
    chance = torch.Generator().manual_seed(lane.sampling.seed)
    return _Row(index, lane, prompt, room, adapter, note, chance)


def _drop_oldest_turns(messages: list[Message]) -> bool:
    """Drop the oldest question with its answer, keeping system messages and the last question."""
    places = [place for place, turn in enumerate(messages) if turn["role"] == "user"]
    if len(places) < 2:
        return False
    kept = [turn for turn in messages[:places[1]] if turn["role"] == "system"]
    messages[:places[1]] = kept
    return True


def _end_of(row: _Row, token: int, base: Base, asked: bool) -> str:
    if token in base.stop_tokens:
        return "stop"
    if asked:
        return "asked"
    return "length" if len(row.tokens) + 1 >= row.room else ""


def _answer(row: _Row, base: Base, seconds: float, end: str) -> Answer:
    text = base.tokenizer.decode(row.tokens, skip_special_tokens=True)
    # A character of several bytes may still be on its way.
    return Answer(text.strip() if end else text.lstrip().rstrip("\ufffd"), len(row.tokens), seconds, end, row.note)


def _drawn(row: _Row, logits: torch.Tensor) -> int:
    """The row's next token from its logits (vocabulary,), drawn on the CPU by the row's own generator."""
    import torch

    how = row.lane.sampling
    if how.temperature <= 0:
        return int(logits.argmax())
    logits = _penalised(logits.cpu(), row.prompt + row.tokens, how.repetition_penalty) / how.temperature
    if how.top_k > 0:
        logits[logits < logits.topk(min(how.top_k, len(logits))).values[-1]] = -torch.inf
    chances, order = logits.softmax(-1).sort(descending=True)
    # Nucleus sampling (Holtzman et al., 2020): the fewest tokens whose chances reach top_p; never none.
    outside = chances.cumsum(-1) - chances >= how.top_p
    outside[0] = False
    return int(order[torch.multinomial(chances.masked_fill(outside, 0.0), 1, generator=row.chance)])


def _penalised(logits: torch.Tensor, seen: list[int], penalty: float) -> torch.Tensor:
    """CTRL's repetition penalty (Keskar et al., 2019): what was seen becomes less likely by this factor."""
    import torch

    logits = logits.clone()
    if penalty != 1.0:
        places = torch.tensor(sorted(set(seen)))
        values = logits[places]
        logits[places] = torch.where(values > 0, values / penalty, values * penalty)
    return logits


def greedy(messages: Sequence[Message], max_new_tokens: int) -> Lane:
    """A lane of the base, answered greedily."""
    return Lane(tuple(messages), sampling=replace(Sampling(), max_new_tokens=max_new_tokens))
