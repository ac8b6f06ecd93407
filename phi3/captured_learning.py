"""A step of training as one call: on a card, forward and backward of a pack are captured once for all packs its size.

A step of Phi-3-mini is some four thousand kernels, and Python begins them in 0.15 s, however few tokens they are for.
On an H200 3,300 tokens take as long. Replayed as a CUDA graph they wait for nobody.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from phi3.captured import Capture
from phi3.learner import Learner
from phi3.packed import Packed

# With more tokens the kernels take longer than it takes to begin them.
MOST_TOKENS = 6_144
# Sizes are rounded up to an eighth of the power of two below, so that packs of a run have few: 6 % more tokens are
# computed in the mean, in rows of their own that nobody trains on.
PARTS, LEAST_PART = 8, 64
TRAINED_SHARES = (4, 2, 1)
# A capture takes as long as a step that isn't one.
SIZES_SEEN_BEFORE = 1
# Of these many sizes, each a few megabytes of the card's memory beside what all of them share.
MOST_SIZES = 32
# Replayed kernels are those that ran one by one, on the same numbers and with the same chance; atomics may differ.
LEAST_COSINE = 0.999

_log = logging.getLogger("studio")


@dataclass(frozen=True)
class Size:
    """What packs have in common that are computed by the same kernels: how many tokens, of them trained, and rows."""

    tokens: int
    trained: int
    rows: int

    def numbers(self) -> tuple[int, ...]:
        """How many integers each part of a pack has: ids, places, targets, trained and ends."""
        return self.tokens, self.tokens, self.tokens, self.trained, self.rows + 1


@dataclass(frozen=True)
class _Captured:
    """One size: where its pack is put, what runs it, and where the loss is then."""

    numbers: torch.Tensor
    replay: Any
    loss: torch.Tensor


class CapturedLearning:
    """Losses and gradients of packs, by the size of the pack.

    A size is captured when it is seen again, and the first capture is only believed where its replay says what the same
    step said without one. Where a capture fails, or says something else, or the card has no memory for one, every step
    is made one kernel at a time from then on: slower, and right.
    """

    def __init__(self, learner: Learner, weights: Sequence[torch.nn.Parameter], capture: Capture, rows: int,
                 longest: int) -> None:
        """`weights` are those that are trained. A pack has so many rows at most, of so many tokens at most."""
        self._learner, self._weights, self._capture = learner, list(weights), capture
        self._rows, self._longest = rows, longest
        self._made: dict[Size, _Captured] = {}
        self._seen: Counter[Size] = Counter()
        self._grads: list[torch.Tensor] = []
        self._scale = torch.ones((), device=self._weights[0].device)
        self.is_given_up = not learner.stays_in_place(longest)

    def __len__(self) -> int:
        return len(self._made)

    def learned(self, packed: Packed, scale: torch.Tensor) -> torch.Tensor | None:
        """The pack's loss, summed, whose gradients times `scale` are added to those of the weights; None where it has
        to be computed as it comes.
        """
        size = None if self.is_given_up else self._size(packed)
        if size is None:
            return None
        if size not in self._made:
            self._seen[size] += 1
            if self._seen[size] <= SIZES_SEEN_BEFORE or len(self._made) >= MOST_SIZES or not self._try(size, packed):
                return None
        return self._replayed(self._made[size], size, packed, scale)

    def _size(self, packed: Packed) -> Size | None:
        """None where it is too large to be worth it."""
        tokens, rows = len(packed.ids), len(packed.lengths)
        if tokens > MOST_TOKENS or rows > self._rows or packed.lengths[0] > self._longest or not len(packed.trained):
            return None
        whole = rounded(tokens)
        # The head is a fortieth of the work, so the shares of trained tokens are told apart but roughly.
        trained = next(whole // share for share in TRAINED_SHARES if whole // share >= len(packed.trained))
        # What fills up are rows, too, as long as a row may be.
        return Size(whole, trained, self._rows + -(-part_of(whole) // self._longest))

    def _try(self, size: Size, packed: Packed) -> bool:
        """Capture it, if that goes well."""
        try:
            self._made[size] = self._captured(size, packed)
        except torch.OutOfMemoryError:
            _log.warning("The card has no memory left to capture a step of the training as a CUDA graph. It learns the "
                         "same, and slower.")
            self._give_up()
        except Exception as problem:  # noqa: BLE001 - whatever it was, there is a slower way that works
            _log.warning("A step of the training can't be captured as a CUDA graph. It learns the same, and slower. "
                         "Why: %s", problem)
            self._give_up()
        return size in self._made

    def _captured(self, size: Size, packed: Packed) -> _Captured:
        if not self._grads:
            self._grads = [torch.zeros_like(weight) for weight in self._weights]
        before = self._kept()
        numbers = filled(packed, size, self._longest).to(self._scale.device)
        replay, loss = self._capture(lambda: self._step(numbers, size))
        if not self._made:
            self._compare(replay, loss, numbers, size)
        self._restore(before)
        return _Captured(numbers, replay, loss)

    def _compare(self, replay: Any, loss: torch.Tensor, numbers: torch.Tensor, size: Size) -> None:
        """RuntimeError where the replay and the same step without one disagree; both have the same chance."""
        chance = _chance(self._scale.device)
        replay()
        ours, said = torch.cat([one.flatten() for one in self._grads]).float(), float(loss)
        _set_chance(self._scale.device, chance)
        expected = float(self._step(numbers, size))
        theirs = torch.cat([one.flatten() for one in self._grads]).float()
        cosine = float(functional.cosine_similarity(ours, theirs, dim=0))
        if not (cosine >= LEAST_COSINE and abs(said - expected) <= (1 - LEAST_COSINE) * abs(expected)):
            raise RuntimeError(f"Replayed, it learns something else (cosine of the gradients {cosine:.4f}, loss "
                               f"{said:.4f} and not {expected:.4f}).")
        _set_chance(self._scale.device, chance)

    def _step(self, numbers: torch.Tensor, size: Size) -> torch.Tensor:
        """The loss; the gradients are where they always are. It asks the processor for nothing."""
        *parts, ends = numbers.split(size.numbers())
        pack = Packed(*parts, ends.int(), (self._longest,), filled=True)
        with torch.enable_grad(), torch.autocast(numbers.device.type, enabled=False):
            loss = self._learner.loss(pack)
            grads = torch.autograd.grad(loss, self._weights, self._scale)
        torch._foreach_copy_(self._grads, list(grads))
        return loss.detach()

    def _replayed(self, step: _Captured, size: Size, packed: Packed, scale: torch.Tensor) -> torch.Tensor:
        before = self._kept()
        step.numbers.copy_(filled(packed, size, self._longest))
        self._scale.copy_(scale)
        step.replay()
        self._restore(before, added=True)
        return step.loss.clone()

    def _kept(self) -> list[torch.Tensor] | None:
        """Gradients of earlier packs, apart from where the next ones will be."""
        held = [weight.grad for weight in self._weights]
        if held[0] is None:
            return None
        is_ours = bool(self._grads) and held[0] is self._grads[0]
        return [one.clone() for one in held] if is_ours else held

    def _restore(self, before: list[torch.Tensor] | None, added: bool = False) -> None:
        """The weights' gradients are those of earlier packs, with the new ones `added` or without."""
        grads = before
        if added and before is None:
            grads = self._grads
        elif added:
            torch._foreach_add_(before, self._grads)
        for weight, grad in zip(self._weights, grads or [None] * len(self._weights), strict=True):
            weight.grad = grad

    def _give_up(self) -> None:
        self._made.clear()
        self.is_given_up = True


def rounded(count: int) -> int:
    """Up to the next size."""
    part = part_of(count)
    return -(-count // part) * part


def part_of(count: int) -> int:
    """What sizes about so large are multiples of."""
    return max(LEAST_PART, (1 << (count.bit_length() - 1)) // PARTS)


def filled(packed: Packed, size: Size, longest: int) -> torch.Tensor:
    """A pack as (integers,), filled up to a size. What fills up the tokens are rows that see themselves alone and train
    nothing; what fills up the trained ones is a row's last token, which nothing is to follow.
    """
    more, rows, device = size.tokens - len(packed.ids), len(packed.lengths), packed.ids.device
    begins = torch.arange(len(packed.ids), size.tokens, longest, device=device)
    ends = torch.full((size.rows + 1,), size.tokens, device=device)
    ends[:rows] = packed.ends[:-1]
    ends[rows:rows + len(begins)] = begins
    trained = torch.full((size.trained,), packed.lengths[0] - 1, device=device)
    trained[:len(packed.trained)] = packed.trained
    parts = [functional.pad(one, (0, more), value=value)
             for one, value in ((packed.ids, 0), (packed.places, 0), (packed.targets, -100))]
    return torch.cat([*parts, trained, ends])


def _chance(device: torch.device) -> torch.Tensor:
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def _set_chance(device: torch.device, state: torch.Tensor) -> None:
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    else:
        torch.set_rng_state(state)
