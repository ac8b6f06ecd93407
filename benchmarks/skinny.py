"""Which way of phi3/skinny.py is the fastest for each product of Phi-3-mini? `python -m benchmarks.skinny`.

Each way is checked against float64 before it is timed and after, and timed in a CUDA graph over many weights in turn,
so that no cache holds them. gate_up's time has silu and the product with up in it, which cuBLAS's has not. `--compile`
stops when all are compiled, and needs no card.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from benchmarks.report import write
from phi3 import skinny
from phi3.machine import this_machine
from phi3.skinny import Way, few_rows, gated_rows

START = time.time()
# Name: outputs, inputs, weights in turn, whether it is gated.
SHAPES = {"qkv": (9216, 3072, 32, False), "o": (3072, 3072, 32, False), "gate_up": (16384, 3072, 16, True),
          "down": (3072, 8192, 32, False), "head": (32064, 3072, 8, False)}
ROWS = (1, 2, 4, 8)


def ways(name: str, rows: int) -> list[Way]:
    """What is tried; where threads multiply, also as an early one."""
    _, inputs, _, gated = SHAPES[name]
    half = 2 if gated else 1
    threads = [(8, 1024, 4, 3), (4, 1024, 4, 3), (4, 512, 2, 6), (2, 1024, 4, 3)] if inputs == 3072 else \
        [(4, 1024, 4, 8), (4, 2048, 8, 4), (2, 2048, 8, 4)]
    # Block, chunk, stages, slices.
    dots = [(16, 128, 5, 4), (16, 128, 3, 4), (8, 128, 3, 8), (16, 64, 6, 4), (64, 128, 4, 1), (32, 128, 4, 2)]
    tried = []
    if rows <= 4 or name in ("o", "qkv"):
        tried += [Way(False, max(block // half, 1), chunk, warps, held, early=early) for early in (False, True)
                  for block, chunk, warps, held in threads if rows < 4 or block < 8]
    if rows >= 2 or name in ("o", "down"):
        tried += [Way(True, block // half, chunk, 4, stages, slices) for block, chunk, stages, slices in dots]
    return tried


def compiled(case: tuple[str, int, Way]) -> str | None:
    """Into Triton's cache on disk, for a card that this process doesn't touch; what went wrong, if anything did."""
    from triton.backends.compiler import GPUTarget
    from triton.runtime import driver

    class Hopper:
        def get_current_target(self) -> GPUTarget:
            return GPUTarget("cuda", 90, 32)

        def get_current_device(self) -> int:
            return 0

        def get_current_stream(self, device: int = 0) -> int:
            return 0

    driver.set_active(Hopper())
    name, rows, way = case
    outputs, inputs, _, gated = SHAPES[name]
    grid, constants = skinny.launch_of(way, rows, outputs, inputs, gated)
    kernel, own = skinny._by_dots if way.has_dots else skinny._by_threads, torch.bfloat16
    try:
        kernel.warmup(own, own, own, rows, grid=grid, **constants)
    except Exception as problem:  # noqa: BLE001 - all are told
        return f"{case}: {str(problem)[-300:]}"
    return None


def graph_time(call, times: int = 20) -> float:
    """Milliseconds of a call, replayed as a CUDA graph."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    graph.replay()
    torch.cuda.synchronize()
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    for _ in range(times):
        graph.replay()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end) / times


def wanted(x: torch.Tensor, weight: torch.Tensor, gated: bool) -> torch.Tensor:
    made = torch.cat([x.double() @ part.double().t() for part in weight.split(4096)], 1)
    if gated:
        gate, up = made.chunk(2, -1)
        return functional.silu(gate) * up
    return made


def measured(name: str, figures: list[dict[str, Any]]) -> None:
    """Every way for this product, with each number of rows; the best ones are told."""
    outputs, inputs, count, gated = SHAPES[name]
    torch.manual_seed(0)
    weights = [torch.randn(outputs, inputs, device="cuda", dtype=torch.bfloat16) * inputs ** -0.5 for _ in range(count)]
    size = weights[0].nbytes
    x_all = torch.randn(8, inputs, device="cuda", dtype=torch.bfloat16)
    right = wanted(x_all, weights[0], gated)
    for rows in ROWS:
        x = x_all[:rows].contiguous()
        with torch.inference_mode():
            cublas = graph_time(lambda x=x: [functional.linear(x, weight) for weight in weights]) / count * 1e3
        found = []
        for way in ways(name, rows):
            def call(weight, x=x, way=way):
                return gated_rows(x, weight, way) if gated else few_rows(x, weight, way)
            try:
                with torch.inference_mode():
                    for _ in range(3):
                        made = call(weights[0])
                    error = float((made.double() - right[:rows]).norm() / right[:rows].norm())
                    if not error < 1e-2:
                        print(f"  WRONG {name} {rows} {way}: {error:.3g}", flush=True)
                        continue
                    took = graph_time(lambda call=call: [call(weight) for weight in weights]) / count * 1e3
                    # What the last weight makes, after replays: counts are zeros again, nothing was overtaken.
                    again = float((call(weights[0]).double() - right[:rows]).norm() / right[:rows].norm())
                    if not again < 1e-2:
                        print(f"  WRONG later {name} {rows} {way}: {again:.3g}", flush=True)
                        continue
                found.append((took, way))
            except Exception as problem:
                print(f"  FAILED {name} {rows} {way}: {type(problem).__name__} {str(problem)[:200]}", flush=True)
                if "CUDA error" in str(problem):
                    raise
        found.sort()
        best = [{"microseconds": round(took, 1), "gigabytes_per_second": round(size / took / 1e3),
                 "way": way._asdict()} for took, way in found[:3]]
        late = next((round(took, 1) for took, way in found if not way.early), None)
        figures.append({"product": name, "outputs": outputs, "inputs": inputs, "rows": rows,
                        "cublas_microseconds": round(cublas, 1), "best": best, "not_early_microseconds": late})
        print(f"[{time.time() - START:5.1f}] {name:8} {rows} rows: cuBLAS {cublas:5.1f} µs | " + " | ".join(
            f"{took:5.1f} µs {short(way)}" for took, way in found[:3]) + f" | not early {late}", flush=True)


def short(way: Way) -> str:
    return f"{'dots' if way.has_dots else 'threads'}{tuple(way)[1:6]}{' early' if way.early else ''}"


def main() -> int:
    """Compile in as many processes as there are cores, measure, write the JSON; 2 where there is no card."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.skinny", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--out", type=Path, help="folder for the JSON")
    asked = parser.parse_args()
    if not asked.compile and this_machine().kind != "cuda":
        print("There is no CUDA card here.", file=sys.stderr)
        return 2
    cases, seen = [], set()
    for name, rows in itertools.product(SHAPES, ROWS):
        for way in ways(name, rows):
            _, constants = skinny.launch_of(way, rows, *SHAPES[name][:2], SHAPES[name][3])
            key = (name, way.has_dots, tuple(constants.items()))
            if key not in seen:
                seen.add(key)
                cases.append((name, rows, way))
    # Before this process touches the card: one that did can't be forked.
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("fork")) as pool:
        problems = [problem for problem in pool.map(compiled, cases, chunksize=1) if problem]
    print(f"[{time.time() - START:5.1f}] {len(cases)} kernels compiled, {len(problems)} failed", *problems[:8],
          sep="\n  ", flush=True)
    if asked.compile:
        return 1 if problems else 0
    figures: list[dict[str, Any]] = []
    for name in SHAPES:
        measured(name, figures)
        torch.cuda.empty_cache()
    write("skinny", figures, asked.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
