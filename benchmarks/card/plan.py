"""Memory and time against the plan: what it says and what a step takes, and what its constants should be here."""

from __future__ import annotations

import itertools
import json
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any

from benchmarks.card.bench import Bench, free_memory
from benchmarks.card.figure import FOUR_BITS, TRAINING, Check, Figure, Section
from benchmarks.card.steps import Peak, Taken, taken
from benchmarks.goals import PLAN_OFF

GIGABYTE = 1e9
LENGTHS, SHAPES = (512, 1024, 2047), (1, 4, 8)
FILE = "plan-{method}.json"


@dataclass(frozen=True)
class Case:
    """What a run is asked to hold: rows in a step, tokens of each, and whether blocks may compute twice."""

    tokens: int
    rows: int
    checkpointing: bool

    def __str__(self) -> str:
        return f"{self.rows} × {self.tokens} tokens{', checkpointing' if self.checkpointing else ''}"


class Held:
    """A base in the form that a plan wants: in 4 bits, or these made whole; loaded anew only where that changes."""

    def __init__(self, source: str, method: str) -> None:
        self._source, self._precision = source, "nf4" if method == "qlora" else None
        self._base: Any = None
        self._expanded = False

    def base(self, expanded: bool = False) -> Any:
        """The base, its weights made whole where that is asked for."""
        from phi3.models import expanded as made_whole
        from phi3.models import load_base

        if self._base is None or self._expanded is not expanded:
            self._base = None
            free_memory()
            self._base = load_base(self._source, self._precision)
            if expanded:
                self._base = made_whole(self._base)
            self._expanded = expanded
        return self._base


def _cases(bench: Bench, method: str, share: float) -> Iterator[Figure]:
    """Every case in turn, kept for the constants; this share of the time that is left is not touched."""
    source = str(bench.base())
    began = time.monotonic()
    held, done = Held(source, method), []
    left = _ordered(bench)
    load, longest, kept_free = 0.0, 0.0, bench.left() * share
    while left and bench.left() - kept_free > 2 * longest + bench.size(20, 5):
        case, case_began = left.pop(0), time.monotonic()
        plan, found = _measured(bench, held, method, case)
        if found is None:
            yield _not_held(method, case, plan)
            continue
        load = load or time.monotonic() - began - bench.steps * found.seconds
        longest = max(longest, time.monotonic() - case_began)
        done.append(_as_json(bench, method, case, plan, found))
        yield _figure(method, case, done[-1])
    whole = {"until": bench.until, "load": load, "cases": done}
    (bench.work / FILE.format(method=method)).write_text(json.dumps(whole), encoding="utf-8")
    if left:
        yield Figure(f"{method}: no time for", "; ".join(map(str, left)))


def _ordered(bench: Bench) -> list[Case]:
    """The small ones first: on a CPU the memory of a large one would be seen in the next."""
    cases = [Case(bench.tokens(tokens), rows, checkpointing) for tokens, rows, checkpointing
             in itertools.product(LENGTHS, bench.size(SHAPES, (1, 2, 3)), (True, False))]
    return sorted(cases, key=lambda case: case.tokens * case.rows)


def _measured(bench: Bench, held: Held, method: str, case: Case) -> tuple[Any, Taken | None]:
    """(plan, what was taken; None where it does not fit, by the plan or in truth)."""
    import torch

    from phi3.machine import this_machine
    from training.methods import method_of
    from training.plan import make_plan
    from training.trainer import Lesson, trainer_of

    config = _config(method, case, steps=bench.size(5, 2))
    facts_config = json.loads((bench.base() / "config.json").read_text(encoding="utf-8"))
    plan = make_plan(config, facts_config, [case.tokens] * case.rows, [], this_machine())
    if not plan.fits:
        return plan, None
    base, peak, trainer = held.base(plan.expanded), Peak(), None
    try:
        trainer = trainer_of(config, method_of(config, base), plan, Lesson(_rows(case)), bench.work / "trainer",
                             base.tokenizer)
        return plan, taken(trainer, peak)
    except torch.OutOfMemoryError:
        return plan, None
    finally:
        del trainer
        free_memory()


def _not_held(method: str, case: Case, plan: Any) -> Figure:
    """A case that could not be measured; where the plan had said that it fits, the plan is wrong."""
    check = Check("the plan says so, too", not plan.fits)
    return Figure(f"{method}, {case}", f"does not fit: planned {plan.peak / GIGABYTE:.1f} GB of "
                  f"{plan.available / GIGABYTE:.1f}", check=check)


def _config(method: str, case: Case, steps: int) -> Any:
    from training.config import RunConfig

    return RunConfig(method=method, max_steps=steps, max_length=2048, held_out=0.0, save_steps=10**7, bf16=True,
                     per_device_train_batch_size=case.rows, gradient_checkpointing=case.checkpointing)


def _rows(case: Case) -> list[dict[str, list[int]]]:
    dice = Random(0)
    every = [[dice.randrange(10, 1900) for _ in range(case.tokens)] for _ in range(case.rows)]
    return [{"input_ids": ids, "labels": ids} for ids in every]


def _as_json(bench: Bench, method: str, case: Case, plan: Any, found: Taken) -> dict[str, Any]:
    """Plain values: predicted and actual, and the work that a price is to be found for."""
    return {"method": method, "tokens": case.tokens, "rows": case.rows, "checkpointing": case.checkpointing,
            "expanded": plan.expanded, "recomputed": plan.recomputed, "planned_bytes": plan.peak, "memory": plan.memory,
            "bytes": found.peak + found.besides, "allocated": found.peak, "reserved": found.reserved,
            "besides": found.besides, "planned_seconds": plan.seconds["training"] / plan.batches.steps,
            "seconds": found.seconds, "first_step": found.first,
            "work": [part / plan.batches.steps for part in plan.work.parts()]}


def _figure(method: str, case: Case, told: dict[str, Any]) -> Figure:
    """The memory against the plan's; seconds are judged when there are runs to learn the machine's speed from."""
    words = (f"{told['bytes'] / GIGABYTE:.2f} GB, planned {told['planned_bytes'] / GIGABYTE:.2f}; "
             f"{told['seconds']:.3f} s a step, {told['planned_seconds']:.3f} guessed")
    return Figure(f"{method}, {case}: memory off by", round(abs(told["bytes"] / told["planned_bytes"] - 1), 3),
                  "of the plan", words, PLAN_OFF, details=told)


def _together(bench: Bench) -> Iterator[Figure]:
    """Each case's seconds, predicted from all others; and what the plan's constants should be on this machine."""
    from phi3.machine import this_machine
    from phi3.models import base_facts
    from phi3.shape import WIDTHS
    from training.work import guessed_speed

    every = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(bench.work.glob(FILE.format(method="*")))]
    held = [one for one in every if one["until"] == bench.until]  # what an earlier call left is none of this one's
    cases = [case for one in held for case in one["cases"]]
    if len(cases) < 3:
        raise ValueError(f"Only {len(cases)} cases were measured, which tells nothing of this machine.")
    guess = guessed_speed(this_machine(), base_facts(str(bench.base())).shape, WIDTHS["bf16"]).prices
    predicted = [_dot(_prices([*cases[:place], *cases[place + 1:]], guess), case["work"])
                 for place, case in enumerate(cases)]
    off = [abs(case["seconds"] / seconds - 1) for case, seconds in zip(cases, predicted, strict=True)]
    memory = [abs(case["bytes"] / case["planned_bytes"] - 1) for case in cases]
    for name, some in (("memory", memory), ("seconds, each case predicted from the others,", off)):
        yield Figure(f"{name} off by, median of {len(some)} cases", round(statistics.median(some), 3), "of the plan",
                     goal=PLAN_OFF)
        yield Figure(f"{name} off by, worst", round(max(some), 3), "of the plan", goal=PLAN_OFF)
    constants = _constants(bench, cases, [one["load"] for one in held], _prices(cases, guess))
    for name, line in constants.items():
        yield Figure(f"{name}, as it should be here", f"`{line}`")


def _constants(bench: Bench, cases: Sequence[dict[str, Any]], loads: Sequence[float],
               prices: Sequence[float]) -> dict[str, str]:
    """Lines that can stand in the code as they are, by their place: the guesses for a machine of this kind."""
    import torch

    from phi3.machine import this_machine

    machine = this_machine()
    threads = torch.get_num_threads() if machine.kind == "cpu" else 1
    start, operation, byte = prices[0], prices[1] * threads, prices[2] * threads
    found = {"training/work.py, GUESSED": f'"{machine.kind}": Speed(({start:.3g}, {operation:.4g}, {byte:.3g}), '
                                          f"{max(loads):.1f}, {_seconds_a_word(bench):.2g}),"}
    if machine.kind == "cpu":  # nobody counts what tensors hold there, so its heap can't be told from them
        return found
    besides = statistics.median(case["besides"] for case in cases)
    return {**found, "phi3/room.py, PROCESS_BYTES": f"{besides / 1024**3:.2f} * GIBIBYTE",
            "training/memory.py, HEAP": f'"{machine.kind}": {statistics.median(map(_heap, cases)):.2f}'}


def _heap(case: dict[str, Any]) -> float:
    """What a step's tensors took, by what the plan counted for them."""
    from training.memory import HEAP

    fixed = sum(case["memory"][name] for name in ("base", "adapter", "gradients", "optimizer"))
    moving = sum(case["memory"][name] for name in ("activations", "logits"))
    return HEAP["cuda"] * (case["allocated"] - fixed) / moving


def _seconds_a_word(bench: Bench) -> float:
    """Of a token that the base says while it is trained, for each of its layers."""
    from phi3.generate import Lane, Sampling, answer_all
    from phi3.models import load_base, shell_of

    base, tokens = load_base(str(bench.base())), bench.size(64, 8)
    lanes = [Lane(({"role": "user", "content": "Where is the ship?"},), sampling=Sampling(max_new_tokens=tokens))] * 3
    model = shell_of(base)
    answer_all(model, base, lanes)
    began = time.perf_counter()
    said = max(answer.tokens for answer in answer_all(model, base, lanes))
    return (time.perf_counter() - began) / (max(1, said) * base.model.config.num_hidden_layers)


def _prices(cases: Sequence[dict[str, Any]], guess: Sequence[float]) -> tuple[float, float, float]:
    """As the studio learns them from runs (training/speed.py)."""
    from training.speed import Outcome, prices

    return prices([Outcome("", case["method"], tuple(case["work"]), case["seconds"], 0, 0.0, 0.0) for case in cases],
                  guess)


def _dot(prices: Sequence[float], work: Sequence[float]) -> float:
    return sum(price * part for price, part in zip(prices, work, strict=True))


SECTIONS = (
    Section("LoRA", partial(_cases, method="lora", share=0.5), TRAINING),
    Section("QLoRA", partial(_cases, method="qlora", share=0.0), (*TRAINING, *FOUR_BITS)),
    Section("constants", _together, TRAINING),
)
