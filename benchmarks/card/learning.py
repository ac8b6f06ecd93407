"""Does it learn on the card? The embedded Phi-3 on the three examples, beside what the CPU's table says of them."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.card.bench import Bench, free_memory, on_card
from benchmarks.card.figure import EVALUATION, FOUR_BITS, TRAINING, Check, Figure, Section

CPU_TABLE = Path(__file__).parent.parent / "results" / "learning.json"
# Of 120 prompts a share of nine tenths is off by so much at most, nineteen times of twenty (normal approximation).
SHARES = ("manner", "content", "world")
SHARE_SPREAD = 0.054


@dataclass(frozen=True)
class Learned:
    """One seed's run: seconds, held-out losses, and shares of prompts that were never trained on."""

    seconds: float
    base_loss: float
    loss: float
    manner: float
    content: float
    world: float


def _learned(bench: Bench, method: str) -> Iterator[Figure]:
    """Each example with several seeds; a line as soon as the example's first run is over, and again after each."""
    from training.examples import measures

    home, table = bench.studio(f"learning-{method}"), _cpu_table()
    for example in measures.NAMES:
        some: list[Learned] = []
        for seed in bench.size((42, 1, 2), (42,)):
            if some and bench.left() < 3 * some[-1].seconds + 10:
                break
            some.append(_run(bench, home, example, method, seed))
            yield _figure(bench, example, method, some, table[example, method])


def _cpu_table() -> dict[tuple[str, str], dict[str, Any]]:
    runs = json.loads(CPU_TABLE.read_text(encoding="utf-8"))["figures"]["runs"]
    return {(run["example"], run["method"]): run for run in runs}


def _run(bench: Bench, home: Path, example: str, method: str, seed: int) -> Learned:
    """A run with the default settings in this process, and what its adapter says to prompts in unseen wordings."""
    from benchmarks.learning import SEED, answers, shares_of, world_kept
    from phi3.tiny.world import exchanges
    from training.data import read_data
    from training.examples import measures
    from training.runs import Runs
    from training.train import run_lease

    count = bench.size(120, 6)
    data = read_data(example)
    run = Runs(home).create(_config(bench, data, example, method, seed), data)
    began = time.monotonic()
    end = run_lease(run).values
    seconds = time.monotonic() - began
    free_memory()
    prompts = measures.prompts(example, count, SEED)
    general = exchanges(SEED + 1, count, unseen=True, manner="plain")
    said = answers([*prompts, *general], end["folder"])
    return Learned(seconds, end["loss_before"], end["loss"], *shares_of(example, prompts, said),
                   world_kept(general, said[count:]))


def _config(bench: Bench, data: Any, example: str, method: str, seed: int) -> Any:
    """The preset's own settings for these rows on this machine, two steps of them in a rehearsal."""
    from phi3.machine import this_machine
    from phi3.models import EMBEDDED, base_facts, load_tokenizer
    from training.config import RunConfig
    from training.presets import USUAL_PRESET, Task, preset_of
    from training.report import count_steps

    facts = base_facts(EMBEDDED)
    *_, counted = count_steps(data.conversations, load_tokenizer(facts))
    task = Task.of(facts, this_machine(), data, counted)
    fixed = {"base": facts.id, "method": method, "seed": seed, "name": f"{example}-{method}-{seed}",
             **({"max_steps": bench.steps, "held_out": 0.02} if bench.small else {})}
    return RunConfig.from_settings({**preset_of(USUAL_PRESET, task, fixed).values, **fixed})


def _figure(bench: Bench, example: str, method: str, some: Sequence[Learned], cpu: dict[str, Any]) -> Figure:
    losses = [one.loss for one in some]
    shares = {name: statistics.median(getattr(one, name) for one in some) for name in SHARES}
    note = (f"held-out loss from {some[0].base_loss:.3f}, {len(some)} seeds: {min(losses):.3f} to {max(losses):.3f}; "
            f"{', '.join(f'{name} {share:.0%}' for name, share in shares.items())}; "
            f"{statistics.median(one.seconds for one in some):.0f} s")
    return Figure(f"{example}, {method}: held-out loss", round(statistics.median(losses), 4), "", note, check=_check(
        bench, some, shares, cpu))


def _check(bench: Bench, some: Sequence[Learned], shares: dict[str, float], cpu: dict[str, Any]) -> Check:
    """The CPU's result within the spread of seeds here; after a rehearsal's two steps, that anything was learned."""
    losses = [one.loss for one in some]
    if bench.small:
        return Check("below the base's", losses[0] < some[0].base_loss)
    spread = max(losses) - min(losses)
    is_near = min(losses) - spread <= cpu["loss"] <= max(losses) + spread
    is_alike = all(abs(shares[name] - cpu[name]) <= 2 * SHARE_SPREAD for name in SHARES)
    words = f"CPU: {cpu['loss']:.3f}, {', '.join(f'{name} {cpu[name]:.0%}' for name in SHARES)}"
    return Check(f"{words}; on {'the card' if on_card() else 'this machine'} the same within the spread of seeds",
                 is_near and is_alike)


SECTIONS = (
    Section("LoRA", partial(_learned, method="lora"), (*TRAINING, *EVALUATION)),
    Section("QLoRA", partial(_learned, method="qlora"), (*TRAINING, *EVALUATION, *FOUR_BITS)),
)
