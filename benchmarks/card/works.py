"""It works: a base saved and loaded; runs that are killed and resumed; adapters that answer; the base as it was."""

from __future__ import annotations

import math
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.card.agreement import agreement
from benchmarks.card.base import make_chats
from benchmarks.card.bench import ROOT, Bench, are_as_they_were, copied_weights, free_memory
from benchmarks.card.figure import FOUR_BITS, TRAINING, Check, Figure, Section

GIGABYTE = 1e9
QUESTION = "Where is the ship?"
METHOD_OF = {"bf16": "lora", "nf4": "qlora"}
SECONDS_BETWEEN_LOOKS = 0.05


def _made(bench: Bench) -> Iterator[Figure]:
    from phi3.models import base_facts

    began = time.monotonic()
    folder = bench.base()
    seconds, shards = time.monotonic() - began, list(folder.glob("*.safetensors"))
    size = sum(shard.stat().st_size for shard in shards) / GIGABYTE
    facts = base_facts(str(folder))
    yield Figure("base made and saved, or there already", round(seconds, 1), "s",
                 check=Check(f"{size:.2f} GB in {len(shards)} shards, its config names remote code",
                             len(shards) > 1 and "auto_map" in facts.config))


def _loaded(bench: Bench, precision: str) -> Iterator[Figure]:
    """In bf16 or in NF4, from shards."""
    import torch

    from phi3.models import load_base

    began = time.monotonic()
    base = load_base(str(bench.base()), precision)
    seconds = time.monotonic() - began
    with torch.inference_mode():
        logits = base.model(input_ids=torch.arange(10, 34, device=base.model.device)[None]).logits
    is_native = type(base.model).__module__.startswith("transformers.models.phi3.")
    is_clean = not any(name.startswith("transformers_modules") for name in sys.modules)
    yield Figure(f"loaded in {base.precision}", round(seconds, 1), "s",
                 check=Check("transformers' own class, no remote code, finite logits",
                             is_native and is_clean and bool(logits.isfinite().all())))


def _trained(bench: Bench, method: str) -> Iterator[Figure]:
    """A run that is killed after its first checkpoint, and goes on from it in another process."""
    from training.runs import Runs

    runs = Runs(bench.studio(method))
    run = _new_run(bench, runs, method)
    process = _trainer(run)
    _wait_for_checkpoint(run, process, bench)
    process.kill()
    process.wait()
    killed = run.state()
    runs.resume(run)
    code = _trainer(run).wait(timeout=max(1.0, bench.left()))
    if code:
        raise RuntimeError(f"The trainer ended with code {code}: {run.log()}")
    yield from _told(run, method, killed, bench)


def _new_run(bench: Bench, runs: Any, method: str) -> Any:
    from phi3.machine import this_machine
    from phi3.models import base_facts
    from training.config import RunConfig
    from training.data import read_data
    from training.presets import recommended

    facts = base_facts(str(bench.base()))
    config = RunConfig.from_settings({
        **recommended(facts.config, this_machine()), "base": facts.id, "method": method, "name": f"card-{method}",
        "max_steps": bench.steps, "eval_steps": 10**6, "save_steps": bench.size(10, 1), "held_out": 0.0,
        "max_length": bench.tokens(2047), "per_device_train_batch_size": bench.size(8, 4)})
    chats = make_chats(bench.work / "chats.jsonl", bench.tokens(350), rows=bench.size(400, 60))
    return runs.create(config, read_data(chats))


def _trainer(run: Any) -> subprocess.Popen:
    """As the page starts one, but in this part's group of processes, so that it ends with the part."""
    with (run.folder / "log.txt").open("ab") as log:
        return subprocess.Popen([sys.executable, "-m", "training", "lease", str(run.folder)], cwd=ROOT,
                                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)


def _wait_for_checkpoint(run: Any, process: subprocess.Popen, bench: Bench) -> None:
    while not any(event.type == "checkpointed" for event in run.events()):
        if process.poll() is not None:
            raise RuntimeError(f"The trainer ended with code {process.returncode} before its first checkpoint: "
                               f"{run.log()}")
        if bench.left() <= 0:
            raise TimeoutError("There was no checkpoint in time.")
        time.sleep(SECONDS_BETWEEN_LOOKS)


def _told(run: Any, method: str, killed: str, bench: Bench) -> Iterator[Figure]:
    """What the run's own events say."""
    course = run.course()
    end, steps = course[-1], [event for event in course if event.type == "step"]
    resumed = next((event for event in run.events() if event.type == "resumed"), None)
    losses = [event.values["loss"] for event in steps]
    words = f"{killed} when it was killed, resumed from {resumed.values['checkpoint'] if resumed else 'nothing'}"
    yield Figure(f"{method}: steps", end.step or 0, check=Check(
        words, killed == "interrupted" and bool(resumed and resumed.step) and end.type == "finished"
        and end.step == bench.steps))
    yield Figure(f"{method}: loss at the end", losses[-1], check=Check(
        f"from {losses[0]}, all finite", all(map(math.isfinite, losses)) and losses[-1] < losses[0]))
    yield Figure(f"{method}: memory at most", round(end.values["peak_bytes"] / GIGABYTE, 2),
                 f"GB (planned {end.values['planned_peak_bytes'] / GIGABYTE:.2f})")
    checked = end.values["check"]
    yield Figure(f"{method}: adapter", "looked over", note=checked["verdict"].replace(run.config.base, "the base"),
                 check=Check("adapters check, on the base", checked["ok"]))


def _answers(bench: Bench, precision: str) -> Iterator[Figure]:
    """The adapter that was trained: in stock PEFT, beside the base in the slots, and the base afterwards."""
    from adapters.library import Library
    from phi3.generate import Answerer, Lane, Sampling
    from phi3.models import load_base

    method = METHOD_OF[precision]
    folder = Library(bench.work / "studio" / method).get(f"card-{method}").folder
    base = load_base(str(bench.base()), precision)
    before, tokens = copied_weights(base.model), bench.size(64, 8)
    found = agreement(base, [Path(folder)], QUESTION, tokens)
    yield Figure(f"{method}: largest difference to stock PEFT", round(found.difference, 5), "deviations of the logits",
                 check=found.check())
    asked = [Lane(({"role": "user", "content": QUESTION},), adapter, Sampling(max_new_tokens=tokens))
             for adapter in (None, str(folder))]
    began = time.monotonic()
    *_, answers = Answerer(base).answer(asked)
    seconds = time.monotonic() - began
    yield Figure(f"{method}: base and adapter answered", round(seconds, 2), "s", check=Check(
        ", ".join(f"{answer.tokens} tokens, {answer.end}" for answer in answers),
        all(answer.end in ("stop", "length") for answer in answers)))
    yield Figure(f"{method}: the base's weights", "compared bit by bit", check=Check(
        "the same after PEFT and slots", are_as_they_were(before, base.model)))
    del base, before
    free_memory()


def _untouched(bench: Bench) -> Iterator[Figure]:
    """The files that both runs trained on, against what their adapters say of them."""
    from adapters.library import Library
    from phi3.models import base_facts

    revision = base_facts(str(bench.base())).revision
    named = [Library(bench.work / "studio" / method).get(f"card-{method}").provenance["base_revision"]
             for method in METHOD_OF.values() if (bench.work / "studio" / method).is_dir()]
    yield Figure("the base's files", f"sha256 {revision[:12]}", check=Check(
        f"as {len(named)} runs found them", bool(named) and set(named) == {revision}))


SECTIONS = (
    Section("base", _made),
    Section("load", partial(_loaded, precision="bf16")),
    Section("load in 4 bits", partial(_loaded, precision="nf4"), FOUR_BITS),
    Section("LoRA run", partial(_trained, method="lora"), TRAINING),
    Section("QLoRA run", partial(_trained, method="qlora"), (*TRAINING, *FOUR_BITS)),
    Section("LoRA answers", partial(_answers, precision="bf16"), TRAINING),
    Section("QLoRA answers", partial(_answers, precision="nf4"), (*TRAINING, *FOUR_BITS)),
    Section("base afterwards", _untouched, TRAINING),
)
