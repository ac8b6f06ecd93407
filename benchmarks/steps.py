"""What is a step of training, and one of an answer, spent on at full size on a card? `python -m benchmarks.steps`.

Random Phi-3-mini, bf16. Of training: real lengths, four rows of 2,047 tokens and one, and short rows; of answers: the
base and adapters in slots, one lane and four, and whether their steps were captured. Each with its largest kernels.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.report import asked_of_a_card, quietly, table, write
from phi3.machine import this_machine

GIGABYTE = 1e9
# Name, tokens of each row (None: log-normal), rows in a step, steps, whether they are captured.
TRAININGS = (("real lengths", None, 8, 12, False), ("real lengths, captured", None, 8, 24, True),
             ("4 × 2,047", 2047, 4, 6, False), ("1 × 2,047", 2047, 1, 8, False), ("8 × 60", 60, 8, 12, False),
             ("8 × 60, captured", 60, 8, 12, True))
LANES, TOKENS, RANK = (1, 2, 4), 100, 16
MOST_KERNELS = 12


def main() -> int:
    """Measure, print, write the JSON; 2 where there is no card."""
    asked = asked_of_a_card("steps", __doc__)
    if asked is None:
        return 2
    quietly()
    with tempfile.TemporaryDirectory() as folder:
        base = _base()
        figures = {"training": list(_trainings(base, Path(folder))), "answers": list(_answers(base, Path(folder)))}
    write("steps", figures, asked.out)
    return 0


def _base() -> Any:
    import torch

    from benchmarks.card.base import PHI3_MINI as SHAPE
    from benchmarks.chat import random_base
    from phi3.models import PHI3_MINI

    return random_base(PHI3_MINI, SHAPE, "cuda", torch.bfloat16)


def _trainings(base: Any, folder: Path) -> Iterator[dict[str, Any]]:
    """Tokens a second, bytes at most beside the plan's, and the largest kernels of the last step."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    from benchmarks.card.steps import kernels_of, train
    from benchmarks.training import config_of, rows_of
    from training.methods import method_of
    from training.plan import make_plan
    from training.trainer import Lesson, trainer_of

    for name, length, examples, steps, captures in TRAININGS:
        rows = rows_of(length, examples * steps)
        config = config_of(base.facts, "lora", examples=examples)
        plan = make_plan(config, base.facts.config, [len(row["input_ids"]) for row in rows], [], this_machine())
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        trainer = trainer_of(config, method_of(config, base), plan, Lesson(rows), folder / "trainer", base.tokenizer,
                             captures)
        profiler = profile(activities=[ProfilerActivity.CUDA])
        took = train(trainer, profiler)
        rate = sum(len(row["input_ids"]) for row in rows) / steps / statistics.median(took[1:-1])
        found = {"rows": name, "tokens_per_second": round(rate), "seconds": [round(one, 4) for one in took],
                 "gigabytes": round(torch.cuda.max_memory_allocated() / GIGABYTE, 1),
                 "planned_gigabytes": round(plan.peak / GIGABYTE, 1), "captured": len(trainer.captured or ()),
                 "loss": trainer.state.log_history[0].get("loss"), **kernels_of(profiler, 1, MOST_KERNELS)}
        yield _shown(found)
        del trainer


def _answers(base: Any, folder: Path) -> Iterator[dict[str, Any]]:
    """Milliseconds a step of three answers in turn, of which the first captures; and the largest kernels of a step."""
    from torch.profiler import ProfilerActivity, profile

    from benchmarks.card.steps import kernels_of
    from benchmarks.chat import QUESTION, adapter_of
    from phi3.generate import Answerer, Lane, Sampling

    adapters = [adapter_of(base, folder / str(number), number, RANK) for number in range(max(LANES))]
    answerer = Answerer(replace(base, stop_tokens=()))
    for name, some in (("base", [None] * max(LANES)), ("slots", list(map(str, adapters)))):
        for count in LANES:
            lanes = [Lane(({"role": "user", "content": QUESTION},), adapter, Sampling(max_new_tokens=TOKENS))
                     for adapter in some[:count]]
            took = []
            for _ in range(3):
                stream = answerer.answer(lanes)
                next(stream)
                began = time.perf_counter()
                answers = [answer for *_, answer in stream]
                took.append((time.perf_counter() - began) / (TOKENS - 1))
            assert answers[-1].tokens == TOKENS
            with profile(activities=[ProfilerActivity.CUDA]) as profiler:
                list(answerer.answer(lanes))
            yield _shown({"lanes": f"{name} {count}", "milliseconds": [round(1e3 * one, 3) for one in took],
                          **kernels_of(profiler, TOKENS - 1, MOST_KERNELS)})


def _shown(found: dict[str, Any]) -> dict[str, Any]:
    kernels = found["kernels"]
    print({name: value for name, value in found.items() if name != "kernels"})
    print(table(list(kernels[0]), [list(kernel.values()) for kernel in kernels]), flush=True)
    return found


if __name__ == "__main__":
    sys.exit(main())
