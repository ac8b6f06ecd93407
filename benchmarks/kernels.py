"""How long does each kernel of phi3/kernels.py take on a card, beside plain torch? `python -m benchmarks.kernels`.

A call's time on the card is that of twenty in a CUDA graph, again and again at the same places: what fits into the
card's cache is found there. `begun` is what a call costs the processor without a graph, and `differs` the largest
difference from the plain way, as a share of the largest number.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from benchmarks.report import asked_of_a_card, table, write
from phi3 import kernels, kernels_check
from phi3.fused import Gated, Normed, _turned

CALLS, REPLAYS = 20, 5
EPSILON, DROPOUT = 1e-5, 0.05

Body = Callable[[], object]


@dataclass(frozen=True)
class Sizes:
    """Phi-3-mini's, if nothing else is said."""

    width: int = 3072
    intermediate: int = 8192
    heads: int = 32
    size: int = 96
    rank: int = 16
    room: int = 1024


@dataclass(frozen=True)
class Case:
    """A kernel, what says the same in plain torch (but where chance decides), and how many bytes must be moved.

    Both write into `written`.
    """

    name: str
    bytes: int
    ours: Body
    plain: Body
    is_chance: bool = False
    written: tuple[torch.Tensor, ...] = ()


class _Saved:
    """Stands in for autograd's context."""

    def save_for_backward(self, *tensors: torch.Tensor) -> None:
        self.saved_tensors = tensors


def some(*shape: int, device: str) -> torch.Tensor:
    return torch.randn(shape, device=device, dtype=torch.bfloat16)


def norm_back_plainly(of_total: torch.Tensor, of_normed: torch.Tensor, total: torch.Tensor,
                      weight: torch.Tensor) -> Body:
    """As autograd goes back through torch's own norm on a card, and as `Normed` does elsewhere."""
    if total.device.type == "cuda":
        shape = [total.shape[1]]
        _, scale = torch.ops.aten._fused_rms_norm(total, shape, weight, EPSILON)
        back = torch.ops.aten._fused_rms_norm_backward
        return lambda: of_total + back(of_normed, total, shape, scale, weight, [True, False])[0]
    saved = _Saved()
    Normed.forward(saved, total, weight, EPSILON)
    return lambda: of_total + Normed.backward(saved, of_normed)[0]


def training_cases(tokens: int, sizes: Sizes, device: str) -> Iterator[Case]:
    width, middle, heads, size = sizes.width, sizes.intermediate, sizes.heads, sizes.size
    hidden, more, of_total, of_normed = (some(tokens, width, device=device) for _ in range(4))
    weight, seeds = some(width, device=device), torch.arange(4, device=device)

    def added_plainly() -> tuple[torch.Tensor, torch.Tensor]:
        total = hidden + more
        return total, functional.rms_norm(total, (width,), weight, EPSILON)

    def dropped_plainly() -> torch.Tensor:
        return hidden * (torch.rand_like(hidden, dtype=torch.float32) >= DROPOUT).view(torch.uint8)

    wide = 2 * tokens * width
    yield Case("added_and_normed", 4 * wide, lambda: kernels.added_and_normed(hidden, more, weight, EPSILON),
               added_plainly)
    yield Case("added_and_normed_back", 4 * wide,
               lambda: kernels.added_and_normed_back(of_total, of_normed, hidden, weight, EPSILON),
               norm_back_plainly(of_total, of_normed, hidden, weight))
    yield Case("dropped", 2 * wide, lambda: kernels.dropped(hidden, DROPOUT, seeds, 1), dropped_plainly, True)
    target = torch.zeros_like(hidden)
    yield Case("add_dropped", 3 * wide, lambda: kernels.add_dropped(target, more, DROPOUT, seeds, 2),
               lambda: target.add_(dropped_plainly()), True)

    both, slope, saved = some(tokens, 2 * middle, device=device), some(tokens, middle, device=device), _Saved()
    Gated.forward(saved, both)
    yield Case("gated", 6 * tokens * middle, lambda: kernels.gated(both), lambda: Gated.forward(_Saved(), both))
    yield Case("gated_back", 10 * tokens * middle, lambda: kernels.gated_back(slope, both),
               lambda: Gated.backward(saved, slope))

    turning, values = some(tokens, 3 * heads, size, device=device).split((2 * heads, heads), dim=1)
    cos, sin, half = some(tokens, 1, size, device=device), some(tokens, 1, size, device=device), size // 2
    yield Case("turned", 8 * tokens * heads * size, lambda: kernels.turned(turning, cos, sin, half, 1.0),
               lambda: _turned(turning, cos, sin, half, 1.0))
    yield Case("turned_with_rest", 12 * tokens * heads * size,
               lambda: kernels.turned_with_rest(turning, values, cos, sin, half),
               lambda: torch.cat([_turned(turning, cos, sin, half, -1.0), values], 1))


def step_cases(rows: int, sizes: Sizes, device: str) -> Iterator[Case]:
    width, middle, heads, size, room = sizes.width, sizes.intermediate, sizes.heads, sizes.size, sizes.room
    hidden, more, weight = (some(*shape, device=device) for shape in ((rows, width), (rows, width), (width,)))

    def added_plainly() -> tuple[torch.Tensor, torch.Tensor]:
        total = hidden + more
        return total, functional.rms_norm(total, (width,), weight, EPSILON)

    yield Case("added_and_normed", 8 * rows * width, lambda: kernels.added_and_normed(hidden, more, weight, EPSILON),
               added_plainly)
    both = some(rows, 2 * middle, device=device)

    def gated_plainly() -> torch.Tensor:
        gate, up = both.chunk(2, dim=-1)
        return up * functional.silu(gate)

    yield Case("gated", 6 * rows * middle, lambda: kernels.gated(both), gated_plainly)
    yield cache_case(rows, heads, size, room, device)
    for name, wide, out in (("qkv", width, 3 * heads * size), ("o", heads * size, width),
                            ("gate_up", width, 2 * middle), ("down", middle, width)):
        yield beside_case(name, rows, wide, out, sizes.rank, device)


def cache_case(rows: int, heads: int, size: int, room: int, device: str) -> Case:
    qkv, cos, sin = (some(*shape, device=device) for shape in ((rows, 3 * heads * size), (rows, 1, size),
                                                               (rows, 1, size)))
    keys, values = (torch.zeros(rows, heads, room, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    lengths, half, count = torch.arange(rows, device=device) + room // 2, size // 2, rows * heads * size
    partners = torch.arange(size, device=device).roll(half)
    where = (torch.arange(-1, heads * rows * room - 1, room, device=device).view(rows, -1) + lengths[:, None]).flatten()

    def plainly() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        turning, new = qkv.unflatten(-1, (3 * heads, -1)).split((2 * heads, heads), dim=-2)
        turned = torch.addcmul(turning * cos, turning.index_select(-1, partners), sin)
        queries, key = turned.split((heads, heads), dim=-2)
        keys.view(-1, size).index_copy_(0, where, key.reshape(-1, size))
        values.view(-1, size).index_copy_(0, where, new.reshape(-1, size))
        return queries, keys, values

    return Case("turned_into_cache", 12 * count,
                lambda: (kernels.turned_into_cache(qkv, cos, sin, lengths, keys, values, half), keys, values),
                plainly, written=(keys, values))


def beside_case(name: str, rows: int, wide: int, out: int, rank: int, device: str) -> Case:
    inputs, outputs = some(rows, wide, device=device), some(rows, out, device=device)
    # So small that adding it again and again stays finite.
    a, b = some(rows, rank, wide, device=device) * 0.05, some(rows, rank, out, device=device) * 0.05
    a, b = (torch.cat([side[:1], side]) for side in (a, b))
    slots, strengths = torch.arange(1, rows + 1, device=device), torch.ones(rows, device=device)
    each_a, each_b = a[1:].transpose(1, 2), b[1:]

    def plainly() -> torch.Tensor:
        outputs.unsqueeze(1).baddbmm_(torch.bmm(inputs.unsqueeze(1), each_a), each_b)
        return outputs

    return Case(f"beside {name}", 2 * rows * (rank * (wide + out) + wide + 2 * out),
                lambda: kernels.beside_up(kernels.beside_down(inputs, a, slots), b, slots, strengths, outputs),
                plainly, written=(outputs,))


def said(case: Case, body: Body) -> list[torch.Tensor]:
    """What it returns, in float32; what it wrote is as it was before."""
    before = [one.clone() for one in case.written]
    made = body()
    copies = [one.float().clone() for one in (made if isinstance(made, tuple) else (made,))]
    for one, old in zip(case.written, before, strict=True):
        one.copy_(old)
    return copies


def difference(case: Case) -> float:
    """The largest, as a share of the largest number."""
    pairs = zip(said(case, case.ours), said(case, case.plain), strict=True)
    return max(float((ours - theirs).abs().max() / theirs.abs().max()) for ours, theirs in pairs)


def microseconds(body: Body) -> float:
    """Of one call on the card."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            body()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(CALLS):
            body()
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    graph.replay()
    start.record()
    for _ in range(REPLAYS):
        graph.replay()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) * 1e3 / (CALLS * REPLAYS)


def begun(body: Body) -> float:
    """Microseconds that a call takes the processor: few enough that none waits for the card."""
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(100):
        body()
    passed = time.perf_counter() - start
    torch.cuda.synchronize()
    return passed * 1e4


def main() -> int:
    """Measure, print, write the JSON; 2 where there is no card."""
    asked = asked_of_a_card("kernels", __doc__)
    if asked is None:
        return 2
    torch.manual_seed(0)
    began = time.perf_counter()
    is_right = kernels_check.is_right("cuda")
    figures: dict[str, Any] = {"is_right": is_right, "is_right_seconds": round(time.perf_counter() - began, 1),
                               "kernels": []}
    sizes = Sizes()
    parts = [(f"{tokens:,} tokens", training_cases(tokens, sizes, "cuda")) for tokens in (2800, 8188)]
    parts += [(f"{rows} rows", step_cases(rows, sizes, "cuda")) for rows in (1, 4, 8)]
    for title, cases in parts:
        figures["kernels"] += [told(title, case) for case in cases]
    rows = figures["kernels"]
    print(table(list(rows[0]), [list(row.values()) for row in rows]))
    write("kernels", figures, asked.out)
    return 0 if is_right else 1


def told(title: str, case: Case) -> dict[str, Any]:
    """A row of the table."""
    far = None if case.is_chance else round(difference(case), 4)
    ours, plain = microseconds(case.ours), microseconds(case.plain)
    return {"of": title, "kernel": case.name, "microseconds": round(ours, 1),
            "gigabytes_per_second": round(case.bytes / ours / 1e3), "plain_microseconds": round(plain, 1),
            "begun": round(begun(case.ours), 1), "plain_begun": round(begun(case.plain), 1), "differs": far}


if __name__ == "__main__":
    sys.exit(main())
