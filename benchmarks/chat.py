"""What do lanes with adapters cost beside the base, and beside PEFT? `python -m benchmarks.chat`."""

import argparse
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.card.agreement import Agreement, agreement
from benchmarks.goals import AGAINST_MIXED, FOUR_LANES, LOAD, SWITCH, UNMERGED_ON_A_CPU, Goal
from benchmarks.report import table, write

LANES = (1, 2, 4, 8)
# With a full-size Phi-3 PEFT takes half a minute for eight.
BESIDE = (1, 4)
FULL = "chat-phi-3-mini"  # what its result is called
QUESTION = "What is the capital of France, and how much is 7 plus 5?"
TARGETS = ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"]
MEGABYTE = 1e6
# (name, what is divided by what, the goal)
RATIOS = (("four lanes against one, time per token", "slots 4", "slots 1", FOUR_LANES),
          ("four lanes against PEFT's mixed batch", "PEFT mixed 4", "slots 4", AGAINST_MIXED),
          ("base against one unmerged adapter", "base 1", "slots 1", UNMERGED_ON_A_CPU))
# (name, what took so many milliseconds, the goal)
MOVES = (("switch to a resident adapter, ms", "switch_one_lane", SWITCH),
         ("load 50 MB, ms", "load_per_50_megabytes", LOAD))


@dataclass(frozen=True)
class Took:
    """One answering of all lanes: seconds to the first token, seconds for each after it, and what was said.

    `work` is what the calling thread computed of a step; with one thread that is all, whoever else uses the machine.
    """

    first: float
    step: float
    work: float
    texts: tuple[str, ...]


@dataclass(frozen=True)
class Bench:
    """What all arms are measured on: a base that never stops by itself, and adapters of rank 16."""

    base: Any
    folders: tuple[Path, ...]
    tokens: int


def main() -> int:
    """Measure all arms in turns, print, write; the JSON goes to benchmarks/results unless --out names a folder."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chat", description=__doc__)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu",
                        help="cuda takes Phi-3-mini at its full size, with random weights")
    parser.add_argument("--full", action="store_true",
                        help="on a CPU: Phi-3-mini at its full size, with random weights, in place of the embedded one "
                             "(17 GB, ten minutes)")
    parser.add_argument("--precision", choices=["fp32", "bf16", "nf4"], help="default: as the app holds such a base")
    parser.add_argument("--threads", type=int, help="of the processor (default: all)")
    parser.add_argument("--tokens", type=int, help="of each answer (default 48, with --full 8)")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, help="folder for the JSON")
    asked = parser.parse_args()
    if asked.full and asked.precision not in (None, "bf16"):
        parser.error("--full is for bf16. Leave out --precision.")
    import torch

    torch.set_num_threads(asked.threads or torch.get_num_threads())
    with tempfile.TemporaryDirectory() as folder:
        bench = _bench(asked, Path(folder))
        figures = {"precision": bench.base.precision, "torch_threads": torch.get_num_threads(),
                   "lanes": _lanes(bench, asked.repeats, BESIDE if asked.full else LANES), "goals": [],
                   **moves(bench, Path(folder), asked.repeats)}
        if bench.base.precision != "fp32":
            figures["agreement"] = asdict(agreement(bench.base, bench.folders[:4], QUESTION, bench.tokens))
    figures["goals"] = _goals(figures)
    _print(figures)
    write(_name(asked, bench.base), figures, asked.out)
    return 0


def _name(asked: argparse.Namespace, base: Any) -> str:
    if asked.device == "cuda":
        return f"chat-{base.precision}"
    return FULL if asked.full else "chat"


def _bench(asked: argparse.Namespace, folder: Path) -> Bench:
    base = _base(asked)
    folders = tuple(adapter_of(base, folder / str(number), number, 16) for number in range(max(LANES)))
    return Bench(replace(base, stop_tokens=()), folders, asked.tokens or (8 if asked.full else 48))


def _base(asked: argparse.Namespace) -> Any:
    import torch

    from benchmarks.card.base import PHI3_MINI as SHAPE
    from phi3.models import EMBEDDED, PHI3_MINI, load_base, quantised

    if asked.device == "cuda":
        base = random_base(PHI3_MINI, SHAPE, "cuda", torch.bfloat16)
        return quantised(base) if asked.precision == "nf4" else base
    if asked.full:
        return random_base(PHI3_MINI, SHAPE, "cpu", torch.bfloat16)
    return load_base(EMBEDDED, asked.precision, "cpu")


def random_base(name: str, shape: dict[str, Any], device: str, dtype: Any) -> Any:
    """A Phi-3 of this shape and random weights (std 0.02), made where it computes."""
    import torch
    from transformers import Phi3Config, Phi3ForCausalLM

    from phi3.models import EMBEDDED, Base, BaseFacts, base_facts, load_tokenizer

    config = Phi3Config(**shape, bos_token_id=1, eos_token_id=2, pad_token_id=2)
    config._attn_implementation = "sdpa"
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    with torch.device(device):
        model = Phi3ForCausalLM(config).eval().requires_grad_(False)
    torch.set_default_dtype(before)
    precision = "bf16" if dtype is torch.bfloat16 else "fp32"
    return Base(BaseFacts(name, None, config.to_dict()), model, load_tokenizer(base_facts(EMBEDDED)), precision, ())


def adapter_of(base: Any, folder: Path, seed: int, rank: int) -> Path:
    """A random adapter on the four fused layers, written by PEFT in the base's own type."""
    import torch
    from peft import LoraConfig, get_peft_model

    from phi3.models import shell_of

    torch.manual_seed(seed)
    model = get_peft_model(shell_of(base), LoraConfig(r=rank, target_modules=TARGETS, task_type="CAUSAL_LM"),
                           autocast_adapter_dtype=False)
    for name, value in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(value, std=0.02)
    model.save_pretrained(folder)
    return folder


def _lanes(bench: Bench, repeats: int, beside: Sequence[int]) -> list[dict[str, Any]]:
    """Every arm in turn, and that so many times; what slots say is compared with what PEFT says, in float32: bf16 keeps
    three digits, and there logits are compared instead (`agreement`).
    """
    arms, took = dict(arms_of(bench, beside)), defaultdict(list)
    for repeat in range(repeats + 1):
        for name, arm in in_turn(arms, is_first=not repeat):
            once = arm()
            if repeat:
                took[name].append(once)
    rows = []
    for name, some in took.items():
        count = int(name.rsplit(" ", 1)[1])
        step = statistics.median(one.step for one in some)
        is_compared = "base" not in name and bench.base.precision == "fp32"
        rows.append({"arm": name, "lanes": count, "milliseconds_per_step": step * 1e3,
                     "least": min(one.step for one in some) * 1e3,
                     "work": statistics.median(one.work for one in some) * 1e3, "tokens_per_second": count / step,
                     "first_token_milliseconds": statistics.median(one.first for one in some) * 1e3,
                     "as_peft": some[0].texts == took[f"PEFT one after another {count}"][0].texts if is_compared
                     else None})
    return rows


def in_turn(arms: dict[str, Callable[[], Took]], is_first: bool) -> Iterable[tuple[str, Callable[[], Took]]]:
    """Every arm once. The first round warms up, with the most lanes first: what they need stays where it is then."""
    return reversed(arms.items()) if is_first else arms.items()


def arms_of(bench: Bench, beside: Sequence[int] = LANES) -> Iterator[tuple[str, Callable[[], Took]]]:
    """Every arm by its name; PEFT's stand beside these numbers of lanes alone, and so do on a card our own without
    captured steps.
    """
    from phi3.captured import capture_on
    from phi3.generate import Answerer

    peft, answerer = _peft(bench), Answerer(bench.base)
    is_captured = capture_on(bench.base.model.device) is not None
    as_it_comes = Answerer(bench.base, captures=False) if is_captured else None
    for count in LANES:
        names = [f"adapter{number}" for number in range(count)]
        folders = [str(folder) for folder in bench.folders[:count]]
        yield f"base {count}", lambda count=count: _by_us(bench, answerer, [None] * count)
        yield f"slots {count}", lambda folders=folders: _by_us(bench, answerer, folders)
        if count not in beside:
            continue
        if is_captured:
            yield f"base, not captured {count}", lambda count=count: _by_us(bench, as_it_comes, [None] * count)
            yield f"slots, not captured {count}", lambda folders=folders: _by_us(bench, as_it_comes, folders)
        yield f"stock base {count}", lambda count=count: _by_peft(bench, peft, ["__base__"] * count)
        yield f"PEFT mixed {count}", lambda names=names: _by_peft(bench, peft, names)
        yield f"PEFT one after another {count}", lambda names=names: _one_after_another(bench, peft, names)


def _by_us(bench: Bench, answerer: Any, adapters: list[str | None]) -> Took:
    from phi3.generate import Lane, Sampling

    sampling = Sampling(max_new_tokens=bench.tokens)
    lanes = [Lane(({"role": "user", "content": QUESTION},), adapter, sampling) for adapter in adapters]
    began = time.perf_counter()
    stream = answerer.answer(lanes)
    answers = next(stream)
    first, work = time.perf_counter(), time.thread_time()
    for answers in stream:  # noqa: B007 - the last is what counts
        pass
    steps = bench.tokens - 1
    return Took(first - began, (time.perf_counter() - first) / steps, (time.thread_time() - work) / steps,
                tuple(answer.text for answer in answers))


def _peft(bench: Bench) -> Any:
    """Stock PEFT with all adapters beside a shell of the base, which never stops by itself."""
    from peft import PeftModel

    from phi3.models import shell_of

    shell = shell_of(bench.base)
    shell.generation_config.eos_token_id = None
    model = PeftModel.from_pretrained(shell, str(bench.folders[0]), adapter_name="adapter0",
                                      autocast_adapter_dtype=False)
    for number, folder in enumerate(bench.folders[1:], 1):
        model.load_adapter(str(folder), adapter_name=f"adapter{number}", autocast_adapter_dtype=False)
    return model.eval()


def _by_peft(bench: Bench, model: Any, names: list[str] | None, adapter: str = "") -> Took:
    """One `generate` over lanes that are named in a mixed batch, or over one with the active adapter."""
    import torch

    from phi3.template import encode_prompt

    clock = _Clock()
    prompt = encode_prompt(bench.base.tokenizer, [{"role": "user", "content": QUESTION}])
    ids = torch.tensor([prompt] * (len(names) if names else 1), device=bench.base.model.device)
    options = {"adapter_names": names} if names else {}
    began = time.perf_counter()
    with torch.inference_mode():
        made = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False,
                              max_new_tokens=bench.tokens, stopping_criteria=[clock], **options)
    texts = bench.base.tokenizer.batch_decode(made[:, len(prompt):], skip_special_tokens=True)
    steps = bench.tokens - 1
    return Took(clock.times[0] - began, (clock.times[-1] - clock.times[0]) / steps,
                (clock.works[-1] - clock.works[0]) / steps, tuple(text.strip() for text in texts))


class _Clock:
    """Notes when each token was there; it never stops anything."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.works: list[float] = []

    def __call__(self, ids: Any, scores: Any, **options: Any) -> Any:
        import torch

        torch.cuda.synchronize() if ids.is_cuda else None
        self.times.append(time.perf_counter())
        self.works.append(time.thread_time())
        return torch.zeros(ids.shape[0], dtype=torch.bool, device=ids.device)


def _one_after_another(bench: Bench, model: Any, names: list[str]) -> Took:
    took = []
    for name in names:
        model.set_adapter(name, inference_mode=True)
        took.append(_by_peft(bench, model, None))
    return Took(took[0].first, sum(one.step for one in took), sum(one.work for one in took),
                tuple(one.texts[0] for one in took))


def moves(bench: Bench, folder: Path, repeats: int) -> dict[str, Any]:
    """Milliseconds to switch between resident adapters and to load one from a file that is in memory already."""
    from phi3.captured import capture_on
    from phi3.lora_files import MOST_RANK
    from phi3.slots import Mix, Slots

    stays = capture_on(bench.base.model.device) is not None  # as steps are made there
    slots, peft = Slots(bench.base), _peft(bench)
    numbers = [slots.load(one, one) for one in bench.folders]
    mixes = [Mix((number,), (1.0,)) for number in numbers]
    fours = [Mix(tuple(numbers[start:start + 4]), (1.0,) * 4) for start in range(5)]
    acts = {"switch_one_lane": lambda turn: slots.use(mixes[turn % 8], stays),
            "switch_four_lanes": lambda turn: slots.use(fours[turn % 5], stays),
            "peft_set_adapter": lambda turn: peft.set_adapter(f"adapter{turn % 8}", inference_mode=True)}
    # The embedded model's adapters are small: a wide one tells what a megabyte costs.
    wide = adapter_of(bench.base, folder / "wide", 99, 16 if bench.base.facts.shape.hidden > 1000 else MOST_RANK)
    other = Slots(bench.base, 1)
    acts |= {"load": lambda turn: other.give_back(other.load(("usual", turn), bench.folders[0])),
             "load_per_50_megabytes": lambda turn: other.give_back(other.load(("wide", turn), wide))}
    took = {name: _timed(act, 4 * repeats) for name, act in acts.items()}
    scale = 50 * MEGABYTE / (wide / "adapter_model.safetensors").stat().st_size
    took["load_per_50_megabytes"] = tuple(figure * scale for figure in took["load_per_50_megabytes"])
    return {f"{kind}milliseconds": {name: figures[place] for name, figures in took.items()}
            for place, kind in enumerate(("", "least_", "work_"))}


def _timed(act: Callable[[int], Any], times: int) -> tuple[float, float, float]:
    """Milliseconds: the median, the least, and the median of what this thread computed."""
    import torch

    took, work = [], []
    for turn in range(-1, times):
        began, worked = time.perf_counter(), time.thread_time()
        act(turn)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        if turn >= 0:  # the first one makes room
            took.append((time.perf_counter() - began) * 1e3)
            work.append((time.thread_time() - worked) * 1e3)
    return statistics.median(took), min(took), statistics.median(work)


def _goals(figures: dict[str, Any]) -> list[dict[str, Any]]:
    rows = {row["arm"]: row for row in figures["lanes"]}
    found = []
    for name, above, below, goal in RATIOS:
        ratios = [rows[above][figure] / rows[below][figure] for figure in ("milliseconds_per_step", "least", "work")]
        found.append(_judged(name, goal, *ratios))
    for name, figure, goal in MOVES:
        found.append(_judged(name, goal, *(figures[f"{kind}milliseconds"][figure] for kind in ("", "least_", "work_"))))
    return found


def _judged(name: str, goal: Goal, median: float, least: float, work: float) -> dict[str, Any]:
    return {"goal": name, "wanted": goal.wanted, "median": median, "least": least, "work": work,
            "reached": goal.is_reached(median)}


def _print(figures: dict[str, Any]) -> None:
    print(f"{figures['precision']}, {figures['torch_threads']} threads")
    print(table(["arm", "ms per step", "least", "work", "tokens/s", "first token, ms", "as PEFT"],
                [[row["arm"], *(f"{row[figure]:.2f}" for figure in ("milliseconds_per_step", "least", "work")),
                  f"{row['tokens_per_second']:.0f}", f"{row['first_token_milliseconds']:.1f}",
                  {None: "", True: "same", False: "differs"}[row["as_peft"]]] for row in figures["lanes"]]))
    if "agreement" in figures:
        print(Agreement(**figures["agreement"]).check().words)
    kinds = ("milliseconds", "least_milliseconds", "work_milliseconds")
    print(table(["", "ms", "least", "work"], [[name, *(f"{figures[kind][name]:.3f}" for kind in kinds)]
                                              for name in figures["milliseconds"]]))
    print(table(["goal", "wanted", "median", "least", "work", ""],
                [[one["goal"], one["wanted"], *(f"{one[kind]:.3f}" for kind in ("median", "least", "work")),
                  "reached" if one["reached"] else "missed"] for one in figures["goals"]]))


if __name__ == "__main__":
    sys.exit(main())
