"""A step of few rows as one call: on a card its kernels are captured once, as a CUDA graph, and replayed together.

A step of Phi-3-mini is some six hundred kernels, with adapters nine hundred, most of which run for a few microseconds
and take as long to be begun from Python. Replayed they wait for nobody.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass

import torch
from torch.nn import functional

from phi3.machine import is_out_of_memory

# Steps of more rows are arithmetic enough to hide how they are begun, and each row needs a place for its adapter.
MOST_CAPTURED_ROWS = 8
# A capture takes as long as a few steps, so a batch that is about to change again isn't worth one.
STEPS_BEFORE = 3
# Of these many kinds of step, each a few megabytes of the card's memory beside what all of them share.
MOST_CAPTURES = 16
# After the card had no memory for a capture.
STEPS_UNTIL_AGAIN = 1_000
# Replayed kernels are those that ran one by one, so their logits differ by what atomics may; a step at fixed places
# attends in another kernel, and the roundings of bf16 add up over the layers (benchmarks/card/agreement.py).
LEAST_COSINE_REPLAYED, LEAST_COSINE_FIXED = 0.9999, 0.99

Body = Callable[[torch.Tensor], torch.Tensor]
# Of a function without arguments: what runs it again, at the same places in memory, and what it returned there.
Capture = Callable[[Callable[[], torch.Tensor]], tuple[Callable[[], None], torch.Tensor]]

_log = logging.getLogger("studio")


@dataclass(frozen=True)
class _Captured:
    """One kind of step: where its inputs are put, what runs it, and where its logits are then."""

    inputs: torch.Tensor
    replay: Callable[[], None]
    logits: torch.Tensor

    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        self.inputs.copy_(inputs)
        self.replay()
        return self.logits


class Captures:
    """Steps of one model by their kind: how many rows, where the cache lies, which places hold the rows' adapters.

    A kind is captured at its third step, and only believed where a replay says what the plain step said. Where a
    capture fails, or says something else, steps are made one kernel at a time from then on: slower, and right.
    """

    def __init__(self, capture: Capture, device: torch.device) -> None:
        self._capture, self._device = capture, device
        self._made: dict[Hashable, _Captured] = {}  # oldest use first
        self._seen: Counter[Hashable] = Counter()
        self.is_given_up = False

    def __len__(self) -> int:
        return len(self._made)

    def step(self, kind: Hashable, inputs: torch.Tensor, plain: Body, fixed: Body) -> torch.Tensor:
        """Logits (rows, vocabulary) of a step of this kind; they are overwritten by the next one.

        `inputs` are of one shape at every step of a kind, in the machine's own memory. `plain` computes the step out of
        them on the device, and `fixed` the same, out of nothing else but what lies at the same places at every such
        step.
        """
        found = self._made.pop(kind, None)
        if found is not None:
            self._made[kind] = found
            return found(inputs)
        inputs = inputs.to(self._device)
        logits = plain(inputs)
        self._seen[kind] += 1
        if self._seen[kind] >= STEPS_BEFORE:
            self._try(kind, inputs, fixed, logits)
        return logits

    def forget(self) -> None:
        """What steps read has moved: their kernels would look for it where it was."""
        self._made.clear()
        self._seen.clear()

    def _try(self, kind: Hashable, inputs: torch.Tensor, fixed: Body, plain: torch.Tensor) -> None:
        """Capture it, if that goes well. A step may be made any number of times: it writes the same each time."""
        try:
            made = self._captured(inputs, fixed, plain)
        except Exception as problem:  # noqa: BLE001 - whatever it was, there is a slower way that works
            if is_out_of_memory(problem):
                _log.warning("The card has no memory left to capture a step of the chat as a CUDA graph. Answers are "
                             "the same, and come slower.")
                self._seen[kind] = -STEPS_UNTIL_AGAIN
                return
            _log.warning("A step of the chat can't be captured as a CUDA graph. Answers are the same, and come slower. "
                         "Why: %s", problem)
            self._give_up()
        else:
            self._made[kind] = made
            while len(self._made) > MOST_CAPTURES:
                self._made.pop(next(iter(self._made)))

    def _captured(self, inputs: torch.Tensor, fixed: Body, plain: torch.Tensor) -> _Captured:
        one_by_one = fixed(inputs).clone()
        replay, logits = self._capture(lambda: fixed(inputs))
        replay()
        for what, ours, theirs, least in (("Replayed, it", logits, one_by_one, LEAST_COSINE_REPLAYED),
                                          ("At fixed places it", one_by_one, plain, LEAST_COSINE_FIXED)):
            cosine = float(functional.cosine_similarity(ours.float(), theirs.float(), dim=-1).min())
            if not cosine >= least:
                raise RuntimeError(f"{what} says something else (cosine of the logits {cosine:.4f}).")
        return _Captured(inputs, replay, logits)

    def _give_up(self) -> None:
        self.forget()
        self.is_given_up = True


def capture_on(device: torch.device) -> Capture | None:
    """How steps are captured on this device; None where each is begun as it comes."""
    return _GraphPool() if device.type == "cuda" else None


class _GraphPool:
    """CUDA graphs that share their memory: one is replayed at a time, and its logits are read before the next."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()
        self._stays: torch.cuda.CUDAGraph | None = None

    def __call__(self, body: Callable[[], torch.Tensor]) -> tuple[Callable[[], None], torch.Tensor]:
        if self._stays is None:
            # A pool that no graph has a part in any more, while something of it is in use (cuBLAS's workspace, say),
            # takes no other.
            self._stays, _ = self._captured(lambda: torch.zeros(1, device="cuda"))
        graph, made = self._captured(body)
        return graph.replay, made

    def _captured(self, body: Callable[[], torch.Tensor]) -> tuple[torch.cuda.CUDAGraph, torch.Tensor]:
        graph, before = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
        try:
            # Other threads may use the card meanwhile, for another model.
            with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
                made = body()
        except BaseException:
            # Where a capture ends in an error torch leaves its own stream the current one.
            torch.cuda.set_stream(before)
            _draws_again(torch.cuda.default_generators[torch.cuda.current_device()])
            raise
        return graph, made


def _draws_again(generator: torch.Generator) -> None:
    """A capture that ended in an error leaves a card's generator waiting for its end, and nobody could draw from it."""
    if hasattr(generator, "graphsafe_set_state"):
        generator.graphsafe_set_state(generator.clone_state())
