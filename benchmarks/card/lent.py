"""A lent card: the base is placed before a worker is forked, trains there turn by turn, is killed, and goes on."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.card.base import make_chats
from benchmarks.card.bench import Bench, are_as_they_were, copied_weights, on_card, wait_for_card
from benchmarks.card.figure import TRAINING, Check, Figure, Section
from benchmarks.goals import FIVE_MINUTES

NAME, QUESTION = "lent", "Where is the ship?"
SECONDS_BETWEEN_LOOKS = 0.05
MOST_TURNS = 12
VISIBLE = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class Placed:
    """The base in the memory of a process that sees no card; `visible` is what a worker may see, None where any."""

    base: Any
    visible: str | None

    def taken(self) -> Any:
        """In a worker: the base on the card, where there is one."""
        import torch

        os.environ.pop(VISIBLE, None)
        if self.visible is not None:
            os.environ[VISIBLE] = self.visible
        torch.set_num_threads(1)
        if on_card():
            self.base.model.to("cuda")
        return self.base


def _stand_in(bench: Bench) -> Iterator[Figure]:
    """What a ZeroGPU does, without its client: this process never sees the card, each worker is forked from it and
    moves the base to the card, the first one is killed without a warning, and the run goes on in the next.
    """
    with _card_hidden() as visible:
        placed = Placed(_base(bench), visible)
        before = copied_weights(placed.base.model)
        yield from _taken_in_turns(bench, placed)
        yield Figure("the placed base's weights", "compared bit by bit", check=Check(
            "the same after all workers", are_as_they_were(before, placed.base.model)))


def _taken_in_turns(bench: Bench, placed: Placed) -> Iterator[Figure]:
    began, run = time.monotonic(), _new_run(bench, placed.base.facts.id)
    killed = _killed_worker(bench, placed, run)
    yield Figure("worker killed after a checkpoint", round(time.monotonic() - began, 1), "s", check=Check(
        f"the run is {killed}, step {_saved(run)} is saved", killed == "interrupted" and _saved(run) > 0))
    turns = 1
    while run.state() not in ("finished", "failed") and turns < MOST_TURNS:
        _train_again(bench, placed, run)
        turns += 1
    end, rate = run.course()[-1], max(event.values.get("tokens_per_second", 0) for event in run.course())
    yield Figure("turns until the run was over", turns, check=Check(
        f"{run.state()} at step {end.step}", run.state() == "finished"))
    yield Figure("tokens in five minutes of such steps", round(300 * rate / 1e6, 4), "million", f"{rate:,} tokens/s",
                 FIVE_MINUTES)
    moved = _worker(bench, _move, placed, bench.work / "moved.json")
    yield Figure("base moved to the card in a worker", moved["seconds"], "s", moved["device"])
    said = _worker(bench, _answer, placed, bench.work / "answers.json", end.values["folder"], bench.size(32, 4))
    yield Figure("base and adapter answered in a worker", said["seconds"], "s", check=Check(
        ", ".join(f"{one['tokens']} tokens, {one['end']}" for one in said["answers"]),
        all(one["end"] in ("stop", "length") for one in said["answers"])))


@contextmanager
def _card_hidden() -> Iterator[str | None]:
    """This process sees no card, for one that has touched it can't fork another that uses it, and bitsandbytes touches
    it when it is imported; what the environment said before.
    """
    visible = os.environ.get(VISIBLE)
    os.environ[VISIBLE] = ""
    try:
        yield visible
    finally:
        del os.environ[VISIBLE]
        if visible is not None:
            os.environ[VISIBLE] = visible


def _base(bench: Bench) -> Any:
    """The base in this process's memory; all that is heavy is imported before the first fork."""
    import torch

    import training.train  # noqa: F401
    from phi3.models import load_base

    # A forked process that computes in threads after its parent did so waits for them for ever (as in app.py).
    torch.set_num_threads(1)
    return load_base(str(bench.base()), "bf16", "cpu")


def _new_run(bench: Bench, base: str) -> Any:
    from training.data import read_data
    from training.runs import Runs

    chats = make_chats(bench.work / "lent.jsonl", bench.tokens(350), rows=bench.size(200, 20))
    return Runs(bench.studio(NAME)).create(_config(bench, base, NAME), read_data(chats))


def _config(bench: Bench, base: str, name: str) -> Any:
    """A checkpoint comes long before the end, so that there is something left to go on with."""
    from phi3.models import base_facts
    from training.config import RunConfig
    from training.presets import rate_for

    facts = base_facts(base)
    return RunConfig.from_settings({
        "base": facts.id, "name": name, "learning_rate": rate_for(facts.shape.hidden), "bf16": True, "held_out": 0.0,
        "max_steps": bench.size(20, 2), "eval_steps": 10**6, "save_steps": bench.size(5, 1),
        "max_length": bench.tokens(2047), "per_device_train_batch_size": bench.size(8, 2)})


def _killed_worker(bench: Bench, placed: Placed, run: Any) -> str:
    """Fork a worker that trains, and kill it when there is a checkpoint; the run's state then."""
    worker = _forked(_train, bench, placed, run, 600)
    while worker.is_alive() and not any(event.type == "checkpointed" for event in run.events()):
        time.sleep(SECONDS_BETWEEN_LOOKS)
    worker.kill()
    worker.join()
    return run.state()


def _train_again(bench: Bench, placed: Placed, run: Any) -> None:
    """One more turn, as long as half of what is left; the worker's end is the turn's."""
    from training.runs import Runs

    Runs(run.home).resume(run)
    worker = _forked(_train, bench, placed, run, max(20, int(bench.left() / 2)))
    worker.join(max(1.0, bench.left()))
    if worker.is_alive():
        worker.kill()
        worker.join()
        raise TimeoutError(f"A worker trained beyond its time; the run is {run.state()}.")


def _train(bench: Bench, placed: Placed, run: Any, seconds: int) -> None:
    from training.lease import train_within

    train_within(placed.taken(), run, seconds)


def _move(bench: Bench, placed: Placed) -> dict[str, Any]:
    began = time.monotonic()
    base = placed.taken()
    wait_for_card()
    return {"seconds": round(time.monotonic() - began, 2), "device": str(base.model.device)}


def _answer(bench: Bench, placed: Placed, adapter: str, tokens: int) -> dict[str, Any]:
    from phi3.generate import Lane, Sampling
    from phi3.lending import answered_within

    base, began = placed.taken(), time.monotonic()
    lanes = [Lane(({"role": "user", "content": QUESTION},), one, Sampling(max_new_tokens=tokens))
             for one in (None, adapter)]
    *_, answers = answered_within(base, lanes, str(bench.work / "stop"), 120)
    return {"seconds": round(time.monotonic() - began, 2), "answers": [asdict(one) for one in answers]}


def _worker(bench: Bench, act: Callable[..., dict[str, Any]], placed: Placed, file: Path,
            *given: Any) -> dict[str, Any]:
    """What `act` says in a forked worker; it crosses back as a file."""
    file.unlink(missing_ok=True)
    worker = _forked(_written, bench, act, placed, file, given)
    worker.join(max(1.0, bench.left()))
    if worker.exitcode != 0:
        worker.kill()
        raise RuntimeError(f"A worker ended with {worker.exitcode} instead of an answer; the part's log says more.")
    return json.loads(file.read_text(encoding="utf-8"))


def _written(bench: Bench, act: Callable[..., dict[str, Any]], placed: Placed, file: Path, given: Any) -> None:
    file.write_text(json.dumps(act(bench, placed, *given)), encoding="utf-8")


def _forked(act: Callable[..., None], *given: Any) -> Any:
    worker = multiprocessing.get_context("fork").Process(target=act, args=given, daemon=True)
    worker.start()
    return worker


def _saved(run: Any) -> int:
    from training.lease import saved_step

    return saved_step(run)


def _app(bench: Bench) -> Iterator[Figure]:
    """The real app with the real client of ZeroGPU, as `tests/zerogpu.py` rehearses it: without its replacements where
    there is a card. A run is trained in turns that the app borrows.
    """
    from tests.zerogpu import Service, rehearsed
    from training.data import read_data
    from training.runs import Runs

    folder, began = bench.studio("app"), time.monotonic()
    chats = read_data(make_chats(bench.work / "app.jsonl", bench.tokens(350), rows=20))
    with rehearsed(folder, bench.base(), Service()) as app:
        yield Figure("the app with `spaces`: seconds to its page", round(time.monotonic() - began, 1), "s")
        run = Runs(app.home).create(_config(bench, str(bench.base()), "app"), chats)
        turns = 1
        while app.call("lease", run.id, "")["goes_on"] and turns < MOST_TURNS:
            turns += 1
        yield Figure("the app with `spaces`: turns", turns, check=Check(
            f"the run is {run.state()} at step {run.course()[-1].step}", run.state() == "finished"))


SECTIONS = (
    Section("stand-in", _stand_in, TRAINING),
    Section("the app with spaces", _app, (*TRAINING, "spaces", "gradio")),
)
