"""How fast is a step beside TRL's, and is it the same step? `python -m benchmarks.training`.

Three ways to train the same rows, interleaved in one run: TRL with its own defaults, as the public recipe has it; TRL
tuned as well as it can be (no checkpointing; the better of packing and grouping by length); this app's trainer. On a
CPU all compute the embedded Phi-3 in float32, which is faster there. Tokens are real ones, without padding.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.goals import AGAINST_DEFAULTS, AGAINST_TUNED
from benchmarks.report import circumstances, quietly, table, write

GOALS = {"plain": AGAINST_DEFAULTS, "tuned": AGAINST_TUNED}
MEDIAN, SPREAD, LONGEST = 350, 0.8, 2047
EXAMPLES = 8
LEARNING_STEPS, SEEDS = 60, 5
Row = dict[str, list[int]]


@dataclass(frozen=True)
class Timed:
    """One arm: medians over the repeats of real tokens per second and milliseconds a step; GiB at most on a card."""

    method: str
    arm: str
    tokens_per_second: float
    milliseconds: float
    peak_gib: float


class Clock:
    """Wraps a collator and counts the tokens that pass, and how many are computed with their padding; `began` and
    `ended` are set around the steps.
    """

    def __init__(self, collator: Callable[[Any], Any]) -> None:
        self.collator, self.tokens, self.computed, self.steps = collator, 0, 0, 0
        self.began = self.ended = 0.0

    def __call__(self, rows: Sequence[Row]) -> Any:
        self.tokens += sum(len(row["input_ids"]) for row in rows)
        batch = self.collator(rows)
        self.computed += sum(len(pack.ids) for pack in batch["packs"]) if "packs" in batch \
            else batch["input_ids"].numel()
        return batch

    def rate(self) -> tuple[float, float]:
        """(tokens per second, seconds a step)."""
        seconds = self.ended - self.began
        return self.tokens / seconds, seconds / self.steps


def main() -> int:
    """Measure, check, print, write the JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__)
    parser.add_argument("--methods", nargs="+", default=["lora", "qlora"], choices=("lora", "qlora"))
    parser.add_argument("--steps", type=int, default=24, help="of eight conversations, the same for each arm and "
                        "repeat; grouping by length needs many (default 24)")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--gpu", action="store_true", help="full-size random Phi-3-mini, on a card")
    parser.add_argument("--no-losses", action="store_true", help="leave out the held-out losses of five seeds")
    parser.add_argument("--out", type=Path, help="folder for the JSON")
    asked = parser.parse_args()
    quietly()
    with tempfile.TemporaryDirectory() as folder:
        return _measured(asked, Path(folder))


def _measured(asked: argparse.Namespace, folder: Path) -> int:
    if asked.gpu:
        from benchmarks.card.base import base_in

        source, sets = str(base_in(folder, small=False)), {"real lengths": None, "all 2047": LONGEST}
    else:
        source, sets = "phi3/tiny", {"real lengths": None}
    print(json.dumps(circumstances()))
    found: dict[str, Any] = {}
    for name, length in sets.items():
        timed = [one for method in asked.methods
                 for one in speeds(source, method, rows_of(length, EXAMPLES * asked.steps), folder, asked.repeats)]
        print(f"{name}\n{table(list(asdict(timed[0])), [list(asdict(one).values()) for one in timed])}")
        found[name] = [asdict(one) for one in timed]
        for line in ratios(timed):
            print(line)
    found["cosine"] = {method: round(gradients(source, method), 7) for method in asked.methods}
    print(f"cosine of all gradients to plain float32 PEFT's (goal 0.9999): {found['cosine']}")
    if not asked.no_losses and not asked.gpu:
        found["losses"] = losses(folder)
        print("held-out loss of five seeds: " + "; ".join(
            f"{arm} {statistics.mean(some):.4f} ({min(some):.4f} to {max(some):.4f})"
            for arm, some in found["losses"].items()))
    write("training-gpu" if asked.gpu else "training", found, asked.out)
    return 0


def ratios(timed: Sequence[Timed]) -> Iterator[str]:
    """Beside each goal what was reached."""
    for method in dict.fromkeys(one.method for one in timed):
        rates = {one.arm: one.tokens_per_second for one in timed if one.method == method}
        tuned = max(rate for arm, rate in rates.items() if arm.startswith("tuned"))
        for name, other in (("plain", rates["plain"]), ("tuned", tuned)):
            times = rates["studio"] / other
            yield (f"{method}: {times:.2f} times {name} TRL (goal {GOALS[name].wanted}): "
                   f"{'reached' if GOALS[name].is_reached(times) else 'missed'}")


def rows_of(length: int | None = None, count: int = 400, scale: float = 1.0) -> list[Row]:
    """Conversations of log-normal length (times `scale`), or all as long; random words, of which the first quarter
    isn't trained.
    """
    rng = Random(0)
    rows = []
    for _ in range(count):
        size = length or max(16, round(scale * min(LONGEST, MEDIAN * rng.lognormvariate(0, SPREAD))))
        ids = [rng.randrange(10, 1900) for _ in range(size)]
        rows.append({"input_ids": ids, "labels": [*[-100] * (size // 4), *ids[size // 4:]]})
    return rows


def speeds(source: str, method: str, rows: list[Row], folder: Path, repeats: int) -> list[Timed]:
    """Every arm in turn, again and again, over the same rows, each once."""
    import torch

    found: dict[str, list[tuple[float, float, float]]] = {arm: [] for arm in ARMS}
    on_card = torch.cuda.is_available()
    base = base_for(source, method)
    config = config_of(base.facts, method)
    for _ in range(repeats):
        for arm, make in ARMS.items():
            if on_card:
                torch.cuda.reset_peak_memory_stats()
            trainer = make(base, rows, folder / "trainer", config)
            rate, seconds = timed(trainer).rate()
            found[arm].append((rate, seconds, torch.cuda.max_memory_allocated() / 2**30 if on_card else 0.0))
            del trainer
            if on_card:
                torch.cuda.empty_cache()
            print(f"{method}, {arm}: {rate:.0f} tokens/s", file=sys.stderr, flush=True)
    medians = {arm: [statistics.median(part) for part in zip(*some, strict=True)] for arm, some in found.items()}
    return [Timed(method, arm, round(rate), round(1000 * seconds, 1), round(peak, 2))
            for arm, (rate, seconds, peak) in medians.items()]


def gradients(source: str, method: str, scale: float = 1.0) -> float:
    """Cosine between the gradients of one batch, of all LoRA weights together: the studio's, and plain PEFT's in
    float32 on the same weights (those that NF4 stands for, with QLoRA).
    """
    import torch
    from torch.nn import functional

    from phi3.models import shell_of
    from phi3.packed import Packed

    base = base_for(source, method)
    config = replace(config_of(base.facts, method), lora_dropout=0.0)
    rows = rows_of(count=4, scale=scale)
    trainer = studio(base, rows, Path(tempfile.gettempdir()), config)
    model = trainer.model
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.02)
    packed = Packed.of([(row["input_ids"], row["labels"]) for row in rows]).to(base.model.device)
    (trainer.learner.loss(packed) / len(packed.trained)).backward()
    ours = {name: weight.grad.float().flatten().clone() for name, weight in model.named_parameters()
            if weight.grad is not None}
    # The same weights in float32, in PEFT's own layers and transformers' own forward.
    reference = _peft(replace(trainer.base_trained, model=shell_of(trainer.base_trained).float()), config)
    reference.load_state_dict({name: value for name, value in model.state_dict().items() if "lora_" in name},
                              strict=False)
    longest = max(packed.lengths)
    padded = {name: torch.tensor([[*row[name], *[empty] * (longest - len(row[name]))] for row in rows],
                                 device=base.model.device)
              for name, empty in (("input_ids", 0), ("labels", -100))}
    mask = torch.tensor([[1] * len(row["input_ids"]) + [0] * (longest - len(row["input_ids"])) for row in rows],
                        device=base.model.device)
    logits = reference(input_ids=padded["input_ids"], attention_mask=mask).logits[:, :-1]
    functional.cross_entropy(logits.flatten(0, 1), padded["labels"][:, 1:].flatten()).backward()
    theirs = {name: weight.grad.flatten() for name, weight in reference.named_parameters() if weight.grad is not None}
    assert ours.keys() == theirs.keys()
    both = [torch.cat([grads[name] for name in theirs]) for grads in (ours, theirs)]
    return float(functional.cosine_similarity(*(one.double() for one in both), dim=0))


def losses(folder: Path) -> dict[str, list[float]]:
    """Held-out loss on the pirate example after the same short run, by TRL's trainer and by the studio's, seed by seed;
    both judged by the studio's evaluation.
    """
    from phi3.template import encode_conversation
    from training.data import read_data, split

    base = base_for("phi3/tiny", "lora")
    parts = split(read_data("pirate"), 0.1, 42)
    train, held = ([{"input_ids": list(one.input_ids), "labels": list(one.labels())} for one in
                    (encode_conversation(base.tokenizer, row.messages) for row in part)] for part in parts)
    found: dict[str, list[float]] = {"plain": [], "studio": []}
    for seed in range(SEEDS):
        for arm, make in (("plain", plain), ("studio", studio)):
            config = replace(config_of(base.facts, "lora", LEARNING_STEPS), learning_rate=3e-3, seed=seed)
            trainer = make(base, train, folder / "losses", config)
            trainer.train()
            found[arm].append(_judged(trainer, held))
            print(f"seed {seed}, {arm}: {found[arm][-1]:.4f}", file=sys.stderr, flush=True)
    return found


def _judged(trainer: Any, held: list[Row]) -> float:
    from phi3.learner import Learner
    from training.packing import packs_of

    trainer.model.eval()
    packs = packs_of([(row["input_ids"], row["labels"]) for row in held], 4096)
    return Learner(trainer.model).means(packs)[0]


def base_for(source: str, method: str) -> Any:
    """The base as this method holds it."""
    from phi3.models import load_base

    return load_base(source, "nf4" if method == "qlora" else None)


def config_of(facts: Any, method: str, steps: int = -1, examples: int = EXAMPLES) -> Any:
    """One epoch, or so many steps, of so many conversations a step, in the precision that the app has for the base."""
    import torch

    from phi3.models import usual_precision
    from training.config import RunConfig

    precision = usual_precision(facts.shape, "cuda" if torch.cuda.is_available() else "cpu")
    return RunConfig(method=method, max_steps=steps, num_train_epochs=1.0, max_length=2048, held_out=0.0,
                     per_device_train_batch_size=examples, bf16=precision == "bf16", save_steps=10_000_000)


def _peft(base: Any, config: Any) -> Any:
    from peft import LoraConfig, get_peft_model

    return get_peft_model(base.model, LoraConfig(**config.peft_config()))


def studio(base: Any, rows: list[Row], folder: Path, config: Any, captures: bool = False) -> Any:
    """As `training/train.py` builds it, or with captured steps."""
    from phi3.machine import this_machine
    from phi3.models import expanded
    from training.methods import method_of
    from training.plan import make_plan
    from training.trainer import Lesson, trainer_of

    plan = make_plan(config, base.facts.config, [len(row["input_ids"]) for row in rows], [], this_machine())
    whole = expanded(base) if plan.expanded else base
    trainer = trainer_of(config, method_of(config, whole), plan, Lesson(rows), folder, base.tokenizer, captures)
    trainer.base_trained = whole
    return trainer


def plain(base: Any, rows: list[Row], folder: Path, config: Any, **more: Any) -> Any:
    """TRL's own trainer and defaults, with the recipe's two dictionaries."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer

    from phi3.models import shell_of

    on_card = torch.cuda.is_available()
    shared = {name: getattr(config, name) for name in ("learning_rate", "lr_scheduler_type", "warmup_steps", "seed",
                                                       "max_length", "per_device_train_batch_size")}
    arguments = SFTConfig(output_dir=str(folder), max_steps=config.max_steps, num_train_epochs=1.0,
                          data_seed=config.seed, report_to="none", save_strategy="no", use_cpu=not on_card,
                          bf16=config.bf16, disable_tqdm=True, dataloader_pin_memory=False, **{**shared, **more})
    return SFTTrainer(model=shell_of(base), args=arguments, train_dataset=Dataset.from_list(rows),
                      peft_config=LoraConfig(**config.peft_config()), processing_class=base.tokenizer)


def packed(base: Any, rows: list[Row], folder: Path, config: Any, **more: Any) -> Any:
    """Best-fit packing to TRL's length, in as many packs a step as hold about as many examples."""
    mean = sum(len(row["input_ids"]) for row in rows) / len(rows)
    packs = max(1, round(config.per_device_train_batch_size * mean / config.max_length))
    return plain(base, rows, folder, config, packing=True, gradient_checkpointing=False,
                 per_device_train_batch_size=packs, **more)


def by_length(base: Any, rows: list[Row], folder: Path, config: Any) -> Any:
    """Batches of rows that are about as long as each other."""
    with_length = [{**row, "length": len(row["input_ids"])} for row in rows]
    return plain(base, with_length, folder, config, gradient_checkpointing=False,
                 train_sampling_strategy="group_by_length")


ARMS = {"plain": plain, "tuned, packed": packed, "tuned, by length": by_length, "studio": studio}


def timed(trainer: Any) -> Clock:
    """The whole training by the clock."""
    import torch
    from transformers import TrainerCallback
    from transformers.trainer_callback import PrinterCallback

    clock = trainer.data_collator = Clock(trainer.data_collator)

    class Ends(TrainerCallback):
        def on_train_begin(self, *given: Any, **named: Any) -> None:
            clock.began = time.perf_counter()

        def on_step_end(self, *given: Any, **named: Any) -> None:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            clock.ended, clock.steps = time.perf_counter(), clock.steps + 1

    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(Ends())
    trainer.train()
    return clock


if __name__ == "__main__":
    sys.exit(main())
